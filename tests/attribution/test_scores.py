"""Scores from integrals against plain loops, the bits of antisymmetry, and discovered filters."""

import pytest
import torch

from faig_lab.attribution import contrast, count_of, discovered, faig_scores, ranking, signed_share_scores


@pytest.mark.parametrize("degradations", [1, 2, 3, 4])
@pytest.mark.parametrize("over", ["mean", "max"])
def test_scores_are_those_of_plain_loops(degradations, over):
    single, change = torch.rand(5, degradations, 20).double(), -torch.rand(5, degradations).double()
    signed = single - 0.5
    share = signed.sum(0) / change.sum(0)[:, None]

    def rest(values, k):
        others = [values[..., i, :] for i in range(degradations) if i != k]
        if not others:
            return 0
        return sum(others) / len(others) if over == "mean" else torch.stack(others).amax(0)

    for k in range(degradations):
        torch.testing.assert_close(contrast(single, over)[:, k], single[:, k] - rest(single, k))
        # The maximum is taken image by image: another degradation may be the strongest in each image.
        expected = torch.stack([image[k] - rest(image, k) for image in single]).mean(0)
        torch.testing.assert_close(faig_scores(single, over)[k], expected)
        torch.testing.assert_close(signed_share_scores(signed, change, over)[k], share[k] - rest(share.abs(), k))


def test_two_degradations_are_antisymmetric_and_mean_and_maximum_the_same_to_the_last_bit():
    single, change = torch.rand(5, 2, 100, dtype=torch.float64), -torch.rand(5, 2, dtype=torch.float64)
    mean = faig_scores(single)
    assert torch.equal(contrast(single)[:, 0], single[:, 0] - single[:, 1])
    assert torch.equal(mean[0], -mean[1])
    assert not set(discovered(mean[0], 10).tolist()) & set(discovered(mean[1], 10).tolist())
    assert torch.equal(contrast(single, "max"), contrast(single, "mean"))
    assert torch.equal(faig_scores(single, "max"), mean)
    assert torch.equal(signed_share_scores(single, change, "max"), signed_share_scores(single, change, "mean"))


def test_without_a_change_of_the_loss_there_is_no_share():
    assert (signed_share_scores(torch.tensor([[[-1.0, -3.0]]]), torch.tensor([[0.0]])) == 0).all()


def test_ranking_descends_and_keeps_the_layouts_order_at_ties():
    assert ranking(torch.tensor([1.0, 3.0, 1.0, 3.0, 2.0])).tolist() == [1, 3, 4, 0, 2]


@pytest.mark.parametrize(
    ("percent", "filters", "count"),
    [(1, 12240, 122), (0.1, 12240, 12), (100, 7, 7), (0, 7, 0), (0.29, 10000, 29), (10, 151936, 15193), (0.01, 100, 0)],
)
def test_count_is_the_authors_floor(percent, filters, count):
    assert count_of(percent, filters) == count


def test_discovered_are_the_top_scores():
    assert discovered(torch.arange(200.0), 1).tolist() == [199, 198]
