"""The README's pictures: what each shows. `python -m tests.screenshots` draws them again."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from pydoc_data.topics import topics
from typing import Any

from tui_gru.engine.config import Config
from tui_gru.tui.screenshot import take

FOLDER = Path(__file__).parent.parent / "screenshots"
README = (FOLDER.parent / "README.md").read_text(encoding="utf-8")
#: The text that the README learns, and how; its cell.
TOPICS = {
    "text": "".join(topics[key] for key in sorted(topics))[:26_000],
    "hidden_size": 64,
    "batch_size": 8,
    "seq_length": 16,
}
CELL = README.partition("```cell\n")[2].partition("```")[0]


@dataclass(frozen=True)
class Picture:
    """`keys` as for `tui-gru screenshot --keys`."""

    name: str
    keys: str
    size: tuple[int, int] = (160, 50)
    theme: str | None = None
    options: dict[str, Any] = field(default_factory=dict)

    def draw(self, folder: Path) -> Path:
        out = folder / f"{self.name}.svg"
        take(Config.of(**self.options), self.keys.split(), self.size, out, theme=self.theme)
        return out


def typed(command: str) -> str:
    """The keys that type a command on the `:` line and do it."""
    return f": {' '.join('space' if char == ' ' else char for char in command)} enter"


TRAINED = "15e"  # of the text: numbers after so many batches depend on the machine's products of matrices
PICTURES = (
    Picture("main", "p l 40n s 6o"),
    Picture("backward", "l n n s s s 12o"),
    Picture("trained", f"l 900e {typed('sample Ma 10 0.0')}"),
    Picture("origin", "l n n s o o o o enter"),
    Picture("change", f"l n {typed('why Wz[3,0]')} down down down down enter > down enter"),
    Picture("check", "l 2n k"),
    Picture("stops", f"{typed('watch max(abs(h))')} {typed('break h if any(h > 0.95)')} l c c m a 5n"),
    Picture("branches", f"l 40e {typed('go e20')} {typed('set Wh[2,0] -1')} 20e ="),
    Picture("narrow", "s s o o o", (80, 24)),
    Picture("tiny", "s s o o o", (40, 12)),
    Picture("light", "s o o o o o", (120, 36), "whiteboard"),
    Picture("text", f"l {TRAINED} {typed('sample The 150 0.5 fed-back')} 3s 4o", options=TOPICS),
    Picture("own", "l n n 5s 3o", options={"cell": "my.cell", "cell_text": CELL}),
)

if __name__ == "__main__":
    for picture in PICTURES:
        print(picture.draw(FOLDER))
