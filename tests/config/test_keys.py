"""The library's errors name arguments, and the command line's name keys."""

import pickle
from pathlib import Path

import pytest

from faig_lab.cli.arguments import compose
from faig_lab.cli.build import load_data, make_degradation
from faig_lab.config import check
from faig_lab.config.messages import keys_below, with_keys
from faig_lab.errors import InputError, UserError

KEYS = {"memory": "attribution.memory", "images": "the images (data.probe_crop)"}


def test_an_argument_becomes_its_key_and_so_does_each_argument_that_the_message_names() -> None:
    with pytest.raises(UserError) as caught, with_keys(KEYS):
        raise InputError("memory", "too little; crop `images`, or raise `memory`; `other` stays")
    line = (
        "attribution.memory: too little; crop the images (data.probe_crop), or raise attribution.memory; `other` stays"
    )
    assert str(caught.value) == line
    assert not isinstance(caught.value, InputError)
    assert isinstance(caught.value.__cause__, InputError)


def test_the_innermost_context_that_has_a_key_translates() -> None:
    with pytest.raises(UserError, match=r"^points: must be > 0$"), with_keys(KEYS):
        raise InputError("points", "must be > 0")  # without a key the argument keeps its name
    with pytest.raises(UserError, match=r"^inner\.memory: no$"), with_keys(KEYS), with_keys({"memory": "inner.memory"}):
        raise InputError("memory", "no")
    line = r"^attribution\.memory: more, or lower training\.patch_size$"
    with pytest.raises(UserError, match=line), with_keys(KEYS), with_keys({"patch_size": "training.patch_size"}):
        raise InputError("memory", "more, or lower `patch_size`")


def test_other_errors_pass_through() -> None:
    for error in (UserError("memory: `memory`"), ValueError("memory: `memory`")):
        with pytest.raises(type(error)) as caught, with_keys(KEYS):
            raise error
        assert caught.value is error


def test_an_input_error_is_a_value_error_in_the_words_of_the_caller_and_survives_pickling() -> None:
    error = pickle.loads(pickle.dumps(InputError("memory", "no")))
    # It is a UserError too: an error that nobody translates is still one line for the user.
    assert issubclass(InputError, ValueError)
    assert issubclass(InputError, UserError)
    assert (str(error), error.argument, error.message) == ("memory: no", "memory", "no")


def test_a_part_of_an_argument_has_the_key_of_the_argument() -> None:
    keys = keys_below("data", ("train", "lr_dirs"))
    assert keys == {"train": "data.train", "lr_dirs": "data.lr_dirs"}
    line = r"^data\.train\.size: correct data\.train\.size, data\.lr_dirs\.blur\+noise or `other\.size`; or null$"
    with pytest.raises(UserError, match=line), with_keys(keys):
        raise InputError("train.size", "correct `train.size`, `lr_dirs.blur+noise` or `other.size`; or `None`")


def refusal(*overrides: str) -> str:
    settings = check(compose(["trainer=cpu", *overrides]))
    with pytest.raises(UserError) as caught:
        load_data(settings, make_degradation(settings))
    return str(caught.value)


def test_the_errors_of_data_sources_name_their_keys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The source, the nested node, a folder within an argument, and the choice of another source."""
    monkeypatch.setattr("faig_lab.data.div2k.time.sleep", lambda seconds: None)
    folder, weights = tmp_path / "images", tmp_path / "x.pth"
    folder.mkdir()
    weights.touch()
    div2k = ["data=div2k", f"data.root={tmp_path}", "data.base_url=http://127.0.0.1:9"]
    assert refusal(*div2k).startswith("data.train: http://127.0.0.1:9/DIV2K_train_HR.zip: ")
    assert refusal(*div2k).endswith("or set data.base_url to a mirror")
    (tmp_path / "DIV2K_train_HR.zip").write_bytes(b"no zip")
    assert refusal(*div2k).endswith("or correct data.train.size")
    paired = ["data=paired", f"data.hr_dir={folder}", f"baseline.weights={weights}", f"target.weights={weights}"]
    paired += [f"data.lr_dirs.blur={folder}", f"data.test_hr_dir={folder}"]
    line = "data.test_lr_dirs: no degradation given; add e.g. data.test_lr_dirs.blur=path/to/images"
    assert refusal(*paired) == line
    line = "data.test_lr_dirs.blur: no folder given, but data.lr_dirs.blur has one"
    assert refusal(*paired, f"data.test_lr_dirs.noise={folder}") == line
    monkeypatch.setattr("importlib.util.find_spec", lambda module: None)
    assert refusal().endswith("(pip install --force-reinstall scikit-image) or use data=folder")


def test_what_a_source_refuses_to_be_made_of_names_its_keys() -> None:
    with pytest.raises(UserError, match=r"^data\.probe_crop: 8 HR pixels is too small; at least 16, or null$"):
        check(compose(["data.probe_crop=8"]))
