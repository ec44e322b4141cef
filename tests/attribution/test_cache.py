"""Sums of probe images that a killed attribution left are used again, to the last bit."""

import pickle
from dataclasses import fields, replace

import pytest
import torch
from attribution_case import random_image, random_pair

from faig_lab.attribution import ALONE, Adaptive, Compute, ResultCache, Shard, quadrature
from faig_lab.attribution.methods import faig, input_gradients, taylor
from faig_lab.networks import SRResNet


class Killed(BaseException):
    pass


@pytest.fixture
def problem():
    torch.manual_seed(0)
    probe = tuple(random_image(seed) for seed in range(3))
    return random_pair(SRResNet(features=4, blocks=1), probe=probe, rule=quadrature("left", 3))


def again(problem, folder=None, **changes):
    """The same problem with nothing in memory."""
    return replace(problem, cache=ResultCache(folder), **changes)


def values(integral):
    """Every tensor of a ProbeIntegral; NaN, which equals nothing, as a number."""
    return [
        v.double().nan_to_num(7) for f in fields(integral) if isinstance(v := getattr(integral, f.name), torch.Tensor)
    ]


def same(some, other):
    return all(torch.equal(a, b) for a, b in zip(values(some), values(other), strict=True))


def killed_after(images):
    """Progress that ends everything when so many images are finished."""
    told = []

    def progress(what):
        told.append(what)
        if len(told) == images * 2:
            raise Killed

    return progress


@pytest.mark.parametrize("rule", [quadrature("gauss_legendre", 3), Adaptive(9, 0.5, 10)])
@pytest.mark.parametrize("images", [1, 2])
def test_a_killed_integral_goes_on_to_the_same_bits(problem, tmp_path, rule, images):
    whole = again(problem, rule=rule).integral
    with pytest.raises(Killed):
        _ = again(problem, tmp_path, rule=rule, progress=killed_after(images)).integral
    assert len(list(tmp_path.iterdir())) == images
    resumed = again(problem, tmp_path, rule=rule)
    assert same(resumed.integral, whole)
    assert resumed.cache.recalled == images
    assert len(list(tmp_path.iterdir())) == 3


def test_nothing_is_computed_that_is_kept(problem, tmp_path, monkeypatch):
    first = again(problem, tmp_path)
    scores = faig(first), input_gradients(first)
    monkeypatch.setattr(torch.autograd, "grad", lambda *_, **__: pytest.fail("a gradient was computed"))
    second = again(problem, tmp_path)
    assert torch.equal(faig(second), scores[0])
    assert torch.equal(input_gradients(second), scores[1])


def test_killed_input_gradients_go_on_to_the_same_bits(problem, tmp_path):
    whole = input_gradients(again(problem))
    with pytest.raises(Killed):
        input_gradients(again(problem, tmp_path, progress=killed_after(2)))
    assert torch.equal(input_gradients(again(problem, tmp_path)), whole)


CHANGES = {
    "target": lambda p: {"target": {n: v * 1.0001 for n, v in p.target.items()}},
    "baseline": lambda p: {"baseline": {n: v * 1.0001 for n, v in p.baseline.items()}},
    "image": lambda p: {"probe": tuple(replace(i, hr=i.hr * 0.999) for i in p.probe)},
    "LR": lambda p: {"probe": tuple(replace(i, lr={n: x * 0.999 for n, x in i.lr.items()}) for i in p.probe)},
    "rule": lambda p: {"rule": quadrature("right", 3)},
    "points": lambda p: {"rule": quadrature("left", 4)},
    "degradations": lambda p: {"degradations": ("noise", "blur")},
    "compute": lambda p: {"compute": Compute(autocast=torch.bfloat16)},
    "precision": lambda p: {n: {k: v.double() for k, v in getattr(p, n).items()} for n in ("baseline", "target")},
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_whatever_changes_the_result_is_computed_anew(problem, tmp_path, change):
    _ = again(problem, tmp_path).integral
    other = again(problem, tmp_path, **change(problem))
    assert same(other.integral, again(problem, **change(problem)).integral)
    assert other.cache.recalled == 0


def test_a_problem_made_of_another_has_the_same_cache_and_has_computed_nothing(problem, tmp_path):
    first = again(problem, tmp_path)
    _ = first.integral
    second = replace(first, progress=None)
    assert not second.is_integrated
    assert same(second.integral, first.integral)
    assert second.cache.recalled == 3
    other = replace(first, target={n: v * 1.0001 for n, v in problem.target.items()})
    assert not same(other.integral, first.integral)
    assert second.cache.recalled == 3


def test_a_problem_alone_has_what_the_processes_computed_together(problem, tmp_path):
    class Other(Shard):
        """The other process's part is in the cache of this one."""

        def total(self, values):
            return values

    shared = replace(again(problem, tmp_path), shard=Other(0, 2))
    _, scores = shared.integral, taylor(shared)
    alone = shared.alone()
    assert (alone.shard, alone.cache.folder, alone.costs) == (ALONE, None, shared.costs)
    assert alone.integral is shared.integral
    assert torch.equal(taylor(alone), scores)
    assert not replace(alone).is_integrated


@pytest.mark.parametrize("content", [b"", b"half of it", pickle.dumps(ResultCache)])
def test_what_cannot_be_read_is_computed_again(tmp_path, caplog, content):
    (tmp_path / "x.pt").write_bytes(content)
    cache = ResultCache(tmp_path)
    assert cache("x", lambda: {"a": 1.5}) == {"a": 1.5}
    assert "computed again" in caplog.text
    assert cache("x", lambda: pytest.fail("it was kept")) == {"a": 1.5}


def test_what_cannot_be_written_is_said_once(tmp_path, caplog):
    (tmp_path / "file").write_text("")
    cache = ResultCache(tmp_path / "file")
    assert [cache(name, lambda: 3) for name in ("x", "y", "z")] == [3, 3, 3]
    warnings = [record for record in caplog.records if record.levelname == "WARNING"]
    assert [record.getMessage().startswith("not kept for a resumption: ") for record in warnings] == [True]


@pytest.mark.parametrize("folder", [None, "run.partial"])
def test_what_is_done_leaves_nothing(tmp_path, folder):
    cache = ResultCache(folder and tmp_path / folder)
    assert cache("x", lambda: 3) == 3
    assert len(list(tmp_path.iterdir())) == (folder is not None)
    cache.discard()
    assert list(tmp_path.iterdir()) == []
