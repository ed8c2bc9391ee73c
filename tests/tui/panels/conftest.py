from dataclasses import dataclass
from functools import cache, cached_property

import pytest
from textual.geometry import Size

from tests.tui.texts import described
from tui_gru.session.session import Session
from tui_gru.tui.draw import Box
from tui_gru.tui.panel import Panel, View
from tui_gru.tui.theme import fitting

#: Spaces, newlines, brackets that are not markup, wide letters, an emoji, a combining mark, a control character.
ODD_TEXT = "def f(x): return [x for x in (1, 2)]\n\t日本語のテキスト😀 [red]bold[/] e\u0301 \x1b the quick brown fox\\ jumps! " * 8


def tutorial(*steps, learning=False, **options):
    session = Session(**options)
    session.learning = learning
    for level, count in steps:
        session.step(level, count)
    return session


MOMENTS = {
    "start": lambda: tutorial(),
    "computed": lambda: tutorial(("timestep", 1), ("op", 3)),
    "predicted": lambda: tutorial(("timestep", 1), ("op", 6)),
    "loss": lambda: tutorial(("phase", 1)),
    "sgd": lambda: tutorial(("batch", 4), learning=True, epochs=100),
    "backward": lambda: tutorial(("batch", 1), ("timestep", 3), ("op", 20), learning=True, carry="notebook"),
    "next": lambda: tutorial(("batch", 1), ("timestep", 1), learning=True),
    "in update": lambda: tutorial(("batch", 2), ("op", -4), learning=True),
    "past": lambda: tutorial(("epoch", 3), ("timestep", -2), learning=True, carry="reset"),
    "after": lambda: tutorial(("batch", 1), ("timestep", 3), ("op", 35), learning=True, reset="after"),
    "tiny": lambda: tutorial(("batch", 3), learning=True, text="ababab", hidden_size=1, batch_size=1, seq_length=1),
    "large": lambda: tutorial(
        ("batch", 2), ("timestep", 1), ("op", 6), learning=True, text=ODD_TEXT, hidden_size=64, batch_size=8, seq_length=16
    ),
    "broken": lambda: tutorial(("batch", 6), ("timestep", 1), learning=True, learning_rate=1e38),
    "lost": lambda: tutorial(("batch", 6), ("phase", 1), learning=True, learning_rate=1e38),
}


@cache
def snapshot_of(name, samples=False):
    session = MOMENTS[name]()
    if samples:
        primer = session.config.text[:2]
        session.sample(primer, 10)
        session.sample(primer, 12, sampler="tutorial", temperature=0)
        session.sample(primer, 10, seed=5)
    return session.snapshot()


@pytest.fixture
def moment():
    """Return the snapshot of a moment by its name, with samples drawn if requested."""
    return snapshot_of


@pytest.fixture
def written():
    """Return everything that a panel draws as text."""

    def read(panel):
        panel.render_line(0)
        return "\n".join(strip.text for strip in panel.drawn)

    return read


@dataclass(frozen=True)
class Drawn:
    """What a panel draws: the texts of its border, whether that is lit, and its content."""

    title: str
    note: str
    fresh: bool
    box: Box
    place: str = ""
    keys: str = ""

    @cached_property
    def lines(self):
        return [strip.text.rstrip() for strip in self.box.strips]

    @cached_property
    def text(self):
        return "\n".join(self.lines)

    def described(self):
        border = f"{self.title}{' (fresh)' if self.fresh else ''} | {self.place}\n{self.keys} | {self.note}"
        return f"{border}\n\n{described(self.box.rows)}"


@pytest.fixture(scope="session")
def still_board(board):
    """Return an app that does not run, of which panels take the theme and the glyphs; the same one for the same options."""
    return cache(board)


@pytest.fixture
def content(still_board, monkeypatch):
    """Return a function: what a panel of an inner size draws of a snapshot, without an app that runs."""

    def drawn(panel, snapshot, width, height, view=View(), **options):  # noqa: B008 - it is frozen
        monkeypatch.setattr(Panel, "app", still_board(**options))
        monkeypatch.setattr(Panel, "content_size", Size(width, height))
        panel.show(snapshot, view)
        title, note, place, keys = panel.titles(snapshot)
        note = fitting(note, width - 2) if isinstance(note, list) else note
        drawn = panel.content(snapshot, width, height)
        return Drawn(str(title or ""), str(note or ""), panel.is_fresh(snapshot), drawn, place, keys)

    return drawn
