"""A planted pair through the command line: trained, stored, described, analysed, and refused where it cannot be."""

import pytest
import yaml
from run_files import read
from tiny_case import figures_of, tiny, without_report

from faig_lab.__main__ import main

TINY = tiny(
    *("data.test_crop=48", "training.baseline.iterations=5", "training.target.iterations=6"),
    *("training.validate_every=2", "attribution.methods.random.draws=2", "analysis.percents=[5]"),
    *("analysis.headline_percent=5", "++attribution.methods.learned_mask.steps=2"),
)
PLANTED = ["+experiment=planted", "target.planted.percent=5", "target.planted.turn=2", "target.planted.drift_steps=0"]


def run(root, name, *settings):
    folder = root / name
    assert main([*settings, *TINY, f"store={root / 'store'}", f"hydra.run.dir={folder}"]) == 0
    return folder


def entries(root):
    return sorted(path.name for path in (root / "store").iterdir() if not path.name.startswith("."))


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return tmp_path_factory.mktemp("planted")


@pytest.fixture(scope="module")
def pair(root):
    with figures_of():
        return run(root, "pair", *PLANTED)


def test_it_leaves_metrics_tables_sets_and_section(pair):
    metrics = read(pair / "metrics.json")
    sets = read(pair / "attribution" / "planted.json")
    total = read(pair / "attribution" / "layout.json")["filters"]
    methods = list(yaml.safe_load((pair / "config.yaml").read_text())["attribution"]["methods"])
    assert list(sets) == ["blur", "noise"]
    assert not set(sets["blur"]) & set(sets["noise"])
    for name, filters in sets.items():
        assert metrics[f"planted/chance/{name}"] == pytest.approx(len(filters) / total)
        assert metrics[f"planted/isolation/{name}"] <= 1
        for method in methods:
            assert 0 < metrics[f"planted/{method}/average_precision/{name}"] <= 1
            assert 0 <= metrics[f"planted/{method}/recall/{name}"] <= 1
    assert {"weight_change", "taylor", "fisher", "faig", "signed_share", "ig", "random"} <= set(methods)
    assert {"isolation_share", "learned_mask"} <= set(methods)
    costs = read(pair / "attribution" / "provenance.json")["cost"]
    assert list(costs) == ["path_integral", "gradient_at_target", "isolation_share", "learned_mask"]
    assert costs["isolation_share"]["passes"] == 2.5 * costs["path_integral"]["passes"] > 0
    assert {f"seconds/attribution/{what}" for what in costs} <= metrics.keys()
    for table in ("planted", "planted_isolation", "planted_change"):
        assert (pair / "tables" / f"{table}.csv").is_file()
    assert (pair / "figures" / "planted.png").is_file()
    assert 'id="planted"' in (pair / "report.html").read_text(encoding="utf-8")


def test_a_second_run_trains_nothing_and_gives_the_same_numbers(pair, root):
    before = entries(root)
    with without_report():
        again = run(root, "again", *PLANTED)
    assert entries(root) == before
    assert (again / "tables" / "planted.csv").read_text() == (pair / "tables" / "planted.csv").read_text()


def test_a_finished_planted_run_can_be_analysed_further(pair, root):
    with without_report():
        bare = run(root, "bare", *PLANTED, "analysis=masking")
    assert yaml.safe_load((bare / "weights" / "target.yaml").read_text())["planted"]["percent"] == 5
    assert not (bare / "tables" / "planted.csv").is_file()
    with without_report():
        assert main(["task=analyse", f"run={bare}", "analysis=planted", "logger=none"]) == 0
    assert (bare / "tables" / "planted.csv").read_text() == (pair / "tables" / "planted.csv").read_text()


def test_a_finished_run_that_is_not_planted_is_refused(root, capsys):
    with without_report():
        usual = run(root, "usual", "+experiment=blur_noise", "attribution=learned_mask")
    capsys.readouterr()
    assert main(["task=analyse", f"run={usual}", "analysis=planted", "logger=none"]) == 2
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert line.startswith(f"error: run: {usual / 'config.yaml'}: analysis.studies.planted: the target is not planted")


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ([*PLANTED, "target.planted.percent=60"], "target.planted.percent: 2 sets of "),
        ([*PLANTED, "target.planted.percent=0.001"], "target.planted.percent: 0.001 % of "),
        ([*PLANTED, "target.planted.percent=0"], "target.planted.percent: must be more than 0, not 0"),
        ([*PLANTED, "target.planted.layers=[bdy.*]"], "target.planted.layers: bdy.* fits no layer; the layers are "),
        ([*PLANTED, "target.planted.turn=3"], "target.planted.turn: 3 turns of 3 steps do not fit into the 6 of "),
        (
            [*PLANTED, "target.planted.drift_steps=6"],
            "target.planted.drift_steps: 6 must be less than training.target.",
        ),
        (
            [*PLANTED, "target.planted.drift_steps=3"],
            "target.planted.turn: 2 turns of 2 steps do not fit into the 3 of ",
        ),
        ([*PLANTED, "target.planted.rate=0"], "target.planted.rate: must be more than 0, not 0"),
        ([*PLANTED, "+target.planted.drfit=1"], "target.planted.drfit: unknown key; did you mean drift?"),
        ([*PLANTED, "attribution.granularity=layer"], "attribution.granularity: layer, but target.planted plants "),
        ([*PLANTED, "attribution.rank_other_parameters=true"], "attribution.rank_other_parameters: must be false"),
        (
            ["+experiment=blur_noise", "attribution=all", "analysis=planted"],
            "analysis.studies.planted: the target is not planted; use ",
        ),
    ],
)
def test_wrong_settings_are_one_line_before_anything_starts(root, settings, said, capsys):
    folder = root / "wrong"
    others = [setting for setting in TINY if not setting.startswith("analysis.")]
    code = main(
        [*settings, *others, "analysis.percents=[5,50]", "analysis.headline_percent=5", f"hydra.run.dir={folder}"]
    )
    assert code == 2
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert line.startswith(f"error: {said}")
    assert not (folder / "status.json").exists()
