"""Without PyTorch everything works that needs no reference: the rest says in one line what to install."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
#: Python imports a module of this name at its start.
BLOCK = """
import sys

class Missing:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "torch":
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Missing())
"""


@pytest.fixture
def ran(tmp_path, monkeypatch):
    """Return a function that runs Python without torch and returns its exit code, its output and its errors."""
    (tmp_path / "sitecustomize.py").write_text(BLOCK)
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}{os.pathsep}{ROOT}")

    def run(*arguments):
        done = subprocess.run([sys.executable, *arguments], capture_output=True, text=True, cwd=tmp_path, timeout=120)
        return done.returncode, done.stdout, done.stderr

    return run


def test_it_is_really_missing(ran):
    code, _, errors = ran("-c", "import torch")
    assert code == 1
    assert "No module named 'torch'" in errors


@pytest.mark.parametrize(
    "arguments",
    [
        ["trace", "--seed", "2", "--hidden-size", "5"],
        ["trace", "--text", "hello world, hello", "--cell", "lstm"],
        ["sample", "--epochs", "300", "--temperature", "0"],
        ["screenshot", "walk.svg", "--keys", "l 3n s o o enter"],
    ],
    ids=" ".join,
)
def test_it_starts_trains_samples_and_explains(ran, arguments):
    code, _, errors = ran("-m", "tui_gru", *arguments)
    assert (code, errors) == (0, "")


def test_a_check_without_a_screen_is_refused(ran):
    code, output, errors = ran("-m", "tui_gru", "run", "-x", "k")
    assert (code, output) == (2, "")
    assert re.fullmatch(r"tui-gru: k: the check needs PyTorch[^\n]*\n", errors)


def test_a_check_on_the_screen_says_what_to_install(ran, tmp_path):
    code, _, errors = ran("-m", "tui_gru", "screenshot", "check.svg", "--keys", "l n k")
    assert (code, errors) == (0, "")
    shown = re.sub(r"<[^>]*>", " ", (tmp_path / "check.svg").read_text(encoding="utf-8")).replace("&#160;", " ")
    assert "the check needs PyTorch, which is not installed: pip install torch" in " ".join(shown.split())


REFUSED = """
import tui_gru
s = tui_gru.Session(seed=2)
s.learning = True
s.step("epoch", 2)
s.step("timestep", 2)
assert s.explain("h", (0, 1)).value == s.value("h")[0, 1]
s.sample("Ma", 10)
for ask in (
    lambda: s.check(),
    lambda: setattr(s, "check_every_batch", True),
    lambda: tui_gru.debug(object()),
    lambda: tui_gru.record("run.gru", object()),
):
    try:
        ask()
    except tui_gru.TuiGruError as error:
        print(error)
s.step("batch", 2)
"""


def test_what_needs_it_says_so_in_one_line(ran):
    code, output, errors = ran("-c", REFUSED)
    assert (code, errors) == (0, "")
    needs = ("the check", "the check of every batch", "tui_gru.debug", "tui_gru.record")
    assert output.splitlines() == [f"{need} needs PyTorch, which is not installed: pip install torch" for need in needs]


def test_an_installation_that_is_broken_is_told_apart(ran, tmp_path):
    package = tmp_path / "torch"
    package.mkdir()
    (package / "__init__.py").write_text("raise OSError('libtorch.so: cannot open shared object file')")
    (tmp_path / "sitecustomize.py").write_text("")
    code, output, errors = ran("-c", "import tui_gru\ntry: tui_gru.Session().check()\nexcept tui_gru.TuiGruError as e: print(e)")
    assert (code, errors) == (0, "")
    reason = "libtorch.so: cannot open shared object file"
    assert output == f"the check needs PyTorch, which is installed but cannot be loaded ({reason}); install it again\n"


def test_a_check_in_a_script_of_verbs_ends_with_2_and_says_what_to_install(ran):
    code, out, errors = ran("-m", "tui_gru", "run", "-x", "k")
    assert (code, out) == (2, "")
    assert errors == "tui-gru: k: the check needs PyTorch, which is not installed: pip install torch\n"
