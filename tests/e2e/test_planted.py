"""A planted pair through the command line: trained, stored, described, analysed, and refused where it cannot be."""

import pytest
import yaml
from run_files import read
from tiny_case import analyse, figures_of, networks, refusal, run, tiny

TINY = tiny(
    *("data.test_crop=48", "training.baseline.iterations=5", "training.target.iterations=6"),
    *("training.validate_every=2", "attribution.methods.random.draws=2", "analysis.percents=[5]"),
    *("analysis.headline_percent=5", "++attribution.methods.learned_mask.steps=2"),
)
PLANTED = ["experiment=planted", "target.planted.percent=5", "target.planted.turn=2", "target.planted.drift_steps=0"]


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    return run(tmp_path_factory.mktemp("planted") / "pair", *PLANTED, *TINY, report=figures_of)


def test_it_leaves_metrics_tables_sets_and_section(pair):
    metrics = read(pair / "metrics.json")
    sets = read(pair / "attribution" / "planted.json")
    total = read(pair / "attribution" / "layout.json")["filters"]
    methods = set(yaml.safe_load((pair / "config.yaml").read_text())["attribution"]["methods"])
    assert methods >= {"weight_change", "taylor", "fisher", "faig", "signed_share", "ig", "random"}
    assert methods >= {"isolation_share", "learned_mask"}
    assert list(sets) == ["blur", "noise"]
    assert not set(sets["blur"]) & set(sets["noise"])
    for name, filters in sets.items():
        assert metrics[f"planted/chance/{name}"] == pytest.approx(len(filters) / total)
        assert metrics[f"planted/isolation/{name}"] <= 1
        for method in methods:
            assert 0 < metrics[f"planted/{method}/average_precision/{name}"] <= 1
            assert 0 <= metrics[f"planted/{method}/recall/{name}"] <= 1
    costs = read(pair / "attribution" / "provenance.json")["cost"]
    assert list(costs) == ["path_integral", "gradient_at_target", "isolation_share", "learned_mask"]
    assert costs["isolation_share"]["passes"] == 2.5 * costs["path_integral"]["passes"] > 0
    assert {f"seconds/attribution/{what}" for what in costs} <= metrics.keys()
    for table in ("planted", "planted_isolation", "planted_change"):
        assert (pair / "tables" / f"{table}.csv").is_file()
    assert (pair / "figures" / "planted.png").is_file()
    assert 'id="planted"' in (pair / "report.html").read_text(encoding="utf-8")


def test_a_finished_planted_run_is_analysed_with_the_networks_of_the_first(pair):
    before = networks(pair.parent / "store")
    bare = run(pair.parent / "bare", *PLANTED, *TINY, "analysis=masking")
    assert networks(pair.parent / "store") == before
    assert yaml.safe_load((bare / "weights" / "target.yaml").read_text())["planted"]["percent"] == 5
    assert not (bare / "tables" / "planted.csv").is_file()
    analyse(bare, "analysis=planted")
    assert (bare / "tables" / "planted.csv").read_text() == (pair / "tables" / "planted.csv").read_text()


def test_a_finished_run_that_is_not_planted_is_refused(pair, capsys):
    usual = run(pair.parent / "usual", "experiment=blur_noise", "attribution=learned_mask", *TINY)
    line = refusal(capsys, "task=analyse", f"run={usual}", "analysis=planted", "logger=none")
    assert line.startswith(f"run: {usual / 'config.yaml'}: analysis.studies.planted: the target is not planted")
