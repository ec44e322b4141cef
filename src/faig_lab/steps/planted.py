"""The true sets of a planted target: kept beside the scores, and compared with what given weights say."""

from pathlib import Path

import yaml

from faig_lab.build import make_planted_sets
from faig_lab.config import Settings
from faig_lab.errors import UserError
from faig_lab.files import weights_file, write_json


def save_planted(settings: Settings, folder: Path) -> None:
    """Write planted.json: degradation → flat indices of its true filters; nothing if the target is not planted."""
    sets = make_planted_sets(settings)
    if sets is not None:
        write_json(folder / "planted.json", {name: filters.tolist() for name, filters in sets.items()})


def check_planted(settings: Settings) -> None:
    """Refuse given target weights that were not planted with these settings and this seed.

    Raises:
        UserError: the description beside the weights file says something else, or there is none.
    """
    weights, planted = settings.target.weights, settings.target.model_dump()["planted"]
    if weights is None or planted is None:
        return
    beside = weights_file(weights).with_suffix(".yaml")
    try:
        described = yaml.safe_load(beside.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError):
        described = None
    known = described if isinstance(described, dict) else {}
    if (known.get("planted"), known.get("seed")) != (planted, settings.seed):
        raise UserError(
            f"target.planted: {beside} does not say that these weights were planted so, with seed {settings.seed}; "
            "leave target.weights out to train them, or target.planted=null"
        )
