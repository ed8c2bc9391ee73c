"""The pictures of the README and the manual, and what each shows. `python -m tests.screenshots` draws them again."""

from __future__ import annotations

import random
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from pydoc_data.topics import topics
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch

import tui_gru
from tests.pages import MANUAL
from tui_gru.engine.config import Config
from tui_gru.imported.module import forget
from tui_gru.session.session import Session
from tui_gru.tui.headless import take

FOLDER = Path(__file__).parent.parent / "screenshots"
#: The text, options and cell of the examples.
TOPICS = {
    "text": "".join(topics[key] for key in sorted(topics))[:26_000],
    "hidden_size": 64,
    "batch_size": 8,
    "seq_length": 16,
}
#: Each version of Python has other topics; the figures and pictures in the manual are of these.
TOPICS_OF_THE_MANUAL = sys.version_info[:2] == (3, 11)
CELL = MANUAL["equations"].partition("```cell\n")[2].partition("```")[0]


def speech(length: int, seed: int = 1) -> str:
    """Return random sentences of direct speech. The patterns to learn are words, names and quotation marks."""
    draw = random.Random(seed)
    line = "we can go to the sea now or stay at home and read a book if it rains again so call me when you are there"
    words = line.split()
    text = ""
    while len(text) < length:
        said, then = (" ".join(draw.choice(words) for _ in range(draw.randint(*count))) for count in ((2, 7), (1, 4)))
        text += f'{draw.choice(["Ann", "Ben", "Eve", "Tom"])} {draw.choice(["said", "asked", "wrote"])} "{said}" {then}.\n'
    return text[:length]


@dataclass(frozen=True)
class Picture:
    """A picture: `keys` as for `tui-gru screenshot --keys`."""

    name: str
    keys: str
    size: tuple[int, int] = (160, 50)
    theme: str | None = None
    options: dict[str, Any] = field(default_factory=dict)
    session: Callable[[], Session] | None = None
    rounded: bool = False  # rounding errors, which depend on the machine, are in the picture

    def draw(self, folder: Path) -> Path:
        out = folder / f"{self.name}.svg"
        run = Config.of(**self.options) if self.session is None else self.session()
        out.write_text(take(run, self.keys.split(), self.size, theme=self.theme), encoding="utf-8")
        return out


def ported() -> Session:
    """A GRU whose file is read with the reset gate before the product, with the output of the reset gate after it."""
    random = np.random.RandomState(4)
    shapes = {"weight_ih_l0": (15, 3), "weight_hh_l0": (15, 5), "bias_ih_l0": (15,), "bias_hh_l0": (15,)}
    weights = {f"encoder.{name}": random.standard_normal(shape).astype(np.float32) for name, shape in shapes.items()}
    x = random.standard_normal((6, 2, 3)).astype(np.float32)
    with TemporaryDirectory() as folder:
        np.savez(path := Path(folder) / "encoder.npz", **weights)
        right = tui_gru.load(path, inputs=x)
        right.seek(right.end)
        y = np.stack([right.value("h", t=t) for t in range(6)])
        return tui_gru.load(path, inputs=x, expect=y, reset="before")


def debugged() -> Session:
    """The batch of a script that clips its gradient."""
    torch.manual_seed(3)
    model, head = torch.nn.GRU(3, 5), torch.nn.Linear(5, 1)
    optimizer = torch.optim.SGD([*model.parameters(), *head.parameters()], 0.1)
    tui_gru.debug(model, optimizer, screen=False)
    (head(model(torch.randn(6, 2, 3))[0]) - 2).pow(2).mean().backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 0.25)
    optimizer.step()
    session = tui_gru.debug(model, optimizer, screen=False)
    forget(model)
    assert session is not None
    return session


@cache
def _recordings() -> TemporaryDirectory[str]:
    return TemporaryDirectory()


def recorded() -> Session:
    """A recording of a run that read an infinite number in step 33: every tenth step, and the three steps before it."""
    folder = Path(_recordings().name) / "run.gru"
    if not folder.exists():
        torch.manual_seed(0)
        model = torch.nn.GRU(3, 5)
        optimizer = torch.optim.SGD(model.parameters(), 0.5)
        with tui_gru.record(folder, model, optimizer, every=10, last=3, on="nan") as recorder:
            for step in range(36):
                x = torch.randn(6, 2, 3)
                if step == 33:
                    x[2, 1, 0] = torch.inf
                optimizer.zero_grad()
                loss = (model(x)[0] - 0.5).pow(2).mean()
                loss.backward()
                optimizer.step()
                recorder.step(loss)
    return Session.open(folder)


def typed(command: str) -> str:
    """Return the keys that type and execute a command on the `:` line."""
    return f": {' '.join('space' if char == ' ' else char for char in command)} enter"


SPEECH = {"text": speech(12_000), "hidden_size": 48, "batch_size": 8, "seq_length": 32}
TRAINED = "15e"  # characters of the text; after so many batches, numbers depend on the machine's matrix products
EXACT = {"dtype": "float64"}  # in float32, the last digit of a number in the picture depends on the machine
PICTURES = (
    Picture("main", "p l 40n s 6o"),
    Picture("backward", "l n n s s s 12o"),
    Picture("trained", f"l 900e {typed('sample Ma 10 0.0')}"),
    Picture("origin", "l n n s o o o o enter", options=EXACT),
    Picture("change", f"l n {typed('why Wz[3,0]')} down down down down enter > down enter"),
    Picture("check", "l 2n k", rounded=True),
    Picture("findings", f"l 900e {typed('sample Ma 10 0.0')} !"),
    Picture("units", f"8e h {typed('class in-quotes')} {'right ' * 20} z", options=SPEECH),
    Picture("influence", "8e 2n 22s y", (110, 48), options=SPEECH),
    Picture("stops", f"{typed('watch max(abs(h))')} {typed('break h if any(h > 0.95)')} l c c m a 5n"),
    Picture("branches", f"l 40e {typed('go e20')} {typed('set Wh[2,0] -1')} 20e =", options=EXACT),
    Picture("narrow", "s s o o o", (80, 24)),
    Picture("tiny", "s s o o o", (40, 12)),
    Picture("light", "s o o o o o", (120, 36), "whiteboard"),
    Picture("opened", "4s o o o o", (120, 36), session=ported),
    Picture("module", "n x x", (160, 50), session=debugged, rounded=True),
    Picture("recording", typed("go nan"), (160, 50), session=recorded, rounded=True),
    Picture("text", f"{TRAINED} {typed('sample The 150 0.5 fed-back')} 3s 4o", options=TOPICS),
    Picture("story", "3e H", options=TOPICS | EXACT),
    Picture("own", "l n n 5s 3o", options={"cell": "my.cell", "cell_text": CELL}),
)

if __name__ == "__main__":
    for picture in PICTURES:
        print(picture.draw(FOLDER))
