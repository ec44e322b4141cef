"""The installed package: conf travels with the wheel, and the command finds it from any folder."""

import sys
import sysconfig
import venv
from email import message_from_bytes
from pathlib import Path
from zipfile import ZipFile

import pytest
from wheel_case import EXECUTABLES, REPOSITORY, look, output


@pytest.mark.slow
def test_wheel_in_another_folder(tmp_path: Path) -> None:
    build = [
        sys.executable,
        "-m",
        "build",
        "--wheel",
        "--no-isolation",
        "--outdir",
        tmp_path / "dist",
        REPOSITORY,
    ]
    output(*build, cwd=tmp_path)
    (wheel,) = (tmp_path / "dist").glob("*.whl")
    the_page_for_pypi(wheel)
    home = tmp_path / "venv"
    venv.create(home, with_pip=False)
    python = home / EXECUTABLES / "python"
    install = [sys.executable, "-m", "pip", "--python", python, "install", "--no-deps", "--no-index", wheel]
    output(*install, cwd=tmp_path)
    # The dependencies are those of the environment that runs the tests.
    site = Path(output(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))", cwd=tmp_path).strip())
    (site / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    command = home / EXECUTABLES / "faig-lab"
    shown = output(command, "--cfg", "job", "+experiment=blur_noise", cwd=tmp_path)
    assert "name: blur_noise" in shown
    assert shown == output(python, "-m", "faig_lab", "--cfg", "job", "experiment=blur_noise", cwd=tmp_path)
    assert str(site / "faig_lab" / "conf") in output(command, "--help", cwd=tmp_path)
    found = "from hydra.core.plugins import Plugins; print(Plugins.instance().class_name_to_class)"
    assert "hydra_plugins.faig_lab_sweeper.FaigLabSweeper" in output(python, "-c", found, cwd=tmp_path)
    # The trained pair, its provenance and its note on licences travel with the wheel, too.
    assert "package:srresnet_small_target.safetensors" in output(
        command, "--cfg", "job", "+experiment=first_look", cwd=tmp_path
    )
    shipped = """
import faig_lab
from faig_lab.files import PRETRAINED
network = faig_lab.SRResNet(scale=2, features=24, blocks=8)
states = [faig_lab.load_weights(f"package:srresnet_small_{n}.safetensors", network) for n in ("baseline", "target")]
print(len(states), PRETRAINED, *sorted(path.name for path in PRETRAINED.iterdir()))
"""
    names = [f"srresnet_small_{name}.{suffix}" for name in ("baseline", "target") for suffix in ("safetensors", "yaml")]
    expected = ["2", str(site / "faig_lab" / "pretrained"), "README.md", *names]
    assert output(python, "-c", shipped, cwd=tmp_path).split() == expected
    metrics = look(home, tmp_path)
    assert metrics["isolation/isolation_share/0.5"] > 0.5
    assert metrics["isolation/random/0.5"] < 0.25


def the_page_for_pypi(wheel: Path) -> None:
    """Its pictures and links lead to the repository, and its facts are those of pyproject.toml."""
    with ZipFile(wheel) as archive:
        (name,) = (name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        metadata = message_from_bytes(archive.read(name))
    addresses = dict(value.split(", ") for value in metadata.get_all("Project-URL", []))
    repository = addresses["Repository"]
    text = metadata.get_payload(decode=True).decode()  # type: ignore[union-attr]
    assert f"]({repository}/raw/HEAD/docs/pictures/masked_blurred.jpg)" in text
    assert f"]({repository}/blob/HEAD/docs/tutorial.md)" in text
    assert metadata["Description-Content-Type"] == "text/markdown"
    assert not [line for line in text.splitlines() if "](docs/" in line or "](experiments/" in line]
