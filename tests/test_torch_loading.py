"""PyTorch is imported on first use, after its libraries have been loaded where possible."""

from __future__ import annotations

import subprocess
import sys

BEGIN = """
import sys
from tui_gru import torch_loading
from tui_gru.engine import reference  # torch is not loaded with it

def mapped():
    return {line.split()[-1] for line in open("/proc/self/maps") if "torch" in line and "/lib/" in line} if on_linux else set()

on_linux, load_libraries = sys.platform == "linux", torch_loading._load_libraries
assert "torch" not in sys.modules
"""
END = """
torch_loading.load_torch()
import torch
assert torch.get_num_threads() == 1
print(torch.ones(2, 2).double().sum().item())
"""


def assert_it_is_loaded_and_works(before: str, after: str = "") -> None:
    command = [sys.executable, "-c", BEGIN + before + END + after]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert (ran.stdout, ran.returncode) == ("4.0\n", 0), ran.stderr


def test_the_libraries_are_those_that_torch_loads() -> None:
    """Libraries loaded before are found by torch's import; none is loaded twice."""
    before = """
early = set()
def load_and_look():
    load_libraries()
    early.update(mapped())
torch_loading._load_libraries = load_and_look
"""
    after = """
for name in ("libtorch_python", "libtorch_cpu") if on_linux else ():
    assert any(name in library for library in early), early
assert early <= mapped()
"""
    assert_it_is_loaded_and_works(before, after)


def test_where_nothing_can_be_loaded_beforehand_it_is_imported_all_the_same() -> None:
    """torch is not found, or its libraries have other names."""
    before = """
find_spec, torch_loading.find_spec = torch_loading.find_spec, lambda name: None
load_libraries()
torch_loading.find_spec, torch_loading.Path.exists = find_spec, lambda path: False
load_libraries()
assert mapped() == set()
torch_loading.find_spec = lambda name: None
"""
    assert_it_is_loaded_and_works(before)
