"""PyTorch is imported on first use, after its libraries have been loaded where possible."""

from __future__ import annotations

import subprocess
import sys

import pytest

LOADED = "import sys, torch; assert torch.get_num_threads() == 1; print(torch.ones(2, 2).double().sum().item())"


@pytest.mark.parametrize(
    "before",
    [
        "",
        "torch_loading.find_spec = lambda name: None",  # it cannot be found beforehand
        "torch_loading.Path.exists = lambda path: False",  # its libraries have other names
    ],
    ids=["as-it-is", "not-found", "other-names"],
)
def test_it_is_loaded_and_works(before: str) -> None:
    script = "\n".join(
        [
            "import sys",
            "from tui_gru.engine import torch_loading, torch_reference",
            "assert 'torch' not in sys.modules",
            before,
            "torch_loading.load_torch()",
            LOADED,
        ]
    )
    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120)
    assert (ran.stdout, ran.returncode) == ("4.0\n", 0), ran.stderr


def test_the_libraries_are_those_that_torch_loads() -> None:
    """Libraries loaded before are found by torch's import; none is loaded twice."""
    if sys.platform != "linux":
        return
    script = "\n".join(
        [
            "from tui_gru.engine import torch_loading",
            "torch_loading._load_libraries()",
            "def mapped(): return {l.split()[-1] for l in open('/proc/self/maps') if 'torch' in l and '/lib/' in l}",
            "before = mapped()",
            "assert any('libtorch_python' in name for name in before), before",
            "assert any('libtorch_cpu' in name for name in before), before",
            "import torch",
            "assert before <= mapped()",
        ]
    )
    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120)
    assert ran.returncode == 0, ran.stderr
