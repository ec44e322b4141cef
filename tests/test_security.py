"""A stranger's run, sweep, store or file must not run code, lead elsewhere or fill the memory: the exploits."""

import csv
import io
import json
import logging
import pickle
import shutil
import socket
import struct
import sys
import zipfile
import zlib
from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch
import yaml
from omegaconf import OmegaConf
from PIL import Image
from weights_fixtures import Trap

import faig_lab
from faig_lab import files
from faig_lab.__main__ import main
from faig_lab.attribution import Attribution, load_attribution, save_attribution
from faig_lab.cli.arguments import compose
from faig_lab.cli.store import SOUND, survey
from faig_lab.data.div2k import _opened
from faig_lab.data.images import decode_image
from faig_lab.errors import UserError
from faig_lab.files import file_name
from faig_lab.filters import FilterLayout, load_patch, load_weights, save_weights
from faig_lab.networks import SRResNet
from faig_lab.plotting.pictures import read_tiles
from faig_lab.report.report import write_report
from faig_lab.runs.finished_runs import read
from faig_lab.runs.store import Entry
from faig_lab.runs.sweep import Job, write_jobs
from faig_lab.runs.tables import read_table, records, write_table
from faig_lab.training.plan import Trained

NETWORK = {"_target_": "faig_lab.networks.SRResNet", "scale": 2, "features": 4, "blocks": 1}


@pytest.fixture
def sprung(tmp_path):
    """What must not come into being."""
    return tmp_path / "sprung"


@pytest.fixture
def trap(tmp_path, sprung):
    """A file that makes `sprung` when torch.load believes it."""
    path = tmp_path / "trap.pt"
    path.write_bytes(pickle.dumps(Trap(sprung), protocol=2))
    return path


@pytest.fixture(scope="module")
def sound(tmp_path_factory):
    """A finished run of a tiny network, as far as it is read before anything is computed."""
    folder = tmp_path_factory.mktemp("sound") / "run"
    torch.manual_seed(0)
    network = SRResNet(features=4, blocks=1)
    layout = FilterLayout.of(network)
    for name in ("baseline", "target"):
        save_weights(folder / "weights" / f"{name}.pt", network.state_dict(), {"what": name})
    scores = {"faig": torch.randn(1, 2, len(layout), dtype=torch.float64)}
    save_attribution(
        Attribution(scores, ("blur", "noise"), layout),
        "faig",
        folder / "attribution",
        {"degradations": ["blur", "noise"]},
    )
    cfg = compose(["network.features=4", "network.blocks=1", "store=store"])
    (folder / "config.yaml").write_text(OmegaConf.to_yaml(cfg, resolve=True))
    (folder / "status.json").write_text('{"state": "done"}')
    (folder / "metrics.json").write_text("{}")
    return folder


@pytest.fixture
def run(sound, tmp_path):
    """A copy of it, to be changed."""
    return Path(shutil.copytree(sound, tmp_path / "run"))


def change(run, key, value):
    config = yaml.safe_load((run / "config.yaml").read_text())
    *parents, last = key.split(".")
    node = config
    for name in parents:
        node = node.setdefault(name, {})
    node[last] = value
    (run / "config.yaml").write_text(yaml.safe_dump(config))


def analyse(run, *settings):
    return main(["task=analyse", f"run={run}", "logger=none", "analysis=curves", *settings])


def export(run, *settings):
    written = [f"export.file={run.parent / 'new.pt'}", "export.strengths.blur=0"]
    return main(["task=export", f"run={run}", "logger=none", *written, *settings])


def resume(run, *settings):
    (run / "status.json").write_text(json.dumps({"state": "failed", "pid": 2**22 + 1, "host": socket.gethostname()}))
    return main([f"resume={run}", "logger=none", *settings])


def open_run(run, *settings):
    try:
        faig_lab.open_run(run, trust="trust=true" in settings)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


WAYS = [analyse, export, resume, open_run]


@pytest.fixture
def quiet():
    """Hydra's log files are closed again."""
    yield
    for handler in list(logging.getLogger().handlers):
        if isinstance(handler, logging.FileHandler):
            handler.close()
            logging.getLogger().removeHandler(handler)


pytestmark = pytest.mark.usefixtures("quiet")


@pytest.fixture
def way(request, tmp_path, monkeypatch):
    """Each way of opening a run folder, tried from another folder."""
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    return request.param


def tried(names, first, *others):
    """The first exploit by each way of opening a run, and the others by the quickest: all ways ask the same checks."""
    cases = [*((way, *first) for way in WAYS), *((open_run, *other) for other in others)]
    return pytest.mark.parametrize(("way", *names), cases, indirect=["way"])


def assert_refused(way, run, capsys, *words):
    capsys.readouterr()
    assert way(run) == 2
    output = capsys.readouterr().err
    assert "trust=true" in output
    for word in words:
        assert word in output


# Configurations


@tried(
    ("key", "extra"),
    ("training.loss", {}),
    ("network", {"scale": 2}),
    ("training.optimizer", {"_partial_": True}),
    ("analysis.studies.own", {}),
    ("data", {}),
    ("unknown.group", {}),
)
def test_a_stored_configuration_does_not_load_a_pickle(way, key, extra, run, trap, sprung, capsys):
    """The exploit: torch.load, told to believe the file."""
    change(run, key, {"_target_": "torch.load", "f": str(trap), "weights_only": False, **extra})
    assert_refused(way, run, capsys, f"{key}._target_", "torch.load")
    assert not sprung.exists()


def test_the_trap_is_a_real_one(run, trap, sprung):
    change(run, "network", {"_target_": "torch.load", "f": str(trap), "weights_only": False})
    with pytest.raises(Exception, match=r"."):
        faig_lab.open_run(run, trust=True)
    assert sprung.exists()


@tried(("place",), ("here",), ("run",))
def test_a_module_in_the_folder_is_not_imported(way, place, run, sprung, capsys, monkeypatch):
    folder = run if place == "run" else run.parent / "elsewhere"
    (folder / "evil_module.py").write_text(f"import os\nos.mkdir({str(sprung)!r})\nclass Net: pass\n")
    monkeypatch.syspath_prepend(folder)  # as `python -m` does with the folder that it is started in
    change(run, "network", {"_target_": "evil_module.Net", "scale": 2})
    assert_refused(way, run, capsys, "network._target_", "evil_module.Net")
    assert not sprung.exists()
    assert "evil_module" not in sys.modules


# What may be called is tested in tests/config/test_trust.py.
@tried(
    ("node",),
    ({"_target_": "torch.nn.L1Loss", "reduction": "${oc.env:HOME}"},),
    ({"_target_": "torch.nn.L1Loss", "reduction": [[{"_target_": "os.mkdir", "path": "SPRUNG"}]]},),
)
def test_no_other_way_leads_to_code(way, node, run, sprung, capsys):
    change(run, "training.loss", json.loads(json.dumps(node).replace("SPRUNG", str(sprung))))
    assert_refused(way, run, capsys, "training.loss")
    assert not sprung.exists()


@pytest.mark.parametrize("way", WAYS, indirect=True)
def test_a_run_cannot_ask_for_trust(way, run, trap, sprung, capsys):
    change(run, "training.loss", {"_target_": "torch.load", "f": str(trap), "weights_only": False})
    change(run, "trust", True)
    assert_refused(way, run, capsys, "training.loss._target_")
    assert not sprung.exists()


def test_what_the_user_names_may_be_called_again(run, capsys, monkeypatch, tmp_path):
    """A network of one's own: named on the command line, or trusted; without either it is refused."""
    (tmp_path / "own_for_trust.py").write_text("from faig_lab.networks import SRResNet\nclass Net(SRResNet): pass\n")
    monkeypatch.syspath_prepend(tmp_path)
    change(run, "network._target_", "own_for_trust.Net")
    assert export(run) == 2
    assert "trust=true" in capsys.readouterr().err
    assert export(run, "network._target_=own_for_trust.Net") == 0
    (tmp_path / "new.pt").unlink()
    assert export(run, "trust=true") == 0
    assert isinstance(faig_lab.open_run(run, trust=True).network, SRResNet)


def test_a_run_of_ours_is_opened(run):
    assert export(run) == 0
    assert faig_lab.open_run(run).method == "faig"


def test_a_comparison_imports_nothing(run, sprung, capsys):
    change(run, "network", {"_target_": "os.mkdir", "path": str(sprung)})
    write_table(
        run / "tables" / "specificity.csv",
        [{"method": "faig", "percent": 1.0, "masked": "blur", "own": 1.0, "other": 0.0, "specificity": 1.0}],
    )
    runs, left_out = read([run])
    assert (len(runs), left_out) == (1, [])
    write_report(run)
    assert not sprung.exists()
    (run / "tables" / "restoration.csv").symlink_to("/etc/passwd")
    runs, (left,) = read([run])
    assert runs == []
    assert "leads out of the run folder" in left.reason


# Links


@tried(("name",), ("tables",), ("figures",), ("weights/other.pt",), ("attribution/blur_extra.txt",))
def test_a_link_out_of_the_run_is_refused(way, name, run, capsys, tmp_path):
    (tmp_path / "mine").mkdir()
    (run / name).symlink_to(tmp_path / "mine")
    assert_refused(way, run, capsys, "leads out of the run folder")
    assert list((tmp_path / "mine").iterdir()) == []


# The store


def test_listing_a_store_builds_nothing(tmp_path, sprung, capsys):
    """The exploit: weights.yaml names what the listing built to compare with."""
    store = tmp_path / "store"
    state = dict(SRResNet(features=4, blocks=1).state_dict())
    for number, node in enumerate(
        [{"_target_": "os.mkdir", "path": str(sprung)}, {"_target_": "evil.Net"}, {"a": [{"_target_": "os.mkdir"}]}]
    ):
        Entry(store / f"SRResNet-target-{number}").publish(Trained(state, []), {"network": node, "seed": number})
    assert [one.state for one in survey(store, tmp_path)] == [SOUND] * 3
    assert main(["task=store", f"store={store}"]) == 0
    assert "3 entries" in capsys.readouterr().out
    assert not sprung.exists()


def test_a_pickle_in_a_store_is_not_believed(tmp_path, trap, sprung):
    store = tmp_path / "store"
    entry = Entry(store / "SRResNet-target-0")
    entry.publish(Trained(dict(SRResNet(features=4, blocks=1).state_dict()), []), {"network": NETWORK})
    (entry.folder / "weights.pt").write_bytes(trap.read_bytes())
    (found,) = survey(store, tmp_path)
    assert found.damaged
    assert not sprung.exists()


# Names


BAD = ["../x", "a/b", "..", ".hidden", "", "a\n", "/etc/x", "a\\b", "a b", "-a", "x" * 101, "C:x", "a\0"]


@pytest.mark.parametrize("name", [*BAD, "blur", "0801", "a.b-c_d", "größe", "blur+noise", "x" * 100])
def test_a_name_that_leads_elsewhere_is_none(name):
    if name not in BAD:
        assert file_name(name, "x") == name
        return
    with pytest.raises(UserError, match="becomes the name of a file"):
        file_name(name, "x")


@pytest.mark.parametrize(
    ("way", "group"),
    [
        *((way, "degradation.parts") for way in (analyse, export, resume)),  # to open a run writes nothing
        *((analyse, group) for group in ("attribution.methods", "analysis.studies")),
    ],
    indirect=["way"],
)
def test_a_stored_name_does_not_write_outside(way, group, run, capsys):
    """The exploit: a degradation called ../../x, whose table and index are then written there."""
    config = yaml.safe_load((run / "config.yaml").read_text())
    node = config
    for part in group.split("."):
        node = node[part]
    change(run, group, {**node, "../../x": next(iter(node.values()))})
    before = sorted(run.parent.iterdir())
    assert way(run) == 2
    assert "becomes the name of a file" in capsys.readouterr().err
    assert sorted(run.parent.iterdir()) == before


def test_scores_are_not_written_outside(tmp_path):
    layout = FilterLayout.of(SRResNet(features=4, blocks=1))
    scores = torch.zeros(1, 1, len(layout), dtype=torch.float64)
    for degradation, method in (("../x", "faig"), ("blur", "../x")):
        with pytest.raises(UserError, match="becomes the name of a file"):
            save_attribution(Attribution({method: scores}, (degradation,), layout), method, tmp_path / "a", {})
    assert list(tmp_path.iterdir()) == []


# The report


def private(path):
    """A picture that is none of the report's business."""
    Image.fromarray(np.full((8, 8, 3), 77, np.uint8)).save(path)
    return path


@pytest.mark.parametrize("how", ["absolute", "above", "link", "folder"])
def test_a_report_embeds_no_file_from_outside(how, run, tmp_path, caplog):
    """The exploit: index.json names a picture anywhere on the machine."""
    secret = private(tmp_path / "secret.png")
    grid = run / "figures" / "pictures" / "before_after_blur"
    grid.mkdir(parents=True)
    private(run / "figures" / "before_after_blur.png")
    names = {"absolute": str(secret), "above": "../../../../secret.png", "link": "0.png", "folder": "in/secret.png"}
    if how == "link":
        (grid / "0.png").symlink_to(secret)
    if how == "folder":
        (grid / "in").symlink_to(tmp_path)
    row = {"name": "a", "tiles": [{"title": "target", "psnr": 1.0, "file": names[how]}]}
    (grid / "index.json").write_text(json.dumps({"rows": [row]}))
    assert read_tiles(run, "before_after_blur") == []
    assert "its pictures are left out" in caplog.text
    private(grid / "own.png")
    row["tiles"][0]["file"] = "own.png"
    (grid / "index.json").write_text(json.dumps({"rows": [row]}))
    assert len(read_tiles(run, "before_after_blur")) == 1


def test_a_name_in_a_table_does_not_lead_the_report_out(run, tmp_path):
    """The names of degradations are those of the masking table."""
    private(tmp_path / "secret.png")
    name = "/../../../secret"
    place = {"method": "faig", "percent": 1.0, "masked": name, "degradation": name}
    write_table(run / "tables" / "masking.csv", [{**place, "image": "a", "draw": 0.0, "removed": 1.0}])
    (run / "figures" / "modulation_").mkdir(parents=True)
    write_report(run)
    assert "data:image" not in (run / "report.html").read_text()


# Tables


@pytest.mark.parametrize("name", ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1", "=cmd|' /C calc'!A0", "'=1", "''-1"])
def test_a_name_is_no_formula(name, tmp_path):
    path = tmp_path / "a.csv"
    rows = [{"image": name, "own": name, name: 1.5, "psnr": -1.5, "draw": -2, "share": -1e-7}]
    write_table(path, rows)
    header, cells = list(csv.reader(io.StringIO(path.read_bytes().decode(), newline="")))
    assert header[2][0] == cells[0][0] == cells[1][0] == "'"
    assert cells[2:] == ["1.5", "-1.5", "-2", "-1e-07"]  # numbers stay numbers
    assert records(read_table(path)) == rows


@pytest.mark.parametrize("name", ["blur", "0801", "it's", "'quoted'", "a=b", ""])
def test_other_names_stay_as_they_are(name, tmp_path):
    write_table(tmp_path / "a.csv", [{"image": name, "n": 1}])
    (row,) = list(csv.DictReader(io.StringIO((tmp_path / "a.csv").read_text())))
    assert row["image"] == name


def test_the_table_of_a_sweep_has_no_formula(tmp_path):
    path = write_jobs(tmp_path, [Job(0, "+a=1", "failed", 3, "=HYPERLINK()", "")])
    (row,) = list(csv.DictReader(io.StringIO(path.read_text())))
    assert (row["overrides"], row["error"], row["seconds"]) == ("'+a=1", "'=HYPERLINK()", "3")


# Archives


def bomb(path, name, size=200_000_000):
    """An archive of a few hundred kB that unpacks to 200 MB of zeros, behind a header where it takes one."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive, archive.open(name, "w", force_zip64=True) as file:
        if name.endswith(".npy"):
            header = {"descr": "|u1", "fortran_order": False, "shape": (size,)}
            np.lib.format.write_array_header_1_0(file, header)
        for _ in range(size // 1_000_000):
            file.write(bytes(1_000_000))
    return path


@pytest.fixture
def unpacked(monkeypatch):
    """Nothing of an archive may be unpacked."""
    monkeypatch.setattr(zipfile.ZipFile, "open", lambda *_, **__: pytest.fail("was unpacked"))
    monkeypatch.setattr(zipfile.ZipFile, "testzip", lambda *_: pytest.fail("was unpacked"))


def test_scores_that_unpack_to_gigabytes_are_refused(tmp_path, request):
    bomb(tmp_path / "scores.npz", "blur.npy")
    request.getfixturevalue("unpacked")
    layout = FilterLayout.of(SRResNet(features=4, blocks=1))
    with pytest.raises(UserError, match=r"would unpack to 200,000,\d+; it was not unpacked"):
        load_attribution(tmp_path, "faig", ("blur",), layout)
    network = SRResNet(features=4, blocks=1)
    with pytest.raises(UserError, match="it was not unpacked"):
        load_patch(tmp_path / "scores.npz", network.state_dict(), layout)


def test_weights_that_unpack_to_gigabytes_are_refused(tmp_path, monkeypatch):
    path = bomb(tmp_path / "weights.pt", "archive/data/0")
    monkeypatch.setattr(torch, "load", lambda *_, **__: pytest.fail("was unpacked"))
    with pytest.raises(UserError, match="it was not unpacked"):
        load_weights(path, SRResNet(features=4, blocks=1))


def test_photographs_that_unpack_to_gigabytes_are_refused(tmp_path, request):
    path = bomb(tmp_path / "DIV2K_train_HR.zip", "0001.png")
    request.getfixturevalue("unpacked")
    with pytest.raises(UserError, match=r"DIV2K_train_HR\.zip: .* it was not unpacked"), _opened(path):
        pass


def test_many_members_count_together(tmp_path):
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for number in range(6):
            archive.writestr(str(number), bytes(20_000_000))
    with zipfile.ZipFile(path) as archive, pytest.raises(files.RefusedError, match="unpack to 120,000,000"):
        files.check_unpacked(archive, path.stat().st_size)


def test_an_array_or_a_tensor_larger_than_its_data_is_refused(tmp_path):
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive, archive.open("blur.npy", "w") as file:
        np.lib.format.write_array_header_1_0(file, {"descr": "<f8", "fortran_order": False, "shape": (10**12,)})
        file.write(bytes(80))
    torch.save({"a": torch.zeros(1).expand(10**6, 10**6)}, tmp_path / "a.pt")
    for read_file, file in ((files.read_arrays, content.getvalue()), (files.read_tensors, tmp_path / "a.pt")):
        with pytest.raises(files.RefusedError, match="claims to be larger than its data"):
            read_file(file)


def png_16(width, height):
    """A 16-bit RGB PNG that claims a size, with next to no data."""

    def chunk(kind, content):
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", width, height, 16, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(99))) + chunk(b"IEND", b"")
    )


def tiff_16(width, height):
    """A 16-bit RGB TIFF of 4x4 pixels that claims another size."""
    file = io.BytesIO()
    tifffile.imwrite(file, np.zeros((4, 4, 3), np.uint16), photometric="rgb", compression="zlib", metadata=None)
    content = bytearray(file.getvalue())
    with tifffile.TiffFile(io.BytesIO(bytes(content))) as tiff:
        for name, value in (("ImageWidth", width), ("ImageLength", height)):
            tag = tiff.pages[0].tags[name]
            struct.pack_into("<H" if tag.dtype == 3 else "<I", content, tag.valueoffset, value)
    return bytes(content)


@pytest.mark.parametrize("make", [png_16, tiff_16])
def test_an_image_that_claims_gigabytes_is_refused(make, monkeypatch, tmp_path):
    monkeypatch.setattr("faig_lab.data.images.imagecodecs.png_decode", lambda *_: pytest.fail("was decoded"))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", None)  # Pillow's own limit is for 8-bit images and another message
    monkeypatch.setattr(tifffile.TiffPage, "asarray", lambda *_: pytest.fail("was decoded"))
    with pytest.raises(UserError, match=r"bytes would be 1,536,000,000 of pixels; it was not decoded"):
        decode_image(make(16_000, 16_000), tmp_path / "a")


def test_no_other_module_unpacks_what_may_be_a_strangers():
    """torch.load and np.load read what somebody packed; memory-mapped .npy files are read page by page."""
    package = Path(faig_lab.__file__).parent
    for path in package.rglob("*.py"):
        for line in path.read_text(encoding="utf-8").splitlines():
            if path.name != "files.py" and ("torch.load(" in line or "np.load(" in line):
                assert 'mmap_mode="r", allow_pickle=False' in line, f"{path}: {line}"


def test_sound_archives_are_read(tmp_path):
    zeros = {"a": np.zeros(10_000_000), "b": np.arange(3)}
    np.savez_compressed(tmp_path / "a.npz", **zeros)
    found = files.read_arrays((tmp_path / "a.npz").read_bytes())
    assert all(np.array_equal(found[name], zeros[name]) for name in zeros)
    shared = torch.randn(4, 4)
    torch.save({"a": shared, "b": shared.T, "c": [torch.zeros(3).expand(9, 3)]}, tmp_path / "a.pt")
    assert torch.equal(files.read_tensors(tmp_path / "a.pt")["b"], shared.T)


# Refusals of weights


WRITERS = {
    "zip": (lambda path, trap: torch.save({"params": trap}, path), "posix.mkdir"),
    "old": (lambda path, trap: torch.save(trap, path, _use_new_zipfile_serialization=False), "posix.mkdir"),
    "pickle": (lambda path, trap: path.write_bytes(pickle.dumps(trap, protocol=2)), "posix.mkdir"),
    "module": (lambda path, _: torch.save(SRResNet(features=4, blocks=1), path), "SRResNet, which is code"),
    "html": (lambda path, _: path.write_text("<html>404</html>"), "is a web page, not weights"),
    "script": (lambda path, _: torch.jit.script(torch.nn.Linear(1, 1)).save(str(path)), "cannot be read as weights"),
}


@pytest.mark.parametrize(("write", "words"), WRITERS.values(), ids=WRITERS)
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_refusal_says_what_was_refused_and_gives_no_advice(write, words, tmp_path, sprung):
    write(tmp_path / "weights.pt", Trap(sprung))
    with pytest.raises(UserError) as caught:
        load_weights(tmp_path / "weights.pt", SRResNet(features=4, blocks=1))
    text = str(caught.value)
    assert words in text
    assert "\n" not in text
    for advice in ("weights_only", "safe_globals", "arbitrary", "pytorch.org", "Re-running"):
        assert advice not in text
    assert not sprung.exists()
