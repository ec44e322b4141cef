"""A run that ranks channels or layers is spoken of in their name, in text, page and figure."""

from pathlib import Path

import pytest
from matplotlib.figure import Figure
from matplotlib.text import Text

from faig_lab.granularity import UNITS
from faig_lab.reporting.run_files import RunFiles
from faig_lab.reporting.units import MEANINGS, meaning, ranked_notes, spoken, spoken_figure, spoken_page


def run_of(granularity=None, layers=()):
    layout = {} if granularity is None else {"granularity": granularity, "layers": list(layers)}
    return RunFiles(Path("run"), {}, {}, {}, layout, {}, {})


@pytest.mark.parametrize("granularity", [None, "filter"])
def test_filters_stay_filters(granularity):
    run, figure = run_of(granularity), Figure()
    assert spoken("1 % of the filters, one filter", run) == "1 % of the filters, one filter"
    assert spoken_page("<p>Filters</p>", run) == "<p>Filters</p>"
    figure.suptitle("filters")
    assert spoken_figure(figure, run) is figure
    assert figure.get_suptitle() == "filters"
    assert meaning(run) == MEANINGS["filter"]


def test_a_run_says_whether_everything_is_ranked():
    assert not run_of().all_ranked  # from before there was a choice
    for others, ranked in (([], True), ([{"name": "a.bias"}], False)):
        assert RunFiles(Path("run"), {}, {}, {}, {"not_ranked": others}, {}, {}).all_ranked == ranked


def test_the_word_keeps_its_number_and_case():
    run = run_of("output_channel")
    assert spoken("Filters: a filter of 12 filters", run) == "Output channels: an output channel of 12 output channels"
    assert spoken("Every filter", run_of("layer")) == "Every layer"
    assert spoken("branches_filters.csv filtered", run) == "branches_filters.csv filtered"


def test_a_reader_is_told_when_other_parameters_are_ranked_too():
    assert not ranked_notes(run_of())
    assert not ranked_notes(run_of("filter", [{"out": 3}]))
    (note,) = ranked_notes(run_of("filter", [{"out": 3}, {"shape": [4]}]))
    assert note.startswith("Biases and all other parameters are ranked")


def test_names_and_the_papers_own_finding_are_not_touched():
    run = run_of("layer")
    for text in (
        "Filter attribution by integrated gradients",
        "Finding Discriminative Filters for Specific Degradations",
        "The paper finds deblurring filters in the back: ",
    ):
        assert spoken(text, run) == text


def test_of_a_page_only_what_is_read_is_changed():
    page = (
        "<style>p { filter: none }</style><script>let filters = 1;</script>"
        '<a class="filters" href="#filters" title="all filters">filters</a><img alt="the filters" src="data:filter">'
        "<pre>granularity: filter</pre>"
    )
    assert spoken_page(page, run_of("weight")) == (
        "<style>p { filter: none }</style><script>let filters = 1;</script>"
        '<a class="filters" href="#filters" title="all weights">weights</a><img alt="the weights" src="data:filter">'
        "<pre>granularity: filter</pre>"
    )


def test_all_texts_of_a_figure_are_changed_also_those_at_ticks():
    figure = Figure()
    panel = figure.subplots()
    panel.plot([0, 1], [0, 1], label="random filters")
    panel.set_title("filters masked")
    panel.set_yticks([0, 1], ["deblurring\nfilters", "none"])
    panel.legend()
    spoken_figure(figure, run_of("input_channel"))
    figure.draw_without_rendering()
    said = "\n".join(text.get_text() for text in figure.findobj(Text))
    assert "filter" not in said
    assert "deblurring\nchannels" in said
    assert "random channels" in said


@pytest.mark.parametrize("granularity", UNITS)
def test_the_glossary_says_what_a_unit_is(granularity):
    assert meaning(run_of(granularity, [{"out": 3}])) == MEANINGS[granularity]
    others = meaning(run_of(granularity, [{"out": 3}, {"shape": [4]}]))
    assert (others != MEANINGS[granularity]) == (granularity != "layer")
