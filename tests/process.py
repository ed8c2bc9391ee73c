"""Runs the program in a separate process."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

PROGRAM = (sys.executable, "-m", "tui_gru")


def process(*arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
    """Run the program to its end, without standard input, and return the result with its output; `options` as for
    `subprocess.run`."""
    options = {
        "stdin": subprocess.DEVNULL,
        "stdout": subprocess.PIPE,
        "stderr": subprocess.PIPE,
        "text": True,
        "timeout": 120,
    } | options
    return subprocess.run([*PROGRAM, *arguments], **options)
