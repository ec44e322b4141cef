"""`network=spandrel`: the settings of the network that only the weights files tell."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from faig_lab.config.messages import missing_path
from faig_lab.config.settings import Settings
from faig_lab.config.targets import check_node
from faig_lab.errors import UserError
from faig_lab.files import weights_file

SPANDREL = "faig_lab.filters.spandrel_network"
"""The `_target_` of `network=spandrel`."""


def with_detected_network(settings: Settings) -> Settings:
    """Fill in scale, architecture and file of `network=spandrel`; other networks stay as they are.

    Raises:
        UserError: one line: no file, spandrel is not installed, or the files are not one architecture and size.
    """
    if settings.network.get("_target_") != SPANDREL:
        return settings
    check_node(settings.network, "network")
    named = {
        "network.file": settings.network.get("file"),
        "baseline.weights": settings.baseline.weights,
        "target.weights": settings.target.weights,
    }
    if named["network.file"] is None and named["baseline.weights"] is None:
        raise UserError(
            "network: spandrel reads the architecture from a weights file; give baseline.weights=FILE (and "
            "target.weights=FILE, or the target is trained from the baseline)"
        )
    files = {key: weights_file(name, key) for key, name in named.items() if name is not None}
    for key, path in files.items():
        if not path.is_file():
            raise UserError(missing_path(key, path, "file"))
    return settings.model_copy(update={"network": _filled_in(settings.network, files)})


def _filled_in(node: Mapping[str, Any], files: Mapping[str, Path]) -> dict[str, Any]:
    from faig_lab.filters.foreign import detect, difference

    (first, path), *others = files.items()
    found = detect(path, first)
    for key, other in others:
        differs = difference(detect(other, key), found)
        if differs is not None:
            raise UserError(
                f"{key}: {other} {differs.format(other=f'{path} ({first})')}; both must be one architecture and size"
            )
    for name, own in (("scale", found.scale), ("architecture", found.architecture)):
        if node.get(name) not in (None, own):
            raise UserError(f"network.{name}: {node[name]}, but {path} ({first}) holds a {found.title}; nearest: {own}")
    return {**node, "scale": found.scale, "architecture": found.architecture, "file": str(path)}
