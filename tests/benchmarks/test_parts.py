"""Every part runs on a tiny network and writes what it says; nothing here looks at how long anything took."""

import importlib.util
import json

import pytest
import torch
from tiny_case import without_report

from benchmarks import attribution, floor, growth, knobs, memory, plain, training, whole_study
from benchmarks.__main__ import main
from benchmarks.case import operations, random_case, settings_of, trained_case
from benchmarks.measuring import Table, in_turns, read_rows
from benchmarks.plan import TINY, TINY_NETWORK
from faig_lab.attribution import Compute, quadrature
from faig_lab.networks import SRResNet


@pytest.fixture(scope="module")
def case():
    return random_case(settings_of("cpu", *TINY.network), [(12, 10)])


def numbers(rows, name):
    return [float(row[name]) for row in rows]


# What is compared with


@pytest.mark.parametrize("degradations", [2, 3])
def test_the_plain_implementation_gives_the_scores_of_the_right_rule(degradations):
    own = random_case(settings_of("cpu", *TINY.network), [(9, 12), (8, 8)], degradations)
    by_plain, ours = own.plain_scores(3), own.scores(quadrature("right", 3))
    assert float((by_plain - ours).norm() / ours.norm()) < 1e-4


def test_the_plain_implementation_computes_every_integral_for_each_degradation(case, monkeypatch):
    asked = []
    monkeypatch.setattr(
        plain, "single", lambda *given: asked.append(given[3]) or torch.zeros(len(case.layout)).double()
    )
    case.plain_scores(3)
    assert len(asked) == 4


@pytest.mark.skipif(importlib.util.find_spec("cv2") is None, reason="OpenCV is only needed by the plain loop")
def test_the_plain_loop_learns_from_what_it_is_given():
    pixels = torch.randint(0, 256, (40, 48, 3), generator=torch.Generator().manual_seed(0), dtype=torch.uint8).numpy()
    images = plain.WholeImages([pixels], 16, 6)
    lr, hr = images[0]
    assert (lr.shape, hr.shape) == ((3, 8, 8), (3, 16, 16))
    assert hr.min() >= 0
    assert hr.max() <= 1
    network = SRResNet(features=4, blocks=1)
    before = network.conv_last.weight.detach().clone()
    assert len(plain.train(network, images, 2, 0)) == 3
    assert not torch.equal(before, network.conv_last.weight)


# The parts


def test_the_pair_of_part_a_is_trained_and_the_second_time_it_comes_from_the_store(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    case = trained_case(TINY, "cpu")
    assert any(not torch.equal(value, case.baseline[name]) for name, value in case.target.items())
    assert case.probe[0].hr.shape == (3, 24, 20)
    monkeypatch.setattr("faig_lab.cli.trained.make_network_trainer", None)  # no training
    again = trained_case(TINY, "cpu")
    assert all(torch.equal(value, again.target[name]) for name, value in case.target.items())


def test_part_a(case, tmp_path):
    attribution.measure(case, TINY, tmp_path)
    rows = read_rows(tmp_path / "attribution.csv")
    assert tuple(rows[0]) == attribution.COLUMNS
    assert [row["what"].split(",")[0] for row in rows] == [
        "plain",
        "float32",
        "float32",
        "bfloat16",
        "default settings",
    ]
    assert numbers(rows[:1], "times_as_fast") == [1.0]
    assert int(rows[0]["evaluations"]) == 2 * 2 * TINY.plain_points
    rules = read_rows(tmp_path / "rules.csv")
    assert {row["rule"] for row in rules} == {"authors", "adaptive", *attribution.RULES}
    by_rule = {(row["rule"], row["points"], row["precision"]): row for row in rules}
    # The published algorithm is the right rule, so its error is, too.
    ours, theirs = by_rule["right", "4", "float32"], by_rule["authors", "4", "float32"]
    assert float(ours["error"]) == pytest.approx(float(theirs["error"]), rel=1e-2)


def test_part_b(tmp_path):
    floor.measure(TINY, "cpu", tmp_path)
    rows = read_rows(tmp_path / "floor.csv")
    assert tuple(rows[0]) == floor.COLUMNS
    assert len(rows) == 8
    assert all(value > 0 for name in ("seconds", "floor_seconds", "gflops") for value in numbers(rows, name))
    parts = read_rows(tmp_path / "operations.csv")
    assert tuple(parts[0]) == floor.OPERATION_COLUMNS
    assert sum(numbers(parts[:4], "share")) == pytest.approx(1, rel=1e-2)


def test_the_convolutions_account_for_all_counted_operations(case):
    lr = torch.rand(1, 3, 12, 10)
    single = sum(count * shape.work for shape, count in floor.shapes(case.network, lr).items())
    with torch.no_grad():
        assert operations(lambda: case.network(lr)) == single


def test_part_c(tmp_path, monkeypatch):
    monkeypatch.setattr(training, "cores", lambda: 0)  # no workers, whose start takes seconds
    training.measure(TINY, "cpu", tmp_path)
    rows = read_rows(tmp_path / "training.csv")
    assert tuple(rows[0]) == training.COLUMNS
    assert {"ours", "ours, float32"} <= {row["what"] for row in rows}
    quality = read_rows(tmp_path / "quality.csv")
    assert {(row["precision"], row["input"]) for row in quality} >= {("32-true", "blur"), ("bf16-mixed", "noise")}
    assert quality[0]["difference_to_float32"] == "+0.000"


@pytest.mark.skipif(not memory.STATUS.exists(), reason="memory of a process is read from /proc")
def test_part_d(tmp_path, monkeypatch):
    monkeypatch.setattr(memory, "peak_of", memory.attribute)  # a process for each row would take seconds
    memory.measure(TINY, "cpu", tmp_path)
    rows = read_rows(tmp_path / "memory.csv")
    assert tuple(rows[0]) == memory.COLUMNS
    assert [row["what"] for row in rows] == ["image"] * 2 + ["points"] * 2 + ["large image in tiles"] * 2
    tiles = read_rows(tmp_path / "tiles.csv")
    assert tuple(tiles[0]) == memory.TILE_COLUMNS
    assert int(tiles[0]["tiles"]) > 1
    assert float(tiles[0]["error"]) < 1e-5


def test_part_e(tmp_path, monkeypatch):
    def alone(plan, device, count, threads):
        return growth.share(settings_of(device, *plan.network), plan.growth_image, plan.growth_repeats)

    monkeypatch.setattr(growth, "slowest", alone)  # processes would take seconds
    growth.measure(TINY, "cpu", tmp_path)
    rows = read_rows(tmp_path / "growth.csv")
    assert tuple(rows[0]) == growth.COLUMNS
    axes = [row["axis"] for row in rows]
    assert list(dict.fromkeys(axes)) == ["images", "points", "degradations", "pixels", "features", "processes"]
    images = [row for row in rows if row["axis"] == "images"]
    assert numbers(images, "expected") == [1, 2, 4]


def test_part_f(tmp_path, monkeypatch):
    monkeypatch.setattr(knobs, "_compiled", lambda *_: None)  # a compiler takes a minute
    knobs.measure(TINY, "cpu", tmp_path)
    rows = read_rows(tmp_path / "knobs.csv")
    assert tuple(rows[0]) == knobs.COLUMNS
    assert [row["knob"] for row in rows[:4]] == [
        f"{layout}, {precision}" for precision in ("float32", "bfloat16") for layout in ("NCHW", "channels last")
    ]
    assert [row["knob"] for row in rows[-2:]] == ["1 points at once", "8 points at once"]
    assert rows[0]["times_as_fast"] == "1"


def test_a_forced_memory_format_is_that_of_the_weights(case):
    from unittest.mock import patch

    seen = []

    def forward(network, state, lr):
        seen.append(lr.is_contiguous(memory_format=torch.channels_last) and lr.shape[1] > 1)
        return network(lr)

    for layout in (torch.contiguous_format, torch.channels_last):
        run = knobs._evaluations(case, Compute(), 1, layout)
        with patch.object(Compute, "forward", property(lambda self: forward)):
            run()
    assert seen == [False, True]


# What they share


def test_turns_are_taken_and_warm_ups_do_not_count():
    order = []
    times = in_turns({name: lambda name=name: order.append(name) for name in "ab"}, repeats=2, warm_up=1)
    assert order == ["a", "b"] * 3
    assert set(times) == {"a", "b"}


def test_a_table_has_each_row_at_once_and_refuses_unknown_columns(tmp_path):
    table = Table(tmp_path / "deep" / "one.csv", ("what", "value"))
    table.add(what="first", value=0.123456)
    assert read_rows(table.path) == [{"what": "first", "value": "0.1235"}]
    table.add(what="second")
    assert read_rows(table.path)[1] == {"what": "second", "value": ""}
    with pytest.raises(ValueError, match="valu"):
        table.add(what="third", valu=1)


def test_a_summary_and_a_figure_of_what_is_there(tmp_path, capsys):
    Table(tmp_path / "growth.csv", growth.COLUMNS).add(axis="images", value=1, seconds=0.5, ratio=1.0, expected=1.0)
    assert main(["--report", "--out", str(tmp_path)]) == 0
    assert "| images | 1 | 0.5 | 1.00 | 1.00 |" in (tmp_path / "summary.md").read_text()
    assert (tmp_path / "figure.png").stat().st_size > 10_000
    assert "growth" in capsys.readouterr().out.lower()


def test_a_part_that_fails_does_not_take_the_others_along(tmp_path, monkeypatch, capsys):
    def broken(*given):
        raise RuntimeError("no")

    monkeypatch.setattr(growth, "measure", broken)
    monkeypatch.setattr(memory, "measure", lambda *given: None)
    assert main(["--tiny", "--parts", "de", "--out", str(tmp_path)]) == 1
    assert list(json.loads((tmp_path / "machine.json").read_text())) == ["d"]
    assert "part e failed" in capsys.readouterr().err


def test_operations_of_a_study_are_those_of_its_layers(tmp_path):
    size = ["training.patch_size=16", "data.test_crop=32", "data.probe_crop=16", "data.probe_crops=1"]
    steps = ["training.baseline.iterations=8", "training.target.iterations=4", "training.batch_size=2"]
    with without_report():
        counted = whole_study.by_stage(
            [*steps, *size, *TINY_NETWORK, "attribution=random", "analysis.percents=[1]"], tmp_path
        )
    weights = 3 * 4 + 2 * 4 * 4 + 4 * 16 + 4 * (4 * 4 + 4 * 3)  # kernels per LR pixel; the last two layers see four
    forward = 2 * 9 * weights * 8 * 8  # of one image
    step = 2 * (3 * forward - 2 * 9 * 3 * 4 * 8 * 8)  # the input of the first layer has no gradient
    validation = 2 * 4 * forward  # two images: clean, blurred, noisy, both
    assert counted["baseline"] == pytest.approx(8 * step + validation, rel=0.01)  # downsampling is the rest
    assert counted["target"] > 4 * step + validation
    assert {"attribution", "analysis/masking"} <= counted.keys()


def test_without_a_gpu_it_says_so_in_one_line(monkeypatch, capsys):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert main(["--device", "cuda"]) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_unknown_parts_are_refused(capsys):
    with pytest.raises(SystemExit):
        main(["--parts", "xyz"])
    assert "--parts" in capsys.readouterr().err


@pytest.mark.slow
def test_all_of_it(tmp_path):
    assert main(["--tiny", "--out", str(tmp_path)]) == 0
    assert set(json.loads((tmp_path / "machine.json").read_text())) == set("abcdefg")
