"""What a machine does to runs, as a user meets it: kills, locks, locales, disks, terminals.

Every test starts `python -m faig_lab` and says in one line what happened:
`pytest -m slow -s tests/e2e/test_robustness.py`.
"""

import csv
import os
import random
import re
import signal
import subprocess
import sys
import time
from functools import partial

import numpy as np
import process_case
import pytest
from PIL import Image
from run_files import assert_same_numbers, read
from tiny_case import tiny

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3600)]

TINY = tiny(
    *("experiment=blur_noise", "analysis=masking", "analysis.percents=[1]", "data.probe_crops=2"),
    *("training.patch_size=16", "training.baseline.iterations=4", "training.target.iterations=8"),
    "training.validate_every=4",
)
LONG = [
    *("training.target.iterations=400", "training.checkpoint_every=20", "training.channels_last=true"),  # two stores
    "attribution.points=96",
]
SEED = 13

DYING = """\
import os, signal
from pathlib import Path
from faig_lab.networks import SRResNet

class Dying(SRResNet):
    steps = 0  # of this process

    def forward(self, lr):
        Dying.steps += self.training
        fuse = Path(__file__).with_name("fuse")
        if Dying.steps > 15 and fuse.exists():
            fuse.unlink()  # of two processes at once one dies, and the other fails
            os.kill(os.getpid(), signal.SIGKILL)
        return super().forward(lr)
"""


start = partial(process_case.finished, OMP_NUM_THREADS="1")


def succeeded(root, *arguments, **more):
    """The outcome of a command that ends well."""
    done = start(root, *arguments, **more)
    assert done.returncode == 0, done.stderr
    return done


def last(done):
    """The last line on stderr."""
    return done.stderr.strip().splitlines()[-1]


def say(line):
    print(f"\n{line}", flush=True)


def assert_same_finished(one, two):
    assert_same_numbers(one, two)
    assert read(one / "status.json")["state"] == read(two / "status.json")["state"] == "done"


# Kills


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A run that nobody interrupts."""
    root = tmp_path_factory.mktemp("whole")
    succeeded(root, *TINY, *LONG, "store=store", "hydra.run.dir=run")
    return root / "run"


@pytest.fixture(scope="module")
def short(tmp_path_factory):
    """A run of a few steps; its store is beside it."""
    root = tmp_path_factory.mktemp("short")
    succeeded(root, *TINY, "store=store", "hydra.run.dir=run")
    return root / "run"


def has_begun(stage, root, attempt, since):
    """Whether a run is at the work of a stage: scores filters, or has written a checkpoint of the target since then."""
    file = root / "run" / "status.json"
    status = read(file) if file.is_file() else {}
    if status.get("attempt", 0) <= attempt or status["stage"] != stage:
        return False
    checkpoints = (root / "store").glob(".*-target-*.partial/training.ckpt")
    return stage != "target" or any(path.stat().st_mtime > since for path in checkpoints)


def kill_in(stage, root, delay, *arguments):
    """Start a run, kill it `delay` seconds after it has begun with the work of a stage; the stage that it died in."""
    file = root / "run" / "status.json"
    attempt, since = read(file)["attempt"] if file.is_file() else 0, time.time()
    process = process_case.started(root, *arguments, OMP_NUM_THREADS="1")
    while process.poll() is None and not has_begun(stage, root, attempt, since):
        time.sleep(0.01)
    time.sleep(delay)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    return read(file)["stage"]


@pytest.mark.parametrize("number", range(3))
def test_four_kills_in_target_and_attribution(whole, tmp_path, number):
    """Twelve kills in all: each run twice while the target trains, and twice while filters are scored."""
    rng, seconds, hits = random.Random(SEED + number), read(whole / "metrics.json"), []
    arguments = [*TINY, *LONG, "store=store", "hydra.run.dir=run"]
    for stage in ("target", "target", "attribution", "attribution"):
        hits.append(kill_in(stage, tmp_path, rng.uniform(0, 0.35 * seconds[f"seconds/{stage}"]), *arguments))
        arguments = ["resume=run"]
    succeeded(tmp_path, *arguments)
    say(f"killed in {hits}; the fifth attempt ended well")
    assert read(tmp_path / "run" / "status.json")["attempt"] == 5
    assert_same_finished(tmp_path / "run", whole)
    assert {"target", "attribution"} <= set(hits)


# A sweep with a job that the system kills


def sweep_rows(root):
    with (root / "sweep" / "sweep.csv").open(newline="", encoding="utf-8") as file:
        return [row["state"] for row in csv.DictReader(file)]


def swept(root, *launcher):
    """A sweep over three seeds, of which a job kills itself in training (a job trains 12 steps); its jobs, twice."""
    root.mkdir()
    (root / "dying.py").write_text(DYING)
    asked = [*TINY, "network._target_=dying.Dying", "seed=0,1,2", "store=store", "sweep=sweep", *launcher]
    (root / "fuse").touch()
    first = start(root, "-m", *asked)
    assert first.returncode != 0
    assert not (root / "fuse").exists()
    table = sweep_rows(root) if (root / "sweep" / "sweep.csv").is_file() else None
    succeeded(root, "sweep=sweep", "trust=true")
    return first, table, sweep_rows(root)


def test_a_sweep_with_a_killed_job(tmp_path):
    pytest.importorskip("joblib")
    first, table, after = swept(tmp_path / "basic")
    say(f"sweep, one process: rc {first.returncode}, table {table}; sweep=sweep → {after}")
    assert first.returncode == -signal.SIGKILL
    assert after == ["done"] * 3
    first, table, after = swept(tmp_path / "joblib", "hydra/launcher=joblib", "hydra.launcher.n_jobs=2")
    say(f"sweep, joblib: rc {first.returncode}, table {table}; {last(first)}; sweep=sweep → {after}")
    assert "killed" in table
    # Not the last line: the tracker of joblib's processes warns at the very end of what a killed one left.
    assert any(
        line.endswith("jobs are not done; again: python -m faig_lab sweep=sweep") for line in first.stderr.splitlines()
    )
    assert "Traceback" not in first.stderr
    assert after == ["done"] * 3
    for number in range(3):
        assert_same_finished(tmp_path / "joblib" / "sweep" / str(number), tmp_path / "basic" / "sweep" / str(number))


# Locks that nobody holds


@pytest.mark.parametrize("content", ["", "4194305\n", "4194305@another-host\n"], ids=["empty", "pid", "host"])
def test_a_stale_lock(short, tmp_path, content):
    locks = list((short.parent / "store").glob(".*.lock"))
    assert locks
    (tmp_path / "store").mkdir()
    for lock in locks:
        (tmp_path / "store" / lock.name).write_text(content)
    done = succeeded(tmp_path, *TINY, "store=store", "hydra.run.dir=run")
    assert "waiting" not in done.stderr
    assert_same_finished(tmp_path / "run", short)
    say(f"{len(locks)} stale locks with {content!r}: no waiting, same bits")


# Locales


@pytest.fixture
def photographs(tmp_path):
    """Folders of photographs whose names are not ASCII, one of them not even UTF-8."""
    rng = np.random.default_rng(0)
    for side in ("train", "probe", "test"):
        (tmp_path / side).mkdir()
        for name in (f"{side} ä☃".encode(), side.encode() + b"\xe4"):
            image = Image.fromarray(rng.integers(0, 256, (60, 68, 3), dtype=np.uint8))
            with open(os.fsencode(tmp_path / side) + b"/" + name + b".png", "wb") as file:  # noqa: PTH123 - bytes
                image.save(file, "PNG")
    return ["data=folder", *(f"data.{side}_dir={side}" for side in ("train", "probe", "test")), "data.prepared=decoded"]


ASCII = {"LANG": "C", "LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}


def test_locales(photographs, tmp_path):
    for name, locale in {"C": {"LANG": "C", "LC_ALL": "C"}, "ascii": ASCII, "utf8": {"LC_ALL": "C.UTF-8"}}.items():
        done = succeeded(tmp_path, *TINY, *photographs, f"store=store-{name}", f"hydra.run.dir={name}", **locale)
        assert "UnicodeEncodeError" not in done.stderr
    for name in ("C", "ascii"):
        assert_same_finished(tmp_path / name, tmp_path / "utf8")
    refused = start(tmp_path, *TINY, "hydra.run.dir=ä", **ASCII)
    assert refused.returncode == 2
    assert last(refused).endswith("set PYTHONUTF8=1, or LC_ALL=C.UTF-8")
    say(f"LANG=C, and without UTF-8: same bits as in UTF-8; a path: {last(refused)}")


# umask, disks


def test_umask(tmp_path):
    private = ["sh", "-c", 'umask 077; exec "$@"', "sh"]
    succeeded(tmp_path, *TINY, "store=store", "hydra.run.dir=run", before=private)
    paths = [path for path in tmp_path.rglob("*") if "__pycache__" not in path.parts]
    open_ones = [path for path in paths if path.stat().st_mode & 0o077]
    again = succeeded(tmp_path, *TINY, "store=store", "hydra.run.dir=again")
    assert (open_ones, "already trained" in again.stderr) == ([], True)
    say(f"umask 077: done; none of {len(paths)} files and folders is open to others")


def in_namespace(script):
    """The beginning of a command that works on mounts of its own, which are gone when it has ended."""
    begin = ["unshare", "--map-root-user", "--mount", "sh", "-c"]
    if subprocess.run([*begin, "mount -t tmpfs none /mnt"], capture_output=True, check=False).returncode:
        pytest.skip("mounts of its own are not allowed here")
    return [*begin, script, "sh"]


READ_ONLY = 'mount --bind {0} {0} && mount -o remount,ro,bind {0} && exec "$@"'


@pytest.mark.parametrize("key", ["hydra.run.dir", "store"])
def test_a_read_only_folder(key, tmp_path):
    (tmp_path / "place").mkdir()
    folders = {"hydra.run.dir": "run", "store": "store"} | {key: "place/below"}
    settings = [f"{name}={folder}" for name, folder in folders.items()]
    done = start(tmp_path, *TINY, *settings, before=in_namespace(READ_ONLY.format(tmp_path / "place")))
    say(f"read-only {key}: rc {done.returncode}, {last(done)}")
    assert done.returncode == 2
    assert last(done).startswith(f"error: {key}: ")
    assert last(done).endswith("cannot be written to (Read-only file system); choose another folder")
    assert "Traceback" not in done.stderr


def test_a_read_only_store_that_has_the_networks(short, tmp_path):
    store = short.parent / "store"
    before = in_namespace(READ_ONLY.format(store))
    done = succeeded(tmp_path, *TINY, f"store={store}", "hydra.run.dir=run", before=before)
    say(f"read-only store that has both networks: {last(done)}")
    succeeded(tmp_path, "task=store", f"store={store}", before=before)
    assert_same_finished(tmp_path / "run", short)


FULL = """\
mount -t tmpfs -o size={size} none {disk} || exit 99
"$@"; echo "rc $?" >> {out}/codes
cp {disk}/run/status.json {out}/status.json 2>/dev/null
mount -o remount,size=200m {disk}
{again}; echo "rc $?" >> {out}/codes
cp -r {disk}/. {out}/copy
"""


@pytest.mark.parametrize(("key", "size"), [("hydra.run.dir", "300k"), ("hydra.run.dir", "60k"), ("store", "40k")])
def test_a_disk_that_fills_up(whole, key, size, tmp_path):
    """A real one, in the middle of writing; with more space the run goes on."""
    disk, out = tmp_path / "disk", tmp_path / "out"
    disk.mkdir()
    out.mkdir()
    folders = {"hydra.run.dir": "run", "store": "store"} | {key: "disk/run"}
    settings = [f"{name}={folder}" for name, folder in folders.items()]
    again = f"{sys.executable} -m faig_lab resume={folders['hydra.run.dir']}"
    script = FULL.format(size=size, disk=disk, out=out, again=again)
    done = start(tmp_path, *TINY, *LONG, *settings, before=in_namespace(script))
    errors = re.findall(r"^error: .*", done.stderr, re.MULTILINE)
    say(f"{key} on a disk of {size}: {errors[0] if errors else done.stderr[-300:]}")
    assert (out / "codes").read_text().split("\n")[:2] == ["rc 2", "rc 0"], done.stderr
    assert len(errors) == 1
    assert errors[0].startswith(f"error: {key}: no space left to write to {disk}/run ")
    assert "Traceback" not in done.stderr
    assert_same_finished(out / "copy" / "run" if key == "hydra.run.dir" else tmp_path / "run", whole)


# Terminals


def test_terminals(short, tmp_path):
    plain = succeeded(tmp_path, *TINY, "store=store-1", "hydra.run.dir=plain")
    assert not {"\r", "\x1b"} & set(plain.stdout + plain.stderr)
    typed = " ".join(process_case.command(*TINY, "store=store-2", "hydra.run.dir=terminal")).replace("[1]", "'[1]'")
    typed = f"stty cols 100 rows 40; {typed}"  # without a size there is no bar
    environment = process_case.environment(tmp_path, OMP_NUM_THREADS="1")
    shown = subprocess.run(
        ["script", "-qec", typed, "/dev/null"], capture_output=True, env=environment, cwd=tmp_path, check=False,
        encoding="utf-8", stdin=subprocess.DEVNULL,
    )  # fmt: skip
    assert shown.returncode == 0, shown.stdout
    bars = set(re.findall(r"(baseline|target|attribution): +\d+%", shown.stdout))
    assert bars == {"baseline", "target", "attribution"}
    assert_same_finished(short, tmp_path / "terminal")
    assert not {"\r", "\x1b"} & set((tmp_path / "terminal" / "run.log").read_text(encoding="utf-8"))
    say(f"TTY: bars for {sorted(bars)}; no TTY: no control character; same bits, no control character in run.log")
