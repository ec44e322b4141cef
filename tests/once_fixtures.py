"""What is the same in all tests is done once: configuration files are parsed and merged, photographs are decoded.

A suite composes 3,000 configurations of the same files. A test gets a copy of what Hydra made of them at first; the
values of the command line are set anew.
"""

import copy
import io
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import pytest
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from omegaconf import DictConfig, OmegaConf

from faig_lab.config.messages import FOLDER
from faig_lab.data import photographs
from faig_lab.data.images import Pixels, decode_image


@pytest.fixture(scope="session", autouse=True)
def _parsed_once() -> Iterator[None]:
    parse, known = OmegaConf.load, dict[str, Any]()

    def load(file_: str | Path | IO[Any]) -> Any:
        if isinstance(file_, str | Path):
            with Path(file_).absolute().open(encoding="utf-8") as file:
                return load(file)
        text = file_.read()
        if text not in known:
            stream = io.StringIO(text)
            stream.name = getattr(file_, "name", "<file>")  # error messages have it
            found = parse(stream)
            if not isinstance(found, DictConfig):
                return found
            known[text] = OmegaConf.to_container(found)
        return OmegaConf.create(known[text])

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(OmegaConf, "load", staticmethod(load))
        yield


@pytest.fixture(scope="session", autouse=True)
def _merged_once() -> Iterator[None]:
    """Not where a test has configuration files of its own."""
    merge, known = ConfigLoaderImpl._compose_config_from_defaults_list, dict[str, DictConfig]()

    def merged(self: ConfigLoaderImpl, defaults: list[Any], repo: Any) -> DictConfig:
        if {source.path for source in repo.get_sources() if source.scheme() == "file"} != {str(FOLDER)}:
            return merge(self, defaults, repo)
        choices = repr(defaults)
        if choices not in known:
            known[choices] = merge(self, defaults, repo)
        return copy.deepcopy(known[choices])

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ConfigLoaderImpl, "_compose_config_from_defaults_list", merged)
        yield


@pytest.fixture(scope="session", autouse=True)
def _decoded_once() -> Iterator[None]:
    known = dict[bytes, Pixels]()

    def decoded(data: bytes, path: Path) -> Pixels:
        if data not in known:
            known[data] = decode_image(data, path)
        return known[data]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(photographs, "decode_image", decoded)
        yield
