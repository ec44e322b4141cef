"""What a study's data refuses to be."""

import pytest
import torch

from faig_lab.data import PairedImage, StudyData


def image(name: str = "a", scale: int = 2, **inputs: torch.Tensor) -> PairedImage:
    lr = torch.zeros(3, 4, 5)
    return PairedImage(name, torch.zeros(3, scale * 4, scale * 5), {"clean": lr, "blur": lr, **inputs})


def test_scale() -> None:
    assert image(scale=3).scale == 3


@pytest.mark.parametrize("shape", [(3, 9, 10), (3, 8, 15), (1, 8, 10), (3, 2, 2)])
def test_hr_is_a_multiple_of_lr(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="is no multiple of LR 4×5"):
        PairedImage("a", torch.zeros(shape), {"clean": torch.zeros(3, 4, 5)})


def test_inputs_have_one_shape_and_clean_is_among_them() -> None:
    with pytest.raises(ValueError, match=r"input noise is \(3, 4, 4\)"):
        image(noise=torch.zeros(3, 4, 4))
    with pytest.raises(ValueError, match="no 'clean' among"):
        PairedImage("a", torch.zeros(3, 8, 8), {"blur": torch.zeros(3, 4, 4)})


@pytest.mark.parametrize(
    ("probe", "held_out", "message"),
    [
        ((), (image(),), "there is no probe image"),
        ((image(),), (), "there is no held-out image"),
        ((image("a"), image("a")), (image(),), "two probe images have one name"),
        ((image("a"), image("b", scale=3)), (image(),), "differ in scale or inputs"),
        (
            (image(),),
            (PairedImage("c", torch.zeros(3, 2, 2), {"clean": torch.zeros(3, 1, 1)}),),
            "no input for",
        ),
    ],
)
def test_sets_are_complete(probe: tuple[PairedImage, ...], held_out: tuple[PairedImage, ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        StudyData((), probe, held_out, ("blur",))
