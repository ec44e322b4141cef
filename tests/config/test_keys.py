"""The library's errors name arguments, and the command line's name keys."""

import pickle

import pytest

from faig_lab.config.keys import in_keys, with_keys
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


def test_without_a_key_the_argument_keeps_its_name() -> None:
    with pytest.raises(UserError, match=r"^points: must be > 0$"), with_keys(KEYS):
        raise InputError("points", "must be > 0")


def test_the_innermost_context_translates() -> None:
    with pytest.raises(UserError, match=r"^inner\.memory: no$"), with_keys(KEYS), with_keys({"memory": "inner.memory"}):
        raise InputError("memory", "no")


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


def test_text_in_keys() -> None:
    assert in_keys("`memory`, `memory` and `x`", KEYS) == "attribution.memory, attribution.memory and `x`"
