"""Paths and names on the command line: what Hydra's grammar refuses is quoted, and comes through unchanged."""

import subprocess
from pathlib import Path

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from tiny_case import replace_study

from faig_lab.__main__ import main
from faig_lab.cli.arguments import compose, normalise
from faig_lab.config.messages import TEXT, is_multirun, quote_text, quoted, words_to_type
from faig_lab.config.settings import Settings

NAMES = [
    *("epoch=3-step=10.ckpt", "a~b.pth", "a#b.pth", "a b.pth", "net (1).pth", "größe.pth", "漢字.pth", "it's.pth"),
    *('say "x".pth', "a&b;c!d<e>.pth", "[1].pth", "{a}.pth", "100%.pth", "$x$.pth", r"back\slash.pth"),
    *(r"end\ ".strip(), r"\'.pth", "'half.pth", "3", "1e5", "true", "a:b@c+d?e|f*.pth"),
]


def value(setting):
    """What Hydra reads."""
    read = OverridesParser.create().parse_override(setting).value()
    return read if read is None else str(getattr(read, "text", read))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("key", ["target.weights", "run", "hydra.run.dir", "++data.lr_dirs.blur"])
def test_a_name_comes_through(key, name):
    assert value(quote_text(f"{key}={name}", multirun=False)) == name


@pytest.mark.parametrize("name", [*NAMES, "a,b", "", r"\\", r"a\\'b", "''"])
def test_quoted_is_read_back(name):
    assert value(f"run={quoted(name)}") == name


@pytest.mark.parametrize(
    "setting",
    [
        *("target.weights=a/b.pth", "target.weights=null", "target.weights='epoch=3.ckpt'", "run=", "store='a,b'"),
        *('target.weights="epoch=3.ckpt"', "hydra.run.dir=outputs/${name}/x", "runs=[a,b]", "name=choice(a,b)"),
        *("runs=outputs/blur_noise/*", "seed=a=b", "training.loss._target_=a=b", "~run", "resume"),
    ],
)
@pytest.mark.parametrize("multirun", [False, True])
def test_what_hydra_reads_stays(setting, multirun):
    assert quote_text(setting, multirun=multirun) == setting


def test_commas_separate_in_a_sweep_alone():
    given = "target.weights=epoch=3.ckpt,b.ckpt,'c,d.ckpt',grün.ckpt"
    assert quote_text(given, multirun=True) == "target.weights='epoch=3.ckpt',b.ckpt,'c,d.ckpt','grün.ckpt'"
    read = OverridesParser.create().parse_override(quote_text(given, multirun=True))
    found = [getattr(one, "text", one) for one in read.sweep_iterator()]
    assert found == ["epoch=3.ckpt", "b.ckpt", "c,d.ckpt", "grün.ckpt"]
    assert value(quote_text("target.weights=epoch=3,b.ckpt", multirun=False)) == "epoch=3,b.ckpt"
    assert quote_text("run=1,2", multirun=True) == "run='1','2'"


@pytest.mark.parametrize(
    ("flags", "settings", "expected"),
    [
        (["-m"], [], True),
        (["--multirun"], [], True),
        ([], ["sweep=x"], True),
        ([], ["+sweep=x"], True),
        ([], ["hydra.mode=MULTIRUN"], True),
        (["--cfg", "job"], ["name=sweep=x", "hydra.sweep.dir=x"], False),
    ],
)
def test_a_sweep_is_known(flags, settings, expected):
    assert is_multirun(flags, settings) is expected
    names = normalise([*settings, "run=a=1,b"], flags)
    assert ("run='a=1',b" in names) is expected


def test_runs_may_be_several():
    assert quote_text("runs=[a=1,b]", multirun=False) == "runs=['a=1',b]"
    assert quote_text("runs=a=1,b", multirun=False) == "runs=['a=1',b]"
    assert quote_text("runs=a=1,b", multirun=True) == "runs='a=1',b"
    Path("[a,b]").mkdir()
    assert value(quote_text("runs=[a,b]", multirun=False)) == "[a,b]"


def test_a_folder_of_hydras_is_not_called_tilde(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert value(quote_text("hydra.run.dir=~/runs", multirun=False)) == f"{tmp_path}/runs"
    assert value(quote_text("store=~/s", multirun=False)) == "~/s"  # read with the user's folder in its place later


def test_every_free_text_of_the_schema_is_known():
    """A setting that takes any text must be one of those that are quoted, or a choice among known names."""
    choices = {"attribution.name", "objective", "export.method", "compare.reference", "trainer.strategy"}
    found = set()

    def walk(group, prefix):
        for name, field in group.model_fields.items():
            kind = field.annotation
            if isinstance(kind, type) and hasattr(kind, "model_fields"):
                walk(kind, f"{prefix}{name}.")
            elif kind in (str, str | None, str | list[str] | None):
                found.add(f"{prefix}{name}")

    walk(Settings, "")
    assert {"run", "runs", "store", "name", "export.file", "target.weights", "prune.runs"} <= found
    assert {key for key in found if not TEXT.fullmatch(key)} == choices


@pytest.mark.parametrize("setting", ["training.loss._target_=a=b", "compare.reference=größe", "export.method=it's $x"])
def test_the_words_to_type_are_read_by_shell_and_hydra(setting, capsys):
    assert main([setting]) == 2
    typed = words_to_type(setting)
    assert capsys.readouterr().err == (
        f"error: {setting}: not a setting; write key=value; if the value is text, type {typed}\n"
    )
    seen = subprocess.run(["sh", "-c", f"printf %s {typed}"], capture_output=True, text=True, check=True).stdout
    assert value(seen) == setting.partition("=")[2]


@pytest.mark.parametrize("setting", ["seed", "seed==3", "analysis.percents=[1,2", "export.strengths={blur: 0"])
def test_quotes_are_no_help_for_these(setting):
    assert words_to_type(setting) is None


def test_compose_takes_paths_too(tmp_path):
    (tmp_path / "a=b" / "network").mkdir(parents=True)
    (tmp_path / "a=b" / "network" / "mine.yaml").write_text("_target_: faig_lab.networks.SRResNet\nfeatures: 5\n")
    cfg = compose(["network=mine", "target.weights=epoch=3.ckpt"], tmp_path / "a=b")
    assert (cfg.network.features, cfg.target.weights) == (5, "epoch=3.ckpt")


@pytest.fixture
def seen(monkeypatch):
    """The configurations that reach the pipeline."""
    calls = []
    replace_study(monkeypatch, lambda cfg, folder: calls.append((cfg, folder)))
    return calls


def test_a_single_run_and_a_sweep(seen, tmp_path):
    names = ["epoch=3-step=10.ckpt", "net (1).ckpt"]
    for name in (*names, "a,b.ckpt"):
        (tmp_path / name).touch()
    assert main(["target.weights=epoch=3-step=10.ckpt", "hydra.run.dir=größe #1", "name=größe"]) == 0
    assert main(["target.weights=a,b.ckpt", "hydra.run.dir=x"]) == 0
    assert main(["-m", f"target.weights={','.join(names)}", "hydra.sweep.dir=s=1"]) == 0
    found = [(cfg.target.weights, folder.relative_to(tmp_path).as_posix()) for cfg, folder in seen]
    assert found == [(names[0], "größe #1"), ("a,b.ckpt", "x"), (names[0], "s=1/0"), (names[1], "s=1/1")]
    assert seen[0][0].name == "größe"
