"""Random numbers of samples from a counter: known answers, and what a sample's numbers depend on."""

import numpy as np
import pytest
import torch
from scipy import stats

from faig_lab.data import sample_rng
from faig_lab.data.degradations.draws import (
    SampleDraws,
    draw,
    draw_chosen,
    draw_each,
    draw_each_whole,
    draw_normal,
    draw_whole,
    philox,
)

CPU = torch.device("cpu")
PI_ANSWER = (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1)


def samples(numbers=range(4), seed=0, stream="target"):
    return SampleDraws(seed, stream, numbers, CPU)


@pytest.mark.parametrize(
    ("counter", "key", "expected"),
    [
        ((0, 0, 0, 0), (0, 0), (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
        ((0xFFFFFFFF,) * 4, (0xFFFFFFFF,) * 2, (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD)),
        ((0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344), (0xA4093822, 0x299F31D0), PI_ANSWER),
    ],
)
def test_philox_gives_the_known_answers(counter, key, expected):
    """Those of Random123, the authors' library."""
    words = philox(tuple(torch.tensor([word]) for word in counter), key)
    assert tuple(int(word) for word in words) == expected


def test_a_samples_numbers_do_not_depend_on_the_batch():
    whole, part = samples(range(10)), samples([7, 3])
    for _ in range(2):  # the first draw and the second one
        np.testing.assert_array_equal(whole.uniform(5)[[7, 3]], part.uniform(5))
        assert torch.equal(whole.normal((2, 3))[[7, 3]], part.normal((2, 3)))


def test_seed_stream_number_draw_and_part_each_give_other_numbers():
    first = samples()
    found = [first.uniform(3), first.uniform(3), first.of("blur", range(4)).uniform(3)]
    found += [samples(seed=1).uniform(3), samples(stream="baseline").uniform(3), samples(range(4, 8)).uniform(3)]
    found.append(samples([n + 2**32 for n in range(4)]).uniform(3))
    assert len(np.unique(np.concatenate(found))) == 7 * 12


def test_numbers_are_uniform_and_normal():
    uniform, normal = samples(range(5000)).uniform(3), samples(range(500)).normal((3, 7, 5)).double()
    assert 0 < uniform.min() < uniform.max() < 1
    np.testing.assert_allclose(np.histogram(uniform, 10, (0, 1))[0] / uniform.size, 0.1, atol=0.01)
    assert normal.shape == (500, 3, 7, 5)
    for power, moment in ((1, 0), (2, 1), (3, 0), (4, 3)):
        assert float((normal**power).mean()) == pytest.approx(moment, abs=0.08)
    flat = normal.view(500, -1)
    assert float(torch.corrcoef(flat.T).fill_diagonal_(0).abs().max()) < 0.25  # 1/√500 = 0.045, of 5460 pairs


def test_as_a_sequence_it_holds_generators_that_go_on():
    draws = samples([5, 9])
    one, two = draws
    assert (one.random(), two.random()) == tuple(sample_rng(0, "target", n).random() for n in (5, 9))
    assert draws[0] is one
    assert draws[:] == [one, two]
    assert draws.of("blur", [1])[0].random() == sample_rng(0, "target/blur", 9).random()


def test_a_number_that_comes_twice_has_the_same_numbers_twice():
    draws = samples([5, 9, 5])
    rows, (first, _, again) = draws.uniform(2), draws
    np.testing.assert_array_equal(rows[0], rows[2])
    assert first.random() == again.random()
    assert draws[-1] is again
    assert draws[::2] == [first, again]


def test_a_generator_is_a_pure_function_of_seed_stream_and_index():
    arguments = [
        (seed, stream, *index)
        for seed in (0, 1, 2**32 - 1)
        for stream in ("target", "baseline", "target/patch")
        for index in ((0,), (1,), (2**31,), (0, 1), (1, 1))
    ]
    first, again = ([float(sample_rng(*given).random()) for given in arguments] for _ in range(2))
    assert first == again
    assert len(set(first)) == len(arguments)


def test_values_are_drawn_for_each_sample_by_any_source():
    rngs, again = ([sample_rng(0, "a", n) for n in range(3)] for _ in range(2))
    assert draw_each((1.0, 2.0), rngs) == [draw((1.0, 2.0), rng) for rng in again]
    assert draw_each_whole((1, 9), rngs) == [draw_whole((1, 9), rng) for rng in again]
    assert draw_chosen(0.5, rngs).tolist() == [rng.random() < 0.5 for rng in again]
    noise = np.stack([rng.standard_normal((2, 2), dtype=np.float32) for rng in again])
    like = torch.zeros(1, dtype=torch.float64)
    assert torch.equal(draw_normal((2, 2), rngs, like), torch.from_numpy(noise).double())


def test_a_number_or_a_share_of_zero_takes_no_random_number():
    rngs = [sample_rng(0, "a", n) for n in range(3)]
    for source in (rngs, samples()):
        assert draw_each(3.0, source) == [3.0] * len(source)
        assert draw_each_whole(3, source) == [3] * len(source)
        assert not draw_chosen(0.0, source).any()
    assert (draw(2, rngs[0]), draw_whole(30, rngs[0])) == (2.0, 30)
    assert [rng.random() for rng in rngs] == [sample_rng(0, "a", n).random() for n in range(3)]


@pytest.mark.parametrize("source", [samples(range(4000)), [sample_rng(0, "range", n) for n in range(4000)]], ids=type)
def test_ranges_are_filled_uniformly(source):
    values, whole = np.array(draw_each((2.0, 6.0), source)), np.array(draw_each_whole((3, 5), source))
    assert 2 <= values.min() < 2.01 < 5.99 < values.max() <= 6
    assert stats.kstest(values, stats.uniform(2, 4).cdf).pvalue > 1e-3
    np.testing.assert_allclose(np.bincount(whole)[3:] / 4000, 1 / 3, atol=0.03)
    assert set(whole) == {3, 4, 5}
    assert draw_each((2.0, 2.0), source) == [2.0] * 4000
    assert draw_chosen(0.25, source).mean() == pytest.approx(0.25, abs=0.03)
