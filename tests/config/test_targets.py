"""Nodes against signatures, on stand-ins with every kind of parameter."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from faig_lab.config.targets import build, check_arguments, check_node, find
from faig_lab.errors import UserError


class Plain:
    def __init__(self, size: int, names: Sequence[str] = (), where: Path | None = None) -> None:
        if size < 1:
            raise ValueError(f"size must be > 0, not {size}")


def pair(betas: tuple[float, float], rate: float | torch.Tensor = 0.1, *, flag: bool = False) -> None: ...


def open_ended(known: int = 0, **others: Any) -> None: ...


def unknowable(value: "NotImported" = None) -> None: ...  # type: ignore[name-defined]  # noqa: F821


@pytest.mark.parametrize(
    ("target", "arguments", "wrong"),
    [
        (Plain, {"size": 3, "names": ["a"], "where": "somewhere"}, {"where": 3}),
        (Plain, {"size": 3, "where": None}, {"names": None}),
        (pair, {"betas": [0.9, 1], "rate": 1}, {"rate": None}),
        (pair, {"betas": [0.9, 0.99], "flag": True}, {"betas": [0.9, 0.99, 0.999]}),
        (open_ended, {"anything": [1]}, {"known": None}),
        (unknowable, {"value": 3}, {"values": 3}),
    ],
)
def test_fitting_arguments_pass_and_a_wrong_one_among_them_does_not(
    target: Any, arguments: dict[str, Any], wrong: dict[str, Any]
) -> None:
    check_arguments(target, arguments, "key")
    with pytest.raises(UserError, match=rf"^key\.{next(iter(wrong))}: "):
        check_arguments(target, arguments | wrong, "key")


@pytest.mark.parametrize(
    ("target", "arguments", "message"),
    [
        (Plain, {}, "key.size: missing; Plain needs it"),
        (Plain, {"size": "3"}, 'key.size: expected a whole number, not "3"'),
        (Plain, {"size": None}, "key.size: a value is required"),
        (Plain, {"size": 1, "names": [2]}, "key.names.0: expected text, not 2"),
        (Plain, {"size": 1, "nmaes": []}, "key.nmaes: unknown key of Plain; did you mean names?"),
        (pair, {"betas": [0.9]}, "key.betas"),
        (pair, {"betas": [0.9, 0.99], "rate": "fast"}, "key.rate"),
        (pair, {"betas": [0.9, 0.99], "flag": 1}, "key.flag: expected true or false, not 1"),
        (open_ended, {"known": 0.5}, "key.known: expected a whole number, not 0.5"),
    ],
)
def test_arguments_that_do_not_fit(target: Any, arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError) as caught:
        check_arguments(target, arguments, "key")
    assert str(caught.value).startswith(message)


def test_partial_may_leave_arguments_to_code() -> None:
    node = {"_target_": "torch.optim.Adam", "betas": [0.9, 0.99]}
    check_node(node | {"_partial_": True}, "optimizer")
    with pytest.raises(UserError, match=r"^optimizer\.params: missing"):
        check_node(node, "optimizer")


def test_nodes_within_nodes() -> None:
    inner = {"_target_": "torch.nn.L1Loss", "redution": "sum"}
    with pytest.raises(UserError, match=r"^key\.rate\.redution: unknown key of L1Loss; did you mean reduction"):
        check_arguments(pair, {"betas": [1, 2], "rate": inner}, "key")


def test_build_names_the_argument_that_was_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.nn, "Plain", Plain, raising=False)
    with pytest.raises(UserError, match=r"^key\.size: must be > 0, not 0$"):
        build({"_target_": "torch.nn.Plain", "size": 0}, "key")


def test_find_reports_an_import_that_fails_inside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "broken_plugin.py").write_text("import a_package_that_is_not_installed\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(UserError, match="importing broken_plugin failed: No module named 'a_package_that"):
        find({"_target_": "broken_plugin.Network"}, "network")
