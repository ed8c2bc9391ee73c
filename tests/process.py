"""Runs the program in a separate process."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

PROGRAM = (sys.executable, "-m", "tui_gru")


def process(*arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
    """Run it to its end, without standard input, and keep what it says; `options` as for `subprocess.run`."""
    options = {
        "stdin": subprocess.DEVNULL,
        "stdout": subprocess.PIPE,
        "stderr": subprocess.PIPE,
        "text": True,
        "timeout": 20,
    } | options
    return subprocess.run([*PROGRAM, *arguments], **options)
