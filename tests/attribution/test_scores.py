import pytest
import torch

from faig_lab.attribution import contrast, count_of, discovered, faig_scores, ranking, signed_share_scores


def test_contrast_of_two_degradations_is_antisymmetric_to_the_last_bit():
    single = torch.rand(5, 2, 100, dtype=torch.float64)
    scores = contrast(single)
    assert torch.equal(scores[:, 0], -scores[:, 1])
    assert torch.equal(scores[:, 0], single[:, 0] - single[:, 1])
    mean = faig_scores(single)
    assert torch.equal(mean[0], -mean[1])
    assert not set(discovered(mean[0], 10).tolist()) & set(discovered(mean[1], 10).tolist())


def test_contrast_of_three_is_against_the_mean_of_the_others():
    single = torch.tensor([[5.0, 1.0], [2.0, 4.0], [1.0, 1.0]])
    expected = torch.tensor([[3.5, -1.5], [-1.0, 3.0], [-2.5, -1.5]])
    torch.testing.assert_close(contrast(single), expected)


def test_contrast_of_three_can_be_against_the_maximum_of_the_others():
    single = torch.tensor([[5.0, 1.0], [2.0, 4.0], [1.0, 1.0]])
    assert torch.equal(contrast(single, "max"), torch.tensor([[3.0, -3.0], [-3.0, 3.0], [-4.0, -3.0]]))


def test_mean_and_maximum_of_one_other_are_the_same_to_the_last_bit():
    single, change = torch.rand(5, 2, 100, dtype=torch.float64), -torch.rand(5, 2, dtype=torch.float64)
    assert torch.equal(contrast(single, "max"), contrast(single, "mean"))
    assert torch.equal(faig_scores(single, "max"), faig_scores(single, "mean"))
    signed = signed_share_scores(single, change, "max")
    assert torch.equal(signed, signed_share_scores(single, change, "mean"))
    share = single.sum(0) / change.sum(0)[:, None]
    assert torch.equal(signed[0], share[0] - share[1].abs())


def test_the_maximum_of_the_others_is_taken_image_by_image():
    """Another degradation is the strongest in each image; the maximum of the means would be 2."""
    magnitude = torch.tensor([[[5.0], [4.0], [0.0]], [[5.0], [0.0], [4.0]]])
    assert faig_scores(magnitude, "max")[0].item() == 1
    assert faig_scores(magnitude, "mean")[0].item() == 3


def test_signed_share_against_the_maximum_of_the_others():
    signed, change = torch.tensor([[[-4.0], [1.0], [-3.0]]]), torch.tensor([[-4.0, -4.0, -4.0]])
    assert signed_share_scores(signed, change, "max").flatten().tolist() == [0.25, -1.25, -0.25]
    assert signed_share_scores(signed, change).flatten().tolist() == [0.5, -1.125, 0.125]


def test_one_degradation_has_nothing_to_contrast_with():
    single = torch.rand(3, 1, 7)
    assert torch.equal(contrast(single), single)
    assert torch.equal(contrast(single, "max"), single)


def test_faig_is_the_mean_over_images():
    magnitude = torch.tensor([[[1.0], [0.0]], [[3.0], [2.0]]])
    torch.testing.assert_close(faig_scores(magnitude), torch.tensor([[1.0], [-1.0]]))


def test_signed_share_by_hand():
    """Two images, two degradations, three filters; shares are of the summed loss change."""
    signed = torch.tensor([[[-4.0, -1.0, 0.0], [-1.0, 1.0, -2.0]], [[-2.0, -1.0, 0.0], [-1.0, 1.0, -2.0]]])
    change = torch.tensor([[-6.0, -4.0], [-4.0, -4.0]])
    share = torch.tensor([[0.6, 0.2, 0.0], [0.25, -0.25, 0.5]])
    expected = torch.stack([share[0] - share[1].abs(), share[1] - share[0].abs()])
    torch.testing.assert_close(signed_share_scores(signed, change), expected)


def test_signed_share_with_one_degradation_and_without_change():
    signed = torch.tensor([[[-1.0, -3.0]]])
    torch.testing.assert_close(signed_share_scores(signed, torch.tensor([[-4.0]])), torch.tensor([[0.25, 0.75]]))
    assert (signed_share_scores(signed, torch.tensor([[0.0]])) == 0).all()


def test_ranking_descends_and_keeps_the_layouts_order_at_ties():
    assert ranking(torch.tensor([1.0, 3.0, 1.0, 3.0, 2.0])).tolist() == [1, 3, 4, 0, 2]


@pytest.mark.parametrize(
    ("percent", "filters", "count"),
    [
        (1, 12240, 122),
        (0.1, 12240, 12),
        (100, 7, 7),
        (0, 7, 0),
        (0.29, 10000, 29),
        (10, 151936, 15193),
        (0.01, 100, 0),
    ],
)
def test_count_is_the_authors_floor(percent, filters, count):
    assert count_of(percent, filters) == count


def test_discovered_are_the_top_scores():
    scores = torch.arange(200.0)
    assert discovered(scores, 1).tolist() == [199, 198]
