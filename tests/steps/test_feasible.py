"""Whether the machine has what attribution asks for is known, and said, before anything is trained."""

import logging

import pytest
import torch

from faig_lab.config import check, compose
from faig_lab.data import CLEAN, PairedImage, StudyData
from faig_lab.errors import UserError
from faig_lab.steps.feasible import check_compiler, check_memory

SMALL = ("+experiment=blur_noise", "network.features=4", "network.blocks=1")


def data(*sides):
    images = [(torch.rand(3, 2 * side, 2 * side), torch.rand(3, side, side)) for side in sides]
    probe = tuple(PairedImage(f"{i}", hr, {CLEAN: lr, "blur": lr, "noise": lr}) for i, (hr, lr) in enumerate(images))
    return StudyData([], probe, probe[:1], ("blur", "noise"))


def settings(memory, *more):
    return check(compose([*SMALL, f"attribution.memory={memory}", *more]))


def test_images_that_fit_are_not_spoken_of(caplog):
    with caplog.at_level(logging.INFO):
        check_memory(settings(3), data(32, 100))
        check_memory(settings("null"), data(100))
    assert not caplog.records


def test_images_that_are_cut_are_named_once_for_each_size(caplog):
    with caplog.at_level(logging.INFO):
        check_memory(settings(0.002), data(48, 100, 100, 160))
    assert [record.getMessage().split(" for each ")[1] for record in caplog.records] == [
        "probe image of 200×200 HR pixels",
        "probe image of 320×320 HR pixels",
    ]


def test_a_network_that_cannot_be_cut_is_refused():
    two_branch = ("network=two_branch_small", "network.features=4", "network.blocks=1")
    with pytest.raises(UserError, match=r"^attribution\.memory: 0\.004 GB .* TwoBranchSRResNet"):
        check_memory(settings(0.004, *two_branch), data(160))


def test_a_missing_compiler_is_named(monkeypatch):
    monkeypatch.setenv("CXX", "no-such-compiler")
    check_compiler(settings(3))
    with pytest.raises(UserError, match=r"^attribution\.compile: .*no no-such-compiler here; .*compile=null$"):
        check_compiler(settings(3, "attribution.compile=default", "trainer=cpu"))
