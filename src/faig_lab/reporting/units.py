"""The word for what was ranked. Texts and figures speak of filters; of a run that ranks channels, they say channels."""

import re

from matplotlib.figure import Figure
from matplotlib.text import Text

from faig_lab.granularity import UNITS
from faig_lab.reporting.run_files import RunFiles

MEANINGS = {
    "weight": "A single number of a convolution or linear weight.",
    "filter": "One k×k slice of a convolution weight: what connects one input channel of a layer with one "
    "output channel.",
    "output_channel": "Everything in a convolution or linear weight that makes one output channel of its layer.",
    "input_channel": "Everything in a convolution or linear weight that reads one input channel of its layer.",
    "layer": "The whole weight of one convolution or linear layer.",
}
"""What a unit is, by granularity, for the glossary."""

OTHERS = " All other parameters, biases say, are ranked among them: each one entry of its first axis."

# Names, and what the paper says of filters, stay as they are.
_KEPT = r"Filter attribution by|Finding Discriminative Filters|The paper (?:finds|says)[^:]*:"
_WORD = re.compile(rf"({_KEPT})|\b([Ff])ilter(s?)\b")
_ARTICLE = re.compile(r"\b([Aa]) (?=(?:output|input) channel)")
# Of a page only what is read: no markup but descriptions, no script, style or quoted settings.
_PAGE = re.compile(r"<(script|style|pre)\b.*?</\1>|<[^>]*>", re.DOTALL)
_DESCRIPTION = re.compile(r'(?<=\s)(alt|aria-label|title)="([^"]*)"')


def granularity(run: RunFiles) -> str:
    """What the run ranked; filters, if it is from before there was a choice."""
    return str(run.layout.get("granularity", "filter"))


def meaning(run: RunFiles) -> str:
    """What the glossary says of a unit of this run."""
    return MEANINGS[granularity(run)] + (OTHERS if _ranks_others(run) and granularity(run) != "layer" else "")


def ranked_notes(run: RunFiles) -> list[str]:
    """What a reader must know of a run that ranks more than the word says."""
    note = (
        "Biases and all other parameters are ranked and masked as well; where this report speaks of filters, they are "
        "meant, too."
    )
    return [note] if _ranks_others(run) else []


def _ranks_others(run: RunFiles) -> bool:
    return any("out" not in layer for layer in run.layout.get("layers", []))


def spoken(text: str, run: RunFiles, short: bool = False) -> str:
    """A plain text with the run's own word in place of `filter`; short where there is little room."""
    kind = granularity(run)
    if kind == "filter":
        return text
    plural = UNITS[kind].rpartition(" ")[2] if short else UNITS[kind]

    def renamed(found: re.Match[str]) -> str:
        if found[1]:
            return found[1]
        word = plural if found[3] else plural.removesuffix("s")
        return word.capitalize() if found[2] == "F" else word

    return _ARTICLE.sub(r"\1n ", _WORD.sub(renamed, text))


def spoken_page(page: str, run: RunFiles) -> str:
    """A page with the run's own word in place of `filter`, in its text and in descriptions of pictures."""
    if granularity(run) == "filter":
        return page
    parts, end = [], 0
    for markup in _PAGE.finditer(page):
        parts.append(spoken(page[end : markup.start()], run))
        parts.append(_DESCRIPTION.sub(lambda found: f'{found[1]}="{spoken(found[2], run)}"', markup[0]))
        end = markup.end()
    return "".join([*parts, spoken(page[end:], run)])


def spoken_figure(figure: Figure, run: RunFiles) -> Figure:
    """The figure with the run's own word in place of `filter` in all its texts."""
    if granularity(run) == "filter":
        return figure
    for panel in figure.axes:
        for axis in (panel.xaxis, panel.yaxis):
            labels = [label.get_text() for label in axis.get_ticklabels()]
            words = [spoken(label, run, short=True) for label in labels]
            if words != labels:  # a tick's text is made anew whenever the figure is drawn
                axis.set_ticks(axis.get_ticklocs(), words)
    for text in figure.findobj(Text):
        assert isinstance(text, Text)
        text.set_text(spoken(text.get_text(), run, short=True))
    return figure
