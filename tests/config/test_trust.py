"""What a stored configuration may call: shipped targets, losses and optimizers of torch, and nothing else."""

import sys

import pytest
import yaml

from faig_lab.cli.arguments import compose, continued
from faig_lab.config import check
from faig_lab.config.messages import FOLDER
from faig_lab.config.targets import check_links, check_recorded, check_stored, may_call, read_stored, targets_of
from faig_lab.errors import UserError


@pytest.mark.parametrize(
    "target",
    ["faig_lab.networks.SRResNet", "torch.nn.L1Loss", "torch.nn.modules.loss.MSELoss", "torch.optim.AdamW"],
)
def test_what_faig_lab_ships_may_be_called(target):
    assert may_call(target)


@pytest.mark.parametrize(
    "target",
    [
        *("torch.load", "torch.hub.load", "torch.nn.Module", "torch.nn.Sequential", "torch.nn.modules.loss.Tensor"),
        *(
            "torch.optim.lr_scheduler.StepLR",
            "torch.optim.adam.Adam",
            "torch.optim.sys.exit",
            "torch.nn.init.torch.load",
        ),
        *(
            "os.system",
            "builtins.exec",
            "builtins.eval",
            "subprocess.run",
            "my_networks.Net",
            "hydra.utils.instantiate",
        ),
        # Ours, and yet not for a stranger.
        *(
            "faig_lab.files.os.system",
            "faig_lab.files.write_text",
            "faig_lab.config.targets.make",
            "faig_lab.config.targets.build",
        ),
        *("faig_lab.attribution.save_attribution", "faig_lab.filters.save_weights", "faig_lab.cli.study.run"),
        *("faig_lab.networks.srresnet.SRResNet", "faig_lab", "faig_lab.networks.SRResNet.__init__.__globals__"),
        *("", "torch.nn.L1Loss\n", " torch.nn.L1Loss", "torch.nn.", None, 3, ["torch.nn.L1Loss"]),
    ],
)
def test_nothing_else_may(target):
    assert not may_call(target)


def test_to_ask_imports_nothing(tmp_path, monkeypatch):
    (tmp_path / "evil_to_ask.py").write_text("raise SystemExit")
    monkeypatch.syspath_prepend(tmp_path)
    assert not may_call("evil_to_ask.Net")
    assert "evil_to_ask" not in sys.modules


def test_every_configuration_that_is_shipped_may_be_read_again():
    files = [path for path in FOLDER.rglob("*.yaml") if "hydra" not in path.parts]
    targets = {target: file for file in files for target in targets_of(yaml.safe_load(file.read_text()))}
    assert {"faig_lab.networks.SRResNet", "torch.optim.Adam"} <= targets.keys()
    assert {target: file for target, file in targets.items() if not may_call(target)} == {}


@pytest.mark.parametrize("choices", [[], ["experiment=blur_noise", "analysis=full", "attribution=all"], ["data=div2k"]])
def test_a_run_of_ours_may_be_read_again(choices):
    config = check(compose(choices)).model_dump()
    assert targets_of(config)
    check_stored(config, "config.yaml")


EVIL = {"_target_": "os.mkdir", "path": "x"}


@pytest.mark.parametrize(
    ("key", "config"),
    [
        ("training.loss._target_", {"training": {"loss": EVIL}}),
        ("a.0.1._target_", {"a": [[1, EVIL]]}),
        ("a.b._target_", {"a": {"_target_": "torch.nn.L1Loss", "b": EVIL}}),
        ("a.b._target_", {"a": {"_partial_": True, "_target_": "torch.optim.Adam", "b": {**EVIL, "_partial_": True}}}),
        ("_target_", EVIL),
        ("a._target_", {"a": {"_target_": ["torch.nn.L1Loss"]}}),
        ("a._target_", {"a": {"_target_": None}}),
    ],
)
def test_a_target_is_found_wherever_it_hides(key, config):
    with pytest.raises(UserError, match=rf"^run: config.yaml: {key.replace('.', chr(92) + '.')}: .* trust=true$"):
        check_stored(config, "run: config.yaml")


@pytest.mark.parametrize(
    "config",
    [
        {"name": "${oc.env:HOME}"},
        {"a": ["${oc.create:{}}"]},
        {"a": {"${oc.env:HOME}": 1}},
        {"data": {"_target_": "faig_lab.data.Div2k", "base_url": "file:///etc"}},
        {"data": {"base_url": "https://elsewhere.example"}},
    ],
)
def test_neither_are_interpolations_resolved_nor_other_servers_asked(config):
    with pytest.raises(UserError, match="trust=true"):
        check_stored(config, "run: config.yaml")


def test_what_the_user_has_named_may_be_called():
    config = {"network": {"_target_": "my_networks.Net"}}
    check_stored(config, "run", named=targets_of({"a": [{"_target_": "my_networks.Net"}]}))
    with pytest.raises(UserError):
        check_stored(config, "run", named=targets_of({"a": "my_networks.Net"}))


@pytest.mark.parametrize(
    "text", ["a: b: c", "- 1", "", "a: \t", "a: &a [*a]", "a: !!python/object/apply:os.mkdir [x]", "\x00"]
)
def test_what_is_no_configuration_is_refused_in_one_line(text, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "config.yaml").write_text(text)
    with pytest.raises(UserError, match=r"^run: .*config\.yaml") as caught:
        read_stored(tmp_path / "config.yaml", "run")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "x").exists()


@pytest.mark.parametrize(
    ("former", "present"),
    [
        ("attribution.methods.faig", "attribution.faig"),
        ("attribution.methods.weight_change_absolute", "attribution.weight_change_absolute"),
        ("attribution.ingredients.signed_sum", "attribution.signed_sum"),
        ("attribution.ideas.isolation_share", "attribution.isolation_share"),
        ("attribution.learned_mask.learned_mask", "attribution.learned_mask"),
        ("attribution.one_unit.OneUnit", "attribution.OneUnit"),
        ("analysis.curves", "studies.curves.curves"),
        ("analysis.sanity", "studies.sanity.sanity"),
        ("analysis.masking_study", "studies.masking.masking_study"),
    ],
)
def test_functions_of_an_older_run_are_found_under_their_present_names(former, present, tmp_path):
    node = {"attribution": {"methods": {"mine": {"_target_": f"faig_lab.{former}", "draws": 2}}}}
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(node))
    config = read_stored(tmp_path / "config.yaml", "run")
    assert config["attribution"]["methods"]["mine"] == {"_target_": f"faig_lab.{present}", "draws": 2}
    check_stored(config, "run: config.yaml")


@pytest.mark.parametrize("target", ["methods.replace", "methods.faig.__globals__", "run.save_attribution", "methods"])
def test_nothing_else_of_the_attribution_is_renamed(target, tmp_path):
    (tmp_path / "config.yaml").write_text(yaml.safe_dump({"a": {"_target_": f"faig_lab.attribution.{target}"}}))
    config = read_stored(tmp_path / "config.yaml", "run")
    assert config == {"a": {"_target_": f"faig_lab.attribution.{target}"}}
    with pytest.raises(UserError, match="would be called as code"):
        check_stored(config, "run: config.yaml")


def test_a_configuration_that_unfolds_is_refused(tmp_path):
    """A billion laughs: 9 lines, 10^9 values."""
    lines = ["a0: &a0 [lol]"] + [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 10)]
    (tmp_path / "config.yaml").write_text("\n".join(lines))
    with pytest.raises(UserError, match="more than 100,000 values"):
        read_stored(tmp_path / "config.yaml", "run")


def test_links_may_not_lead_out(tmp_path):
    run = tmp_path / "run"
    (run / "weights").mkdir(parents=True)
    (run / "weights" / "target.pt").write_text("")
    (run / "inside.pt").symlink_to("weights/target.pt")
    (run / ".hydra").mkdir()
    (run / ".hydra" / "out").symlink_to("/etc")
    check_links(run, "run")
    (tmp_path / "linked").symlink_to(run)  # the run folder itself may be a link
    check_links(tmp_path / "linked", "run")
    for target in (tmp_path, "../..", "/etc/hostname", "/nowhere"):
        (run / "weights" / "out").symlink_to(target)
        for folder in (run, tmp_path / "linked"):
            with pytest.raises(UserError, match=r"^run: .*/weights/out is a link that leads out of the run folder; .*"):
                check_links(folder, "run")
        (run / "weights" / "out").unlink()


# Sweeps


@pytest.mark.parametrize(
    "setting",
    [
        *("training.loss._target_=torch.load", "training.loss={_target_:os.system,command:x}", "+a._target_=os.system"),
        *("training.loss._target_=torch.nn.L1Loss,torch.load", "++training.loss={_target_:'os.system'}"),
        *("a={_target_:exec}", "hydra.searchpath=[file:///tmp/x]", "hydra.launcher.setup=[touch x]"),
        *(
            "hydra.launcher._target_=os.system",
            "hydra/launcher=other",
            "hydra/job_logging=other",
            "hydra.run.dir=/tmp/x",
        ),
        *("network=../../../tmp/evil", "network@a=../evil", "store=${oc.env:HOME}", "data.base_url=http://x"),
    ],
)
def test_a_strangers_sweep_may_not_bring(setting):
    with pytest.raises(UserError, match=r"^sweep: .* trust=true$"):
        check_recorded([setting], "sweep: multirun.yaml")


@pytest.mark.parametrize(
    "setting",
    [
        *("experiment=blur_noise", "seed=0,1,2", "network=srresnet_small,srcnn_style_small", "store=/data/store"),
        *(
            "training.loss._target_=torch.nn.L1Loss,torch.nn.MSELoss",
            "data.train_dir=../photos",
            "degradation=[blur,noise]",
        ),
        *("hydra/launcher=joblib", "hydra/launcher=faig_lab_joblib", "hydra.launcher.n_jobs=4", "attribution.points=5"),
    ],
)
def test_other_settings_of_a_sweep_go_on(setting):
    check_recorded([setting], "sweep: multirun.yaml")
    with pytest.raises(UserError, match=r"^sweep: multirun\.yaml: hydra\.run\.dir=x may call"):
        check_recorded([setting, "hydra.run.dir=x"], "sweep: multirun.yaml")


def test_a_sweep_cannot_bring_its_own_trust(tmp_path):
    recorded = {
        "overrides": {"task": ["trust=true", "network._target_=evil.Net"], "hydra": []},
        "runtime": {"config_sources": []},
    }
    (tmp_path / "multirun.yaml").write_text(yaml.safe_dump({"hydra": recorded}))
    with pytest.raises(UserError, match=r"network\._target_=evil\.Net may call any code"):
        continued([], [f"sweep={tmp_path}"])
    assert "network._target_=evil.Net" in continued([], [f"sweep={tmp_path}", "trust=true"])
    # What the user types as well is his own.
    assert continued([], [f"sweep={tmp_path}", "network._target_=evil.Net"])
