"""Writes the result of a soak into its row of the table in the manual, `reliability.md`, with the seeds and the commit."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "tui_gru" / "manual" / "reliability.md"


def commit() -> str:
    """Return the short hash of the commit that is tested, and whether files differ from it, besides the page with the table."""

    def git(*words: str) -> str:
        return subprocess.run(["git", "-C", str(ROOT), *words], capture_output=True, text=True, check=True).stdout.strip()

    try:
        hashed = git("rev-parse", "--short=8", "HEAD")
        changed = git("status", "--porcelain", "--untracked-files=no", "--", ".", f":(exclude){PAGE.relative_to(ROOT)}")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return f"{hashed} with changes" if changed else hashed


def row(text: str, name: str, extent: str, result: str) -> str:
    """Return the table with another extent and result in the row of a soak. Raises ValueError if there is no such row."""
    changed, count = re.subn(
        rf"^(\| `\.{name}`: [^|]*)\|[^|]*\|[^|]*\|$", lambda match: f"{match[1]}| {extent} | {result} |", text, flags=re.MULTILINE
    )
    if count != 1:
        raise ValueError(f"{PAGE.name} has no row of .{name}")
    return changed


def write(name: str, done: str, seconds: float, seeds: range, findings: Sequence[int], tested: str) -> None:
    """Write the row of a soak: what was done, such as `3,000 faults`, how long, the seeds, those with findings, and the commit."""
    result = f"findings with the seeds {', '.join(map(str, findings))}" if findings else "no findings"
    extent = f"{done} in {seconds:,.0f} s, seeds {seeds[0]} to {seeds[-1]}, at {tested}"
    PAGE.write_text(row(PAGE.read_text(encoding="utf-8"), name, extent, result), encoding="utf-8")
