"""The README and the pages of the manual."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / "tui_gru" / "manual"
CONTENTS = FOLDER / "contents.md"
#: The README, and the pages of the manual in their order.
PATHS = (
    ROOT / "README.md",
    CONTENTS,
    *(FOLDER / name for name in re.findall(r"\]\(([\w-]+\.md)\)", CONTENTS.read_text(encoding="utf-8"))),
)
README, *_ = TEXTS = tuple(path.read_text(encoding="utf-8") for path in PATHS)
#: The pages of the manual by their names.
MANUAL = {path.stem: text for path, text in zip(PATHS[1:], TEXTS[1:], strict=True)}
EVERYTHING = "\n".join(TEXTS)


def section(text: str, heading: str) -> str:
    """Return the text below a heading of a page, up to the next heading of the same level."""
    _, found, rest = f"\n{text}".partition(f"\n## {heading}\n")
    assert found, heading
    return re.split(r"^## ", rest, maxsplit=1, flags=re.MULTILINE)[0]
