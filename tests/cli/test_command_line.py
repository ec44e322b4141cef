"""The command line as a user meets it: both start forms, help, one-line errors, exit codes."""

import logging
import os
import signal
import subprocess
import sys
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
from omegaconf import DictConfig, OmegaConf
from tiny_case import replace_study

import faig_lab
from faig_lab.__main__ import main
from faig_lab.cli.arguments import normalise
from faig_lab.config.messages import FOLDER
from faig_lab.errors import UserError

Run = Callable[[DictConfig, Path], None]


def start(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """`python -m faig_lab` in a process of its own."""
    source = str(Path(faig_lab.__file__).resolve().parents[1])
    known = {name: value for name, value in os.environ.items() if name != "HYDRA_FULL_ERROR"}
    return subprocess.run(
        [sys.executable, "-m", "faig_lab", *arguments],
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        env={**known, "PYTHONPATH": source, **environment},
        check=False,
    )


@pytest.fixture
def pipeline(monkeypatch: pytest.MonkeyPatch) -> Callable[[Run], None]:
    """Put a stand-in where the pipeline is."""
    return partial(replace_study, monkeypatch)


def refused(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """The line that `arguments` are refused with."""
    assert main(arguments) == 2
    output = capsys.readouterr()
    assert output.out == ""
    assert output.err.startswith("error: ")
    assert output.err.count("\n") == 1
    # Hydra's reasons name tokens of its grammar.
    assert not any(word in output.err for word in ("EOF", "expecting", "viable", "Lexer", "EQUAL", "'['"))
    return output.err


def shown(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """What `arguments` print in this process."""
    assert main(arguments) == 0
    return capsys.readouterr().out


@pytest.mark.parametrize("form", ["experiment=blur_noise", "+experiment=blur_noise", "++experiment=blur_noise"])
def test_start_forms(form: str, capsys: pytest.CaptureFixture[str]) -> None:
    cfg = OmegaConf.create(shown(capsys, "--cfg", "job", form, "seed=3"))
    assert isinstance(cfg, DictConfig)
    assert (cfg.name, cfg.seed, cfg.network.features) == ("blur_noise", 3, 24)


def test_no_arguments_and_help_are_the_same() -> None:
    bare, asked = start(), start("--help")
    assert bare.returncode == asked.returncode == 0
    assert bare.stdout == asked.stdout
    assert asked.stderr == ""
    assert asked.stdout.count("python -m faig_lab") >= 6
    for words in ("FAIG", "report.html", "--cfg job", "--config-dir", "traceback=true", str(FOLDER)):
        assert words in asked.stdout
    for group in ("data: div2k, embedded, folder, paired", "network: spandrel, srcnn_style, srcnn_style_small, srres"):
        assert f"\n{group}" in asked.stdout


def test_one_group_can_be_shown(capsys: pytest.CaptureFixture[str]) -> None:
    assert "headline_percent: 1" in shown(capsys, "--cfg", "job", "--package", "analysis")


def test_own_config_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "own" / "experiment").mkdir(parents=True)
    (tmp_path / "own" / "experiment" / "mine.yaml").write_text(
        "# @package _global_\ndefaults:\n  - blur_noise\n  - override /training: paper\nname: mine\n"
    )
    own = ("--config-dir", str(tmp_path / "own"))
    job = shown(capsys, *own, "+experiment=mine", "--cfg", "job")
    assert "name: mine" in job
    assert "iterations: 1000000" in job
    assert "mine" in shown(capsys, *own, "--help")


def test_closed_output_is_no_traceback() -> None:
    source = str(Path(faig_lab.__file__).resolve().parents[1])
    command = [sys.executable, "-m", "faig_lab", "--cfg", "job"]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env={**os.environ, "PYTHONPATH": source}
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 141


@pytest.mark.parametrize(
    ("argument", "expected"),
    [
        (
            "network=srresnet_smal",
            "network: unknown option 'srresnet_smal'; did you mean srresnet_small? (choices: spandrel, sr",
        ),
        ("experiment=blur_nois", "did you mean blur_noise?"),
        (
            "degradation=[noise,blr]",
            "degradation: unknown option 'blr'; did you mean blur? (choices: all_in_one, anisotropic_blur, ",
        ),
        ("degradation/downsample=bicubc", "degradation/downsample: unknown option 'bicubc'; did you mean bicubic?"),
        ("netwrok=srresnet", "netwrok: unknown key; did you mean network?"),
        ("sgima=3", "sgima: unknown key; did you mean degradation.parts.blur.sigma?"),
        ("degradation.parts.blur.sgima=3", "degradation.parts.blur.sgima: unknown key; did you mean sigma?"),
        ("+degradation.parts.blur.sgima=3", "degradation.parts.blur.sgima: unknown key of GaussianBlur; did you"),
        ("network.depth=[1]", "network.depth: unknown key; network has: _target_, blocks, features, scale"),
        ("training.baseline={iteration: 3}", "training.baseline.iteration: unknown key; did you mean iterations?"),
        ("nothing.at.all=1", "nothing: unknown key; the root has: "),
        ("+seed=1", "seed: the key exists already; write seed=... without the +"),
        ("~sede", "sede: unknown key; did you mean seed?"),
        ("seed==3", "seed==3: not a setting; write key=value"),
        ("seed", "seed: not a setting; write seed=value\n"),
        ("export.strengths={blur: 0", "export.strengths={blur: 0: not a setting; write key=value"),
        ("seed:1", "seed:1: not a setting; write seed=value\n"),
        ("data.rot", "data.rot: not a setting; write "),
        ("atribution", "atribution: not a setting; write attribution=value\n"),
        ("=3", "=3: not a setting; write key=value"),
        ("-s", "-s: unknown flag; --help lists all flags\n"),
        ("--m", "--m: unknown flag"),
        ("hydra.lancher=x", "hydra.lancher: unknown key; did you mean launcher?"),
        ("hydra.run.dirr=x", "hydra.run.dirr: unknown key; did you mean dir?"),
        ("hydra.sweep.drs=x", "hydra.sweep.drs: unknown key; "),
        ("analysis.percents=[1,2", "analysis.percents=[1,2: not a setting; write key=value"),
        ("seed=-1", "seed: must be at least 0, not -1"),
        ("seed=1,2", "seed=1,2"),
        ("--hepl", "--hepl: unknown flag; did you mean --help?"),
        ("--multirn", "--multirn: unknown flag; did you mean --multirun?"),
        ("--nothing-like-it", "--nothing-like-it: unknown flag; --help lists all flags"),
        ("--seed=1", "--seed: a setting has no dashes; write seed=1"),
        ("--experiment=blur_noise", "--experiment: a setting has no dashes; write experiment=blur_noise"),
        ("--atribution=ig", "--atribution: a setting has no dashes; write attribution=ig"),
        ("--baseline.weights=x", "--baseline.weights: a setting has no dashes; write baseline.weights=x"),
        ("+experiments=blur_noise", "experiments: unknown key; did you mean experiment?"),
        ("experiments=blur_noise", "experiments: unknown key; did you mean experiment?"),
        ("++experimnt=blur_noise", "experimnt: unknown key; did you mean experiment?"),
        ("+attribution=ig", "attribution: a choice exists already; write attribution=ig without the +"),
        ("++network=srresnet", "network: a choice exists already; write network=srresnet without the +"),
        ("+trainer=cpu", "trainer: a choice exists already; write trainer=cpu without the +"),
        ("attribution=[a,b]", "attribution: attribution=[a,b] is a list, and a run has one attribution; write -m attr"),
        ("network=[srresnet,srcnn_style]", "write -m network=srresnet,srcnn_style for a run with each"),
        ("data=[folder]", "data: data=[folder] is a list"),
        ("attribution=FAIG", "attribution: unknown option 'FAIG'; did you mean faig?"),
        ("network=SRResNet", "network: unknown option 'SRResNet'; did you mean srresnet?"),
        ("SEED=1", "SEED: unknown key; did you mean seed?"),
        ("data.train_dir=.", "data.train_dir: unknown key here; it belongs to data=folder"),
        ("data.hr_dir=.", "data.hr_dir: unknown key here; it belongs to data=paired"),
        ("data.lr_dirs.blur=.", "data.lr_dirs: unknown key here; it belongs to data=paired"),
        ("+data.train_dir=.", "data.train_dir: unknown key here; it belongs to data=folder"),
        ("network.pass_image=1", "network.pass_image: unknown key here; it belongs to network=srcnn_style or"),
        ("hydra/launcher=joblb", "did you mean joblib? (choices: basic, joblib, submitit_local, submitit_slurm)"),
        ("hydra/launcher=submitit_slrm", "did you mean submitit_slurm?"),
        ("hydra/launcher=slurm", "choices: basic, joblib, submitit_local, submitit_slurm"),
        ("target.weights=..", "target.weights: .. is a folder, not a file"),
        ("store=${oc.env:FAIG_LAB_NOWHERE}", "error: store: KeyError raised while resolving interpolation"),
        ("--cfg=jobb", "argument --cfg/-c: invalid choice: 'jobb'"),
        ("--config-dir=nowhere", "--config-dir: nowhere: no such folder"),
    ],
)
def test_refusals(argument: str, expected: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert expected in refused(capsys, argument)


def test_words_after_a_flag_that_is_a_setting(capsys: pytest.CaptureFixture[str]) -> None:
    assert "write seed=1\n" in refused(capsys, "--seed", "1")
    assert "write experiment=blur_noise\n" in refused(capsys, "--experiment", "blur_noise", "-m")
    assert "write run=outputs/x\n" in refused(capsys, "--run", "outputs/x")
    assert "write seed=...\n" in refused(capsys, "--seed", "network=srresnet")


def test_choices_twice(capsys: pytest.CaptureFixture[str]) -> None:
    line = refused(capsys, "+network=srresnet", "network=srresnet_small")
    assert line == "error: network: chosen 2 times (network=srresnet network=srresnet_small); leave one choice\n"
    names = refused(capsys, "+nothing=1").split("the root has: ")[1].split(", ")
    assert len(names) == len(set(names))


def test_keys_of_a_network_of_ones_own(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "own" / "network").mkdir(parents=True)
    (tmp_path / "own" / "network" / "mine.yaml").write_text(
        "_target_: faig_lab.networks.SRCNNStyle\nwidht_of_all: 3\nscale: 2\n"
    )
    for form in (["--config-dir", "own"], ["--config-dir=own"], ["-cd", "own"]):
        line = refused(capsys, *form, "network=mine", "network.width=3")
        assert line == "error: network.width: unknown key; network has: _target_, scale, widht_of_all\n"
    line = refused(capsys, "-cd", "own", "network=mine", "network.width_of_all=3")
    assert line == "error: network.width_of_all: unknown key; did you mean widht_of_all?\n"
    line = refused(capsys, "--config-dir=own", "network.widht_of_all=3")
    assert line == "error: network.widht_of_all: unknown key here; it belongs to network=mine\n"
    assert "did you mean mine?" in refused(capsys, "--config-dir=own", "network=mien")


def test_keys_of_the_networks_of_a_sweep(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "own" / "network").mkdir(parents=True)
    (tmp_path / "own" / "network" / "mine.yaml").write_text("_target_: x.Y\nbreadth: 3\n")
    mine = ["-m", "--config-dir=own", "network=mine,srresnet"]
    assert refused(capsys, *mine, "network.bredth=3") == "error: network.bredth: unknown key; did you mean breadth?\n"
    two = ["-m", "network=two_branch,two_branch_small"]
    assert "network has: _target_, blocks, degradations, " in refused(capsys, *two, "network.q=3")
    way = "error: network.{}: Hydra looks for it in the default network; in a sweep write ++network.{}=...\n"
    assert refused(capsys, *mine, "network.breadth=4") == way.format("breadth", "breadth")
    key = "predictor_features"
    assert refused(capsys, *two, f"network.{key}=4") == way.format(key, key)


def test_the_way_past_the_default_network_of_a_sweep(pipeline: Callable[[Run], None]) -> None:
    seen: list[int] = []
    pipeline(lambda cfg, folder: seen.append(cfg.network.predictor_features))
    assert main(["-m", "network=two_branch,two_branch_small", "++network.predictor_features=3"]) in (0, 1)
    assert seen == [3, 3]


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["-m", "name=a/b"], "name: 'a/b' becomes the name of a file"),
        (["-m", "name=../x", "seed=0,1"], "name: '../x' becomes the name of a file"),
        (["-m", "name=a+b"], "name: 'a+b' becomes the name of a file"),
        (["-m", "name="], "name: '' becomes the name of a file"),
        (["-m", "task=compare", "runs=nowhere"], "task: compare is one command for all runs and no sweep; leave out"),
        (["-m", "task=store"], "task: store is one command"),
        (["name=a/b"], "name: "),
        (["name=../x"], "name: "),
        (["task=compare", "runs=nowhere"], "runs: nowhere: no such folder"),
        (["task=compare", "runs=nowhere", "name=deep"], "runs: nowhere"),
        (["task=analyse", "run=nowhere"], "run: nowhere: no such folder"),
        (["task=export", "run=nowhere", "export.file=x.pt", "export.strengths.blur=0"], "run: nowhere"),
        (["hydra.run.dir=deep/er/x", "seed=-1"], "seed: must be at least 0"),
    ],
)
def test_a_refused_command_leaves_nothing(
    arguments: list[str], expected: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "work").mkdir()
    os.chdir(tmp_path / "work")
    assert expected in refused(capsys, *arguments)
    assert [path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*")] == ["work"]
    Path("deep").mkdir()
    Path("deep/notes.txt").touch()
    refused(capsys, *arguments)
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["deep", "notes.txt", "work"]


def test_a_run_that_is_refused_late_leaves_no_folder(
    pipeline: Callable[[Run], None], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(cfg: DictConfig, folder: Path) -> None:
        raise UserError("data.x: broken")

    pipeline(refuse)
    assert refused(capsys, "hydra.run.dir=here/there", "seed=1") == "error: data.x: broken\n"
    assert not (tmp_path / "here").exists()


def test_the_pipeline_gets_configuration_and_folder(pipeline: Callable[[Run], None]) -> None:
    calls: list[tuple[int, Path]] = []
    pipeline(lambda cfg, folder: calls.append((cfg.seed, folder)))
    assert main(["experiment=blur_noise", "seed=5"]) == 0
    ((seed, folder),) = calls
    assert seed == 5
    assert folder.is_absolute()
    assert folder.parent == Path("outputs/blur_noise").resolve()


@pytest.mark.parametrize(
    ("error", "code", "shown"),
    [
        (UserError("data.x: broken"), 2, "error: data.x: broken\n"),
        (RuntimeError("two\nlines"), 1, "error: RuntimeError: two lines (traceback in "),
    ],
)
def test_errors_of_a_run(
    error: Exception,
    code: int,
    shown: str,
    pipeline: Callable[[Run], None],
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:
    def fail(cfg: DictConfig, folder: Path) -> None:
        (folder / "config.yaml").touch()  # as a run does that begins
        raise error

    pipeline(fail)
    assert main(["hydra.run.dir=here", "seed=1"]) == code
    output = capsys.readouterr().err
    assert output.startswith(shown)
    assert output.count("\n") == 1
    assert "Traceback" in (tmp_path / "here" / "run.log").read_text()
    assert main(["hydra.run.dir=here", "traceback=true"]) == code
    assert "Traceback" in capsys.readouterr().err


def test_hydras_own_wish_for_tracebacks(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("HYDRA_FULL_ERROR", "1")
    assert main(["seed=-1"]) == 2
    assert "Traceback" in capsys.readouterr().err


def test_processes_of_a_run_see_the_environment_as_it_was(pipeline: Callable[[Run], None]) -> None:
    seen: list[bool] = []
    pipeline(lambda cfg, folder: seen.append("HYDRA_FULL_ERROR" in os.environ))
    assert main(["seed=1"]) == 0
    assert seen == [False]
    assert "HYDRA_FULL_ERROR" not in os.environ


def test_interruption(pipeline: Callable[[Run], None], capsys: pytest.CaptureFixture[str]) -> None:
    def interrupt(cfg: DictConfig, folder: Path) -> None:
        raise KeyboardInterrupt

    pipeline(interrupt)
    assert main(["seed=1"]) == 130
    assert capsys.readouterr().err == "interrupted; no work was started; repeat the command\n"
    assert not Path("outputs").exists()


@pytest.mark.parametrize(
    ("place", "typed"), [("here", "resume=here"), ("it's a=b", "'resume=it'\"'\"'s a=b'"), ("/absolute", None)]
)
def test_sigterm_says_how_to_go_on(
    place: str, typed: str | None, pipeline: Callable[[Run], None], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def end(cfg: DictConfig, folder: Path) -> None:
        (folder / "config.yaml").touch()
        os.kill(os.getpid(), signal.SIGTERM)

    pipeline(end)
    if typed is None:
        (tmp_path / "work").mkdir()
        os.chdir(tmp_path / "work")
        place = str(tmp_path / "absolute")
        typed = f"resume={place}"
    assert main([f"hydra.run.dir={place}", "seed=1"]) == 143
    assert capsys.readouterr().err == f"terminated; continue with: python -m faig_lab {typed}\n"


@pytest.mark.usefixtures("_interruptible")
@pytest.mark.parametrize(("number", "word"), [(signal.SIGTERM, "terminated"), (signal.SIGINT, "interrupted")])
def test_an_ended_sweep_says_how_to_go_on(
    number: int, word: str, pipeline: Callable[[Run], None], capsys: pytest.CaptureFixture[str]
) -> None:
    def end(cfg: DictConfig, folder: Path) -> None:
        (folder / "config.yaml").touch()
        os.kill(os.getpid(), number)

    pipeline(end)
    assert main(["-m", "seed=1,2", "hydra.sweep.dir=swept all"]) in (130, 143)
    last = capsys.readouterr().err.splitlines()[-1]
    assert last == f"{word}; continue with: python -m faig_lab 'sweep=swept all'"


def test_warnings_say_that_they_are(pipeline: Callable[[Run], None], capsys: pytest.CaptureFixture[str]) -> None:
    def warn(cfg: DictConfig, folder: Path) -> None:
        logging.getLogger("faig_lab.any").warning("a barrier")
        logging.getLogger("another.package").warning("deprecated")
        logging.getLogger("faig_lab.any").info("all is well")
        with warnings.catch_warnings():
            warnings.simplefilter("always")
            warnings.warn("two\nlines", UserWarning, stacklevel=1)

    pipeline(warn)
    assert main(["hydra.run.dir=here", "seed=1"]) == 0
    lines = capsys.readouterr().err.splitlines()
    assert lines[:3] == ["warning: a barrier", "warning: deprecated", "all is well"]
    assert lines[3].startswith("warning: two lines (UserWarning, test_command_line.py:")
    assert len(lines) == 4
    assert "WARNING" in Path("here/run.log").read_text()


def test_multirun_goes_on_after_a_failed_job(
    pipeline: Callable[[Run], None], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    done: list[int] = []

    def run(cfg: DictConfig, folder: Path) -> None:
        if cfg.seed == 0:
            raise UserError("data.x: broken")
        done.append(cfg.seed)

    pipeline(run)
    assert main(["-m", "+experiment=blur_noise", "seed=0,1", "hydra.sweep.dir=sweep"]) == 2
    assert done == [1]
    assert "error: data.x: broken" in capsys.readouterr().err
    assert "data.x: broken" in (tmp_path / "sweep" / "0" / "run.log").read_text()
    assert main(["seed=1,2", "-m", "experiment=blur_noise", "hydra.sweep.dir=sweep"]) == 0
    assert done == [1, 1, 2]


def test_normalise() -> None:
    given = ["-m", "+experiment=a,b", "++experiment=a", "+experimentx=1", "data.lr_dirs.blur=B", "seed=+experiment="]
    wanted = ["-m", "experiment=a,b", "experiment=a", "+experimentx=1", "++data.lr_dirs.blur=B", "seed=+experiment="]
    assert normalise(given) == wanted
    assert normalise(wanted) == wanted
