"""What is published: the contents of the wheel and the source archive, and their metadata."""

import importlib.util
import re
import shlex
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from email import message_from_bytes
from pathlib import Path

import pytest

from tui_gru import __version__

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
PICTURE = re.compile(r"!\[[^]]*\]\(([^)]*)\)")
LINK = re.compile(r"(?<!!)\[[^]]*\]\(([^)]*)\)")


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    folder = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "hatchling", "build", "-d", str(folder)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture(scope="module")
def wheel(built):
    """The files of the wheel by name."""
    (path,) = built.glob("*.whl")
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


@pytest.fixture(scope="module")
def metadata(wheel):
    (name,) = (name for name in wheel if name.endswith("/METADATA"))
    return message_from_bytes(wheel[name])


def test_the_wheel_has_the_package_whole_and_nothing_else(wheel):
    folder = ROOT / "tui_gru"
    ours = {path.relative_to(ROOT).as_posix(): path for path in folder.rglob("*") if path.is_file() and path.suffix != ".pyc"}
    assert {name for name in wheel if ".dist-info/" not in name} == set(ours)
    assert all(wheel[name] == path.read_bytes() for name, path in ours.items())
    data = ("py.typed", "engine/tutorial_weights.bin", "models/cells/gru.cell", "tui/screen.tcss", "manual/contents.md")
    assert {f"tui_gru/{name}" for name in data} <= set(wheel)


def test_the_licence_is_in_the_metadata_and_beside_them(wheel, metadata):
    assert (metadata["License-Expression"], metadata["License-File"]) == ("MIT", "LICENSE")
    (name,) = (name for name in wheel if name.endswith("/licenses/LICENSE"))
    assert wheel[name].startswith(b"MIT License\n\nCopyright (c) 2026 the tui_gru authors\n")


def test_the_metadata_say_what_it_is(metadata):
    assert metadata["Author"] == "the tui_gru authors"
    assert {"gru", "terminal"} <= set(metadata["Keywords"].split(","))
    classifiers = metadata.get_all("Classifier")
    assert "Typing :: Typed" in classifiers
    assert not [each for each in classifiers if each.startswith("License ::")]  # refused beside a license expression


def test_every_classifier_is_known(metadata):
    from trove_classifiers import classifiers as known

    assert set(metadata.get_all("Classifier")) <= set(known)


def test_the_long_description_is_the_readme_without_relative_addresses(metadata):
    text = metadata.get_payload(decode=True).decode()
    assert metadata["Description-Content-Type"] == "text/markdown"
    address = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["hatch"]["metadata"]["hooks"]["custom"]
    assert all(url.startswith("https://") for url in PICTURE.findall(text))
    assert bool(PICTURE.findall(text)) is bool(metadata.get_all("Project-URL")) is bool(address["repository"])
    headings = re.findall(r"^#+ .*$", README, re.MULTILINE)
    assert re.findall(r"^#+ .*$", text, re.MULTILINE) == headings
    assert len(headings) == 6
    assert all(url.startswith("https://") for url in LINK.findall(text))


def test_with_the_address_of_the_repository_every_picture_is_absolute():
    spec = importlib.util.spec_from_file_location("hatch_build", ROOT / ".hatch_build.py")
    hook = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(hook)
    host = "https://host.example/owner/name"
    text, pictures = hook.long_description(README, f"{host}/raw/HEAD", f"{host}/blob/HEAD"), PICTURE.findall(README)
    assert len(pictures) == len(re.findall(r"^!", README, re.MULTILINE)) > 5
    assert all((ROOT / picture).is_file() for picture in pictures)
    assert PICTURE.findall(text) == [f"https://host.example/owner/name/raw/HEAD/{picture}" for picture in pictures]
    assert LINK.findall(text) == [f"{host}/blob/HEAD/{page}" for page in LINK.findall(README)]
    assert len(LINK.findall(README)) > 15
    assert re.sub(rf"{host}/(raw|blob)/HEAD/", "", text) == README

    metadata = {}
    config = {"repository": "https://host.example/owner/name/", "pictures": "raw/HEAD", "pages": "blob/HEAD"}
    hook.Metadata(str(ROOT), config).update(metadata)
    assert metadata["readme"]["text"] == hook.long_description(
        README, f"{host}/raw/HEAD", f"{host}/blob/HEAD", repository="https://host.example/owner/name"
    )
    assert "version 0.1.0, 2026, https://host.example/owner/name.*" in metadata["readme"]["text"]
    urls = {"Source": "https://host.example/owner/name", "Changelog": "https://host.example/owner/name#changes"}
    assert metadata["urls"] == urls
    assert "## Changes\n" in README


def test_the_citation_and_the_commands_name_this_version():
    assert f"recurrent networks, version {__version__}, 2026.*" in README
    assert set(re.findall(r"tui_gru-([\d.]+)-py3", README)) == {__version__}


def test_what_is_installed_without_pytorch_is_what_is_required_but_for_pytorch():
    (line,) = [line for line in README.splitlines() if "--no-deps" in line]
    named = shlex.split(line.partition("&& pip install ")[2])
    required = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["dependencies"]
    assert {re.split(r"[<>=]", name)[0] for name in named} == {re.split(r"[<>=]", name)[0] for name in required} - {"torch"}


def test_the_source_archive_can_be_tested(built):
    (path,) = built.glob("*.tar.gz")
    with tarfile.open(path) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert {"LICENSE", "README.md", "pyproject.toml", ".hatch_build.py", "tests/test_package.py", "screenshots/main.svg"} <= names
    assert not [name for name in names if name.startswith((".venv", ".git/")) or "__pycache__" in name]
