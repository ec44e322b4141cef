"""The attribution knows no settings: its messages name arguments, and the command line's table has their keys."""

import ast
import re
from pathlib import Path

import pytest

import faig_lab.attribution
from faig_lab.cli.arguments import compose
from faig_lab.config import Settings, check
from faig_lab.config.messages import ATTRIBUTION

FILES = sorted(Path(faig_lab.attribution.__file__).parent.glob("*.py"))
SETTING = re.compile(rf"\b({'|'.join(Settings.model_fields)})\.[a-z_]+|^(run|resume): ")


def texts(path):
    """Every string of a module that is not a docstring."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    bare = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    strings = (node for node in ast.walk(tree) if isinstance(node, ast.Constant) and id(node) not in bare)
    return [node.value for node in strings if isinstance(node.value, str)]


def test_no_message_names_a_setting():
    found = [text for path in FILES for text in texts(path)]
    assert not [text for text in found if SETTING.search(text)]
    assert SETTING.search("more than attribution.memory ")
    assert SETTING.search("run: is damaged")


@pytest.mark.parametrize("key", ATTRIBUTION.values())
def test_the_keys_are_settings(key):
    value = check(compose([])).model_dump()
    for name in key.split("."):
        assert name in value
        value = value[name]


def test_each_argument_that_a_message_names_has_a_key():
    mentions = {name for path in FILES for text in texts(path) for name in re.findall(r"`(\w+)`", text)}
    assert mentions <= ATTRIBUTION.keys()
    assert {"rule", "images", "granularity"} <= mentions
