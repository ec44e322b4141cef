"""Runs to compare: found, read, told apart by their settings; what cannot be compared is named."""

import json
import shutil

import pytest
import yaml

from faig_lab.errors import UserError
from faig_lab.files import write_text
from faig_lab.runs.finished_runs import find, group, read


@pytest.fixture
def make(make_run, tmp_path):
    """A finished run in a folder, with other settings where asked."""
    made = make_run()
    text = (made / "config.yaml").read_text()
    (made / "status.json").write_text(json.dumps({"state": "done"}))

    def make(folder, **changes):
        path = tmp_path / folder
        shutil.copytree(made, path)
        config = yaml.safe_load(text)
        for key, value in changes.items():
            *groups, name = key.split("__")
            node = config
            for part in groups:
                node = node.setdefault(part, {})
            node[name] = value
        (path / "config.yaml").write_text(yaml.safe_dump(config))
        return path

    return make


@pytest.fixture
def sweep(make, tmp_path, monkeypatch):
    """Twelve runs in a sweep's folder, which lies beside others."""
    for number in range(12):
        make(f"outputs/blur_noise/multirun/monday/{number}", seed=number)
    (tmp_path / "outputs" / "blur_noise" / "multirun" / "monday" / "multirun.yaml").touch()
    (tmp_path / "outputs" / "store" / "SRResNet-0").mkdir(parents=True)
    (tmp_path / "outputs" / "store" / "SRResNet-0" / "weights.pt").touch()
    monkeypatch.chdir(tmp_path)
    return "outputs/blur_noise/multirun/monday"


def names(folders):
    return [folder.name for folder in folders]


@pytest.mark.parametrize(
    "wanted",
    [
        "outputs/blur_noise/multirun/monday",
        "outputs/blur_noise/multirun/monday/*",
        "outputs",
        ["outputs/blur_noise/multirun/monday/[0-9]", "outputs/blur_noise/multirun/monday/1?"],
        ["outputs/blur_noise", "outputs/blur_noise/multirun/monday/3"],
    ],
)
def test_runs_are_found_once_and_in_their_order(sweep, wanted):
    assert names(find(wanted)) == [str(number) for number in range(12)]
    assert names(find([f"{sweep}/7", f"{sweep}/2"])) == ["7", "2"]


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        ("outputs/blur_nois", "runs: outputs/blur_nois: no such folder; did you mean outputs/blur_noise?"),
        ("outputs/blur_nois/multirun", "outputs/blur_nois: no such folder; did you mean outputs/blur_noise?"),
        ("outputs/blur_nois/*", "runs: outputs/blur_nois/* matches no folder; outputs/blur_nois: no such folder; did "),
        ("outputs/store/x*", "runs: outputs/store/x* matches no folder; outputs/store holds no such folder"),
        ("outputs/store", "runs: no run folder in outputs/store"),
        (["outputs/store/SRResNet-0"], "runs: no run folder in outputs/store/SRResNet-0"),
    ],
)
def test_what_is_not_there(sweep, wanted, expected):
    with pytest.raises(UserError) as error:
        find(wanted)
    assert expected in str(error.value)
    assert "\n" not in str(error.value)


BREAKS = {
    "running": lambda run: (run / "status.json").write_text('{"state": "running"}'),
    "failed: disk full": lambda run: (run / "status.json").write_text('{"state": "failed", "error": "disk full"}'),
    "never started": lambda run: (run / "status.json").unlink(),
    "cannot be read (JSONDecodeError": lambda run: (run / "status.json").write_text("{"),
    "has no config.yaml": lambda run: (run / "config.yaml").unlink(),
    "cannot be read (ScannerError": lambda run: (run / "config.yaml").write_text("a: b: c"),
    "is no configuration": lambda run: (run / "config.yaml").write_text("7"),
    "cannot be read (KeyError": lambda run: (run / "config.yaml").write_text("name: x"),
    "has no tables/specificity.csv": lambda run: (run / "tables" / "specificity.csv").unlink(),
    "is empty or of another version": lambda run: (run / "tables" / "specificity.csv").write_text("method,own\na,1\n"),
    "specificity.csv is damaged": lambda run: (run / "tables" / "specificity.csv").write_text(
        "method,percent,masked,own,other,specificity\nfaig,one,blur,1,0,1\n"
    ),
}


@pytest.mark.parametrize("reason", BREAKS)
def test_what_is_no_finished_run_is_left_out_and_named(make, reason):
    good, bad = make("good"), make("bad")
    BREAKS[reason](bad)
    runs, left_out = read([good, bad])
    assert [run.path for run in runs] == [good]
    assert [one.folder for one in left_out] == [bad]
    assert reason in left_out[0].reason
    assert "\n" not in left_out[0].reason


def groups(*folders):
    runs, left_out = read(folders)
    assert not left_out
    return list(group(runs).values())


def test_seeds_places_and_analyses_make_no_difference(make):
    some = make("a", seed=0, store="x", logger={"group": "g"}, analysis__percents=[1], trainer={"accelerator": "cpu"})
    other = make("b", seed=1, store="y", logger={"group": "h"}, analysis__percents=[5], trainer={"accelerator": "auto"})
    third = make("c", attribution__name="ig", resume=None, training__workers=2)
    new = make("d", attribution__tolerance=0.01)  # a setting that the others lack
    assert groups(some, other, third, new) == [{"network": "SRResNet"}] * 4


def test_settings_make_a_difference(make):
    found = groups(make("a"), make("b", training__patch_size=96), make("c", attribution__rule="right"))
    assert found == [
        {"network": "SRResNet", "training.patch_size": "48", "attribution.rule": "gauss_legendre"},
        {"network": "SRResNet", "training.patch_size": "96", "attribution.rule": "gauss_legendre"},
        {"network": "SRResNet", "training.patch_size": "48", "attribution.rule": "right"},
    ]


def chosen(folder, **files):
    write_text(folder / ".hydra" / "hydra.yaml", yaml.safe_dump({"hydra": {"runtime": {"choices": files}}}))
    return folder


def test_a_file_of_settings_names_them_if_it_tells_them(make):
    changed = {"training__patch_size": 96, "training__batch_size": 8}
    laptop, short = chosen(make("a"), training="laptop"), chosen(make("b", **changed), training="short")
    assert [one["training"] for one in groups(laptop, short)] == ["laptop", "short"]
    assert all(set(one) == {"network", "training"} for one in groups(laptop, short))
    # The same file with other settings beside it tells nothing, and a run without the record has no file.
    for other in (chosen(make("c", **changed), training="laptop"), make("d", **changed)):
        assert set(groups(laptop, other)[1]) == {"network", "training.patch_size", "training.batch_size"}


def test_networks_are_named_by_what_tells_them_apart(make):
    other = {"_target_": "faig_lab.networks.SRCNNStyle", "scale": 2, "widths": [24, 32]}
    found = groups(make("a"), make("b", network__blocks=2), make("c", network=other))
    assert [one["network"] for one in found] == ["SRResNet (blocks 8)", "SRResNet (blocks 2)", "SRCNNStyle"]


def test_degradations_are_named_by_their_parts(make):
    parts = {"jpeg": {"_target_": "faig_lab.data.JPEG", "quality": 30}}
    first, second = groups(make("a"), make("b", degradation__parts=parts))
    assert second["degradation"] == "jpeg (quality 30)"
    assert first["degradation"].startswith("blur (")
