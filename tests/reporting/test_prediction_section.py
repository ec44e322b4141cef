"""The section on prediction says what the tables say, whoever wins."""

import pytest

from faig_lab.files import write_json
from faig_lab.plotting.style import write_figure
from faig_lab.report.report import write_report
from faig_lab.runs.run_files import read_run
from faig_lab.runs.tables import write_table
from faig_lab.studies.prediction import SECTION

METHODS = ("overlap", "image_estimator", "linear_probe")
RIGHT = {"overlap": (1.0, 0.8), "image_estimator": (0.9, 0.95), "linear_probe": (1.0, 0.95)}


@pytest.fixture
def make(make_run):
    def write(degradations=("blur", "noise"), right=RIGHT, lost=4, interval=True):
        folder = make_run(degradations)
        mixes = ["+".join(degradations)] if len(degradations) > 1 else []
        truths, answers = ["clean", *degradations, *mixes], ["clean", *degradations]
        counts = [
            {
                "method": method, "truth": truth, "predicted": answer,
                "count": (20 - lost if truth == answer or (truth in mixes and answer == degradations[-1]) else
                          lost if answer == degradations[0] and truth in ("clean", *mixes) else
                          lost if answer == "clean" and truth not in mixes else 0),
            }
            for method in METHODS for truth in truths for answer in answers
        ]  # fmt: skip
        accuracy = [
            {
                "method": method, "measure": measure, "fitted_on": "probe", "fitted_crops": 16, "images": 6,
                "photographs": 3, "inputs": 60, "value": value, "low": value - 0.1 if interval else None,
                "high": min(1, value + 0.1) if interval else None,
            }
            for method, (balanced, with_clean) in right.items()
            for measure, value in (("accuracy", with_clean), ("balanced_accuracy", balanced))
            if measure == "accuracy" or len(degradations) > 1
        ]  # fmt: skip
        overlaps = [
            {"image": "a", "truth": truth} | {f"overlap/{name}": 0.1 + 0.5 * (name in truth) for name in degradations}
            for truth in truths
            for _ in range(5)
        ]
        for name, rows in (("", counts), ("_accuracy", accuracy), ("_overlaps", overlaps)):
            write_table(folder / "tables" / f"prediction{name}.csv", rows)
        write_json(folder / "metrics.json", {f"prediction/threshold/{name}": 0.4 for name in degradations})
        return folder

    return write


def said(folder):
    return SECTION.sentence(read_run(folder))


def test_the_accuracy_and_what_it_is_over(make):
    assert said(make()) == (
        "Top-k overlap on 60 inputs from 3 held-out photographs: 100 % (90 % to 100 %) of them right between blurred "
        "or noisy (balanced accuracy) and 80 % (70 % to 90 %) with clean as a further answer; in brackets the 95 % "
        "interval over photographs."
    )


def test_a_range_is_called_so(make):
    folder = make()
    table = folder / "tables" / "prediction_accuracy.csv"
    head, *rows = table.read_text().splitlines()
    table.write_text("\n".join([f"{head},interval", *(f"{row},range" for row in rows)]) + "\n")
    assert said(folder).endswith("in brackets the range over photographs.")


def test_every_predictor_has_its_row_and_none_is_called_best(make):
    rows = SECTION.table(read_run(make())).rows
    assert [row[:3] for row in rows] == [
        ["Top-k overlap", "100 % (90 % to 100 %)", "80 % (70 % to 90 %)"],
        ["Noise level and sharpness", "90 % (80 % to 100 %)", "95 % (85 % to 100 %)"],
        ["Linear probe on features", "100 % (90 % to 100 %)", "95 % (85 % to 100 %)"],
    ]
    assert not any(word in said(make()) for word in ("best", "first place", "the aim"))


def test_the_confusion_of_a_mix_is_drawn_with_its_counts(make):
    figure = SECTION.figure(read_run(make()))
    panel = figure.axes[2]  # the first matrix
    assert panel.get_title() == "top-k overlap"
    counts = {(round(t.get_position()[1]), round(t.get_position()[0])): t.get_text() for t in panel.texts}
    assert [counts[3, answer] for answer in range(3)] == ["0", "4", "16"]  # blurred and noisy: clean, blurred, noisy


@pytest.mark.parametrize("degradations", [("blur",), ("blur", "noise"), ("blur", "noise", "jpeg")])
def test_figure_table_and_report_for_any_number_of_degradations(make, degradations, tmp_path):
    folder = make(degradations, interval=False)
    files = read_run(folder)
    write_figure(tmp_path / "prediction.png", SECTION.figure(files))
    table = SECTION.table(files)
    assert len(table.rows) == 3
    assert all(len(row) == len(table.head) for row in table.rows)
    assert said(folder)
    page = write_report(folder).read_text(encoding="utf-8")
    assert 'id="prediction"' in page


def test_one_degradation_has_nothing_to_be_told_from(make):
    text = said(make(("blur",)))
    assert text.startswith("Top-k overlap on 60 inputs from 3 held-out photographs: 80 %")
    assert "between" not in text
