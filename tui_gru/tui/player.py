"""Writes the walk of a session as one HTML file: the screen of every moment, which a browser steps as the debugger does.

The moments are drawn by the debugger's own screen, on a copy of the session that goes through its past. A row of the screen, a
style and a derivation are stored once, and a moment by what differs from the one before, since a step changes few rows.
"""

from __future__ import annotations

import asyncio
import gc
import gzip
import html
import json
import os
import re
import sys
import threading
from base64 import b64encode
from collections.abc import Awaitable, Callable, Iterator, Sequence
from concurrent.futures import CancelledError, Future
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cached_property, partial
from itertools import chain, islice, pairwise
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from rich.cells import cell_len
from rich.color import Color
from rich.style import Style
from textual.color import Color as CssColor
from textual.strip import Strip

from tui_gru.arguments import integer
from tui_gru.debugger.position import Level, check_level, in_words
from tui_gru.debugger.rules import NoRuleError
from tui_gru.debugger.state import State
from tui_gru.debugger.timeline import Branch
from tui_gru.disk import save_bytes
from tui_gru.engine.numbers import short
from tui_gru.errors import TuiGruError, safe_text, shown
from tui_gru.paths import FilePath
from tui_gru.session.session import Session
from tui_gru.session.snapshot import Snapshot
from tui_gru.tui.app import COLLECT_EVERY, TuiGruApp, make_app
from tui_gru.tui.derivations import MOST_RECORDED, DerivedNumbers, ExplainedNumbers
from tui_gru.tui.headless import PromptPilot, headless, type_commands, until_checked, until_idle
from tui_gru.tui.panel import CellPanel, Spot
from tui_gru.tui.screen import MainScreen, ScreenLayout
from tui_gru.tui.terminal import at_rest, drawn_later, drawn_lines
from tui_gru.tui.theme import BLACKBOARD, UNICODE, WHITEBOARD

PAGE = Path(__file__).with_name("player.html")
SCRIPT = Path(__file__).with_name("derivations.js")
SIZE = (120, 36)
NARROW = (48, 30)  # of the screen on a telephone, which has no room for letters of more columns that can be read
LEAST_SIZE = (20, 6)  # a smaller screen shows no number
MOST_MOMENTS = 2_000
MOST_CELLS = MOST_MOMENTS * 160 * 50  # of all moments
FEW = 8  # moments in a notebook
#: When older objects are searched for reference cycles. Those of the drawn moments all stay, so the oldest are seldom searched,
#: which would take a fifth of the time.
COLLECT_OLDER = (20, 10_000)
#: The verbs that the page has.
VERBS_OF_PAGE = frozenset({"step.line", "step.timestep", "step.batch", "step.epoch", "play", "explain"})

#: Called with the number of moments that are drawn, and of all.
Drawn = Callable[[int, int], object]
T = TypeVar("T")


# ------------------------------------------------------------------------------
# The moments of a walk.


@dataclass(frozen=True)
class Walk:
    """The moments up to the position of a session: the ticks at which a step of `level` ends, those of marks, and the last one.

    `left_out` counts the moments between them and before the first of them that are not written.
    """

    session: Session
    level: Level
    ticks: tuple[int, ...]
    left_out: int = 0

    @classmethod
    def to_here(
        cls,
        session: Session,
        by: Level,
        last: int | None = None,
        size: tuple[int, int] = SIZE,
        jumps: Sequence[tuple[int, int]] = (),
    ) -> Walk:
        """Return the walk from the beginning to the position, or its last moments, without those inside of `jumps`, which lead from
        a tick to another.

        Raises `TuiGruError` for an unknown level, or if the file would be too large.
        """
        level, current = check_level(by), session.position.tick
        index = session.state.timeline.step_index(level)
        steps = index.count(current)
        jumped = [range(index.count(begins) + 1, index.count(ends)) for begins, ends in jumps if begins < ends <= current]
        marks = {mark.tick for mark in session.marks if mark.branch == session.branch and mark.tick <= current}
        extra = {
            tick
            for tick in (*marks, current)
            if index.tick(index.count(tick)) != tick or any(index.count(tick) in j for j in jumped)
        }
        total = 1 + steps - sum(map(len, jumped)) + len(extra)
        count = total if last is None else min(integer("last", last, least=1, option="last"), total)
        most = min(MOST_MOMENTS, MOST_CELLS // (size[0] * size[1]))
        if count > most:
            raise TuiGruError(
                f"the walk has {count:,} moments by {by}, and a file holds {most:,} of this size; step by a larger level"
                f"{_by_a_larger_level(session, level)}, or keep the newest, {most:,}",
                option="last",
            )
        newest = islice((n for n in range(steps, -1, -1) if not any(n in jump for jump in jumped)), count)
        ticks = sorted({*extra, *map(index.tick, newest)})[-count:]
        all_moments = 1 + steps + sum(index.tick(index.count(tick)) != tick for tick in extra)
        return cls(session, level, tuple(ticks), all_moments - len(ticks))

    @property
    def chapters(self) -> list[tuple[int, str, str]]:
        """The marks among the moments: the moment, the letter, and the text."""
        session = self.session
        marks = [mark for mark in session.marks if mark.branch == session.branch and mark.tick in self.ticks]
        return sorted((self.ticks.index(mark.tick), mark.letter, safe_text(mark.on_one_line)) for mark in marks)

    def estimate(self, size: tuple[int, int]) -> int:
        """Return about how many bytes the file has, without derivations."""
        narrow = NARROW[0] * NARROW[1] if size[0] > NARROW[0] else 0
        return PAGE.stat().st_size + SCRIPT.stat().st_size // 3 + len(self.ticks) * (size[0] * size[1] + narrow) // 12

    def derivations(self, most: int) -> DerivedNumbers | ExplainedNumbers:
        """Return the derivations of its numbers: computed in the page if it can, from at most `most` recorded numbers."""
        timeline = self.session.state.timeline
        try:
            return DerivedNumbers(timeline, self.ticks, most)
        except NoRuleError:
            return ExplainedNumbers(timeline, self.ticks)

    def ends(self) -> dict[str, list[int]]:
        """Return for the key of each level the moments at which a step of the level ends, without the beginning of the run."""
        timeline = self.session.state.timeline
        indices = {key: timeline.step_index(level) for key, level in (("s", "timestep"), ("n", "batch"), ("e", "epoch"))}
        return {
            key: [i for i, tick in enumerate(self.ticks) if tick and index.tick(index.count(tick)) == tick]
            for key, index in indices.items()
        }


def as_of(state: State, tick: int) -> State:
    """Return a state at an earlier moment of its branch, as it was when the run had just come there."""
    branches = state.branches
    moment = Branch(branches.timeline, tick)
    samples = tuple(sample for sample in state.samples if (sample.tick or 0) <= tick)
    return replace(
        state, tick=tick, branches=replace(branches, named={**branches.named, branches.current: moment}), samples=samples
    )


def _by_a_larger_level(session: Session, level: Level) -> str:
    order: list[Level] = ["op", "timestep", "batch", "epoch"]
    larger = order[order.index(level) + 1 :] if level in order else []
    counts = [f"{unit} has {session.state.timeline.step_index(unit).count(session.position.tick) + 1:,}" for unit in larger]
    return f" ({', '.join(counts)})" if counts else ""


# ------------------------------------------------------------------------------
# Tables of what is stored once.


class Numbering(dict[T, int]):
    """Numbers its entries in the order in which they are first met."""

    def __missing__(self, entry: T) -> int:
        self[entry] = number = len(self)
        return number


#: A drawn row: the text and style of each part.
Parts = tuple[tuple[str, Style], ...]


def parts_of(strip: Strip) -> Parts:
    """Return the texts of a row with their styles; a control code is no text."""
    return tuple((safe_text(text), style or Style()) for text, style, control in strip if text and not control)


def same_text(row: Parts, other: Parts) -> bool:
    """Return True if two rows have the same text, whatever its styles."""
    return "".join(part for part, _ in row) == "".join(part for part, _ in other)


def overlaid(dark: Parts, light: Parts) -> Iterator[tuple[str, Style, Style]]:
    """Yield the parts of a row with their styles in two themes, whose parts may begin at other places.

    If the texts differ, the styles of the first are used for both.
    """
    if not same_text(dark, light):
        light = dark
    text = "".join(part for part, _ in dark)
    ends = [set(np.cumsum([len(part) for part, _ in row]).tolist()) for row in (dark, light)]
    styles = [list(chain.from_iterable([style] * len(part) for part, style in row)) for row in (dark, light)]
    for begins, end in pairwise(sorted({0, *ends[0], *ends[1]})):
        yield text[begins:end], styles[0][begins], styles[1][begins]


def style_colours(style: Style, theme: tuple[str, str]) -> tuple[str, str]:
    """Return the colours of a style, foreground and background, as `#rrggbb`. `theme` has those of the screen."""
    ink, ground = (_hex(colour, usual) for colour, usual in zip((style.color, style.bgcolor), theme, strict=True))
    if style.reverse:
        ink, ground = ground, ink
    if style.dim:
        ink = _mixed(ink, ground)
    return ink, ground


def _hex(colour: Color | None, usual: str) -> str:
    return usual if colour is None or colour.is_default else colour.get_truecolor().hex


def _mixed(one: str, other: str) -> str:
    return "#" + "".join(f"{(int(one[i : i + 2], 16) + int(other[i : i + 2], 16)) // 2:02x}" for i in (1, 3, 5))


def decoration(style: Style) -> str:
    """Return the letters of bold, italic, underlined and struck text."""
    marks = zip("bius", (style.bold, style.italic, style.underline, style.strike), strict=True)
    return "".join(letter for letter, on in marks if on)


# ------------------------------------------------------------------------------
# What a reader is told of a moment who does not see the screen.


SAID = 16  # numbers of a line that are said; of more, how many they are, and the largest


def line_in_words(snapshot: Snapshot) -> str:
    """Return the line just executed and the numbers that it has computed, in words."""
    line = snapshot.line
    if line is None:
        return "before the first line"
    value = snapshot.value(line.target) if line.target in snapshot.program.names else None
    if value is None:
        return line.text
    array = np.asarray(value)
    if array.size > SAID:
        peak = np.unravel_index(int(np.nanargmax(np.abs(array))) if np.isfinite(array).any() else 0, array.shape)
        where = ", ".join(str(i + 1) for i in peak)
        return f"{line.text}: {'×'.join(map(str, array.shape))} numbers, the largest {short(float(array[peak]))} at {where}"
    rows = np.atleast_2d(array) if array.ndim else array.reshape(1, 1)
    written = [" ".join(short(float(x)) for x in row) for row in rows]
    return (
        f"{line.text}: {'; '.join(written if len(written) == 1 else (f'row {i + 1}: {words}' for i, words in enumerate(written)))}"
    )


# ------------------------------------------------------------------------------
# Draws the moments.


class DrawnMoments:
    """The drawn moments of a walk, in one theme, or in a dark and a light one, of which the reader's preference chooses."""

    def __init__(
        self, walk: Walk, size: tuple[int, int], themes: Sequence[str], derivations: DerivedNumbers | ExplainedNumbers
    ) -> None:
        self.walk, self.size, self.themes, self.derivations = walk, size, themes, derivations
        self.frames: list[list[list[Parts]]] = [[] for _ in themes]  # by theme and moment: the rows
        self._grounds: list[tuple[str, str]] = []  # by theme: the colours of the screen
        self._spots: list[list[tuple[tuple[int, int, int], ...]]] = []  # by moment and row: column, width and derivation
        self._words: list[tuple[Any, ...]] = []

    async def draw(self, app: TuiGruApp, pilot: PromptPilot[None], drawn: Drawn) -> None:
        """Draw all moments on the screen of an app, in each theme in turn."""
        screen, own_theme = app.screen, app.theme
        assert isinstance(screen, MainScreen)
        session = screen.session
        screen.say("")
        screen.only_verbs = VERBS_OF_PAGE
        total = len(self.walk.ticks)
        usual: ScreenLayout | None = None  # the layout, while that of a mark is shown
        marked = {moment for moment, _, _ in self.walk.chapters}
        shared: dict[Parts, Parts] = {}  # most rows are those of the moment before

        async def rows_at(moment: int) -> list[Parts]:
            """Show a moment, and return the rows of the screen."""
            nonlocal usual
            screen.session = Session(state=as_of(session.state, self.walk.ticks[moment]))  # the session itself stays where it is
            screen.show_now()
            if usual is not None:  # the moment before is that of a mark
                screen.overlays.lift()
                usual.apply(screen)
                screen.set_focus(None)
                usual = None
            await pilot.pause()
            await until_idle(pilot)
            if moment in marked:  # as the screen looked when the mark was set: its page, the panel in focus, the overlay
                usual = ScreenLayout.of(screen)
                screen.kept.show_layout_of_mark("")
                await until_idle(pilot)
                await pilot.pause()
                screen.say("")
            strips = drawn_lines(screen)
            if not at_rest(app):  # a panel has set the texts of its border as it was drawn
                await pilot.pause()
                strips = drawn_lines(screen)
            return [shared.setdefault(parts, parts) for parts in map(parts_of, strips)]

        try:
            for theme in self.themes:
                app.theme = theme
                colours = app.get_css_variables()
                ink, ground = (CssColor.parse(colours[name]).hex6 for name in ("foreground", "background"))
                self._grounds.append((ink, ground))
                first = self.frames[0]
                if theme == self.themes[0]:
                    for moment in range(total):
                        first.append(await rows_at(moment))
                        self._look(screen)
                        drawn(moment + 1, total * len(self.themes))
                else:
                    self.frames[-1] = await in_other_theme(first, rows_at, lambda done: drawn(total + done, 2 * total))
        finally:
            screen.session, app.theme = session, own_theme

    def _look(self, screen: MainScreen) -> None:
        """Note the numbers of this moment and what is said of it."""
        snapshot = screen.snapshot
        at = snapshot.position
        rows: list[list[tuple[int, int, int]]] = [[] for _ in range(self.size[1])]
        for panel in screen.query(CellPanel):
            for spot, x, y in _in_view(screen, panel):
                entry = self.derivations.number_of(spot.ref, at)  # of a change that of its weight, which has it as a term
                if entry is not None:
                    rows[y].append((x, spot.width, entry))
        self._spots.append([tuple(sorted(row)) for row in rows])
        place = in_words(at.epoch, at.batch, None if snapshot.timestep is None else at.t, at.phase, step=at.step, between=" · ")
        self._words.append((place if at.tick else "start", safe_text(line_in_words(snapshot))))

    def data(self) -> dict[str, Any]:
        """Return what the page reads of these moments: the rows, the styles, and the numbers that are explained.

        A row lists the number of a style and the text in it, and where that has not as many cells as characters, the negative
        number of its cells.
        """
        styles, rows, spot_rows = RowStyles(self._grounds), Numbering[tuple[Any, ...]](), Numbering[tuple[Any, ...]]()
        row_numbers: dict[tuple[Parts, Parts], int] = {}
        for pair in chain.from_iterable(map(zip, self.frames[0], self.frames[-1])):
            if pair not in row_numbers:
                row_numbers[pair] = rows[styles.row(*pair)]
        spots = [[spot_rows[row] for row in moment] for moment in self._spots]
        frames = [
            [row_numbers[pair] for pair in zip(*both, strict=True)] for both in zip(self.frames[0], self.frames[-1], strict=True)
        ]
        return {
            "size": self.size,
            "grounds": [self._grounds[0], self._grounds[-1]],
            "colours": list(styles.colours),
            "styles": list(styles.known),
            "rows": list(rows),
            "frames": _differences(frames),
            "numbers": list(spot_rows),
            "spots": _differences(spots),
        }

    def data_of_walk(self) -> dict[str, Any]:
        """Return what the page reads of the walk: what is said of each moment, the ends of steps, marks, and derivations."""
        return {
            "version": 2,
            "words": self._words,
            "ends": self.walk.ends(),
            "chapters": self.walk.chapters,
            "derive" if isinstance(self.derivations, DerivedNumbers) else "derivations": self.derivations.data(),
        }


class ThemeTranslation:
    """The styles of a theme by those of another, as rows that were drawn in both have shown them.

    The ink of a blank is not seen, so only its background counts.
    """

    def __init__(self) -> None:
        self._styles: dict[Any, Style] = {}
        self._doubtful: set[Any] = set()  # styles that have two in the other theme

    @staticmethod
    def key(text: str, style: Style) -> Any:
        """Return what decides about the other style of a text."""
        is_blank = text.isspace() and not (style.underline or style.strike or style.reverse)
        return ("blank", style.bgcolor) if is_blank else style

    def learn(self, rows: Sequence[Parts], others: Sequence[Parts]) -> None:
        """Learn from rows that were drawn in both themes. Those of a listing can differ, which scrolls by what was shown before."""
        for row, other in zip(rows, others, strict=True):
            if not same_text(row, other):
                continue
            for text, style, its in overlaid(row, other):
                key = self.key(text, style)
                known = self._styles.setdefault(key, its)
                if (key is style and known != its) or known.bgcolor != its.bgcolor:
                    self._doubtful.add(key)

    def is_known(self, keys: set[Any]) -> bool:
        """Return True if all of these styles have one in the other theme."""
        return keys <= self._styles.keys() and not keys & self._doubtful

    def row(self, row: Parts, other: Parts | None = None) -> Parts:
        """Return a row in the other theme: `other`, in which it was drawn, if that has its text."""
        if other is not None and same_text(row, other):
            return other
        return tuple((text, self._styles.get(self.key(text, style), style)) for text, style in row)


async def in_other_theme(
    frames: Sequence[Sequence[Parts]], drawn: Callable[[int], Awaitable[list[Parts]]], progress: Callable[[int], object]
) -> list[list[Parts]]:
    """Return the rows of all moments in another theme, from `frames` in the first. Only moments with a style that no other one has
    shown are drawn in it; and the last, which would show a style that has two others."""
    keys = [{ThemeTranslation.key(text, style) for row in frame for text, style in row} for frame in frames]
    translation, others, last = ThemeTranslation(), dict[int, list[Parts]](), len(frames) - 1
    while True:
        unknown = (n for n, its in enumerate(keys) if n not in others and not translation.is_known(its))
        moment = next(unknown, None if last in others else last)
        if moment is None:
            break
        others[moment] = await drawn(moment)
        translation.learn(frames[moment], others[moment])
        progress(len(others))
    progress(len(frames))
    return [list(map(translation.row, frame, others.get(n, [None] * len(frame)))) for n, frame in enumerate(frames)]


def _of_all(drawn: Drawn, number: int, count: int, done: int, total: int) -> None:
    """Report the progress of one of several drawings of all moments as that of all of them."""
    drawn(number * total + done, count * total)


class RowStyles:
    """The styles of the rows: four colours, foreground and background in a dark and a light theme, and a decoration.

    `grounds` has the colours of the screen in each theme.
    """

    def __init__(self, grounds: Sequence[tuple[str, str]]) -> None:
        self._grounds = grounds
        self.colours, self.known = Numbering[str](), Numbering[tuple[Any, ...]]()
        self._numbered: dict[tuple[Style, Style], tuple[Any, ...]] = {}

    def row(self, dark: Parts, light: Parts) -> tuple[Any, ...]:
        """Return a row as the page reads it. A blank has the style before it if only the ink differs, which nobody sees."""
        parts: list[tuple[tuple[Any, ...], str]] = []
        for text, *both in overlaid(dark, light):
            style = self._of(both[0], both[1])
            before = parts[-1][0] if parts else style
            if text.isspace() and not before[4] and (before[1], before[3]) == (style[1], style[3]):
                style = before
            if parts and style == before:
                text = parts.pop()[1] + text
            parts.append((style, text))
        return tuple(chain.from_iterable(map(self._flat, parts)))

    def _of(self, dark: Style, light: Style) -> tuple[Any, ...]:
        if (dark, light) not in self._numbered:
            four = (*style_colours(dark, self._grounds[0]), *style_colours(light, self._grounds[-1]))
            self._numbered[dark, light] = (*(self.colours[colour] for colour in four), decoration(dark))
        return self._numbered[dark, light]

    def _flat(self, part: tuple[tuple[Any, ...], str]) -> tuple[Any, ...]:
        style, text = part
        cells = cell_len(text)
        return (self.known[style], text) if cells == len(text) else (self.known[style], text, -cells)


def _in_view(screen: MainScreen, panel: CellPanel) -> Iterator[tuple[Spot, int, int]]:
    """Yield the cells of a panel that are on the screen, with their column and row."""
    room = panel.content_region
    if not (panel.display and panel.region and room) or panel.failed:
        return
    if screen.get_widget_at(*room.offset)[0] is not panel:  # an overlay covers it
        return
    across, down = panel.scroll_offset
    for spot in panel.spots:
        x, y = room.x + spot.x - across, room.y + spot.y - down
        if room.contains(x, y) and x + spot.width <= room.right:
            yield spot, x, y


def _differences(frames: list[list[int]]) -> list[list[int]]:
    """Return each frame as the rows that differ from the frame before: row, entry, row, entry, …"""
    changes, before = [], [-1] * len(frames[0])
    for frame in frames:
        changes.append([*chain.from_iterable((i, now) for i, now in enumerate(frame) if now != before[i])])
        before = frame
    return changes


# ------------------------------------------------------------------------------
# Writes the page.


class Player:
    """A session as a page. `commands` are executed on its screen first, as if they were typed; of one that leads over more than
    `jump` moments, only the end is a moment. The page opens at its first moment, or its last if `at_end`. With
    `on_telephones`, it has a second screen of `NARROW` columns, for windows that are too narrow for the first.

    Raises `TuiGruError` for invalid arguments; `draw` does so if a command fails or the walk is too large.
    """

    def __init__(
        self,
        session: Session,
        *,
        by: Level = "timestep",
        last: int | None = None,
        size: tuple[int, int] = SIZE,
        theme: str | None = None,
        commands: str = "",
        jump: int | None = None,
        at_end: bool = False,
        on_telephones: bool = True,
        most_recorded: int = MOST_RECORDED,
    ) -> None:
        check_level(by)
        if not isinstance(size, tuple | list) or len(size) != 2:
            raise TuiGruError(f"size must be two whole numbers, columns and rows, not {shown(size)}", option="size")
        size = integer("the columns of size", size[0], option="size"), integer("the rows of size", size[1], option="size")
        if size[0] < LEAST_SIZE[0] or size[1] < LEAST_SIZE[1]:
            least = "x".join(map(str, LEAST_SIZE))
            raise TuiGruError(f"a screen of {size[0]}x{size[1]} shows no number; the smallest is {least}", option="size")
        self._jump, self._at_end, self._on_telephones, self._most_recorded = jump, at_end, on_telephones, most_recorded
        self._session, self._by, self._last, self._size, self._commands = session, by, last, size, commands
        self._themes = (BLACKBOARD.name, WHITEBOARD.name) if theme is None else (theme,)
        self._app = make_app(Session(state=session.state), theme=self._themes[0])
        self._app.glyphs = UNICODE
        self._data: dict[str, Any] = {}
        self._numbers = b""

    def draw(self, planned: Callable[[Walk, int], object] = lambda *_: None, drawn: Drawn = lambda *_: None) -> None:
        """Draw all moments. `planned` gets the walk and the estimated size in bytes before, `drawn` the progress."""
        # It works in a thread with a loop of its own, since a notebook calls this inside a running loop.
        failed: list[BaseException] = []
        begun: Future[asyncio.Task[None] | None] = Future()
        ended = threading.Event()

        async def drawing() -> None:
            begun.set_result(asyncio.current_task())
            await self._draw(planned, drawn)

        def work() -> None:
            try:
                asyncio.run(drawing())
            except BaseException as error:
                failed.append(error)
            finally:
                begun.cancel()
                ended.set()

        collects, thresholds, thread = gc.isenabled(), gc.get_threshold(), threading.Thread(target=work, name="player")
        try:
            gc.set_threshold(COLLECT_EVERY, *COLLECT_OLDER)
            thread.start()
            ended.wait()  # a join that ctrl+c interrupts takes the thread for ended, up to Python 3.12
        except BaseException:
            with suppress(CancelledError, RuntimeError, TimeoutError):  # it has just ended, or not even begun
                if (task := begun.result(timeout=1)) is not None:
                    task.get_loop().call_soon_threadsafe(task.cancel)
                ended.wait()
            raise
        finally:
            gc.set_threshold(*thresholds)
            gc.unfreeze()  # the app freezes what exists when it opens, which stays in a terminal but not in a script
            if not collects:
                gc.disable()
        if failed:
            raise failed[0]

    async def _draw(self, planned: Callable[[Walk, int], object], drawn: Drawn) -> None:
        app = self._app
        async with headless(app, self._size, drawn=False) as pilot:
            await pilot.pause()
            ticks = await type_commands(pilot, self._commands)
            await until_checked(pilot)
            with drawn_later(app):
                assert isinstance(app.screen, MainScreen)
                session = app.screen.session
                count = session.state.timeline.step_index(check_level(self._by)).count
                most = sys.maxsize if self._jump is None else self._jump
                jumps = [pair for pair in pairwise(ticks) if count(pair[1]) - count(pair[0]) > most]
                walk = Walk.to_here(session, self._by, self._last, self._size, jumps)
                derivations, sizes = walk.derivations(self._most_recorded), [self._size]
                planned(walk, walk.estimate(self._size) + derivations.estimate())
                if self._on_telephones and self._size[0] > NARROW[0]:
                    sizes.append(NARROW)
                recorders = [DrawnMoments(walk, size, self._themes, derivations) for size in sizes]
                for number, recorder in enumerate(recorders):
                    if number:
                        await pilot.resize_terminal(*recorder.size)
                        await until_idle(pilot)
                    await recorder.draw(app, pilot, partial(_of_all, drawn, number, len(sizes)))
                self.walk, self.unexplained = walk, derivations.refused
                self._data = (
                    recorders[0].data() | recorders[0].data_of_walk() | {"start": len(walk.ticks) - 1 if self._at_end else 0}
                )
                if len(recorders) > 1:
                    self._data["narrow"] = recorders[1].data()
                self._numbers = derivations.packed()

    @cached_property
    def title(self) -> str:
        """The title of the page: the program, and the text of the run."""
        config = self._session.config
        text = safe_text(config.as_string(config.text[:60])) if config.text else config.cell
        return f"tui-gru · {text}"

    def page(self) -> str:
        """Return the page."""
        raw = json.dumps(self._data, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "backslashreplace")
        template = re.sub(r"\n\s+", "\n", PAGE.read_text(encoding="utf-8"))  # without indentation
        packed = {"@DATA@": raw, "@NUMBERS@": self._numbers, "@DERIVATIONS@": SCRIPT.read_bytes() if self._numbers else b""}
        parts = {"@TITLE@": html.escape(self.title), **{part: _packed(content) for part, content in packed.items()}}
        return re.sub("|".join(parts), lambda part: parts[part[0]], template)


def _packed(data: bytes) -> str:
    return b64encode(gzip.compress(data, 9, mtime=0)).decode()


def write(player: Player, path: FilePath, *, force: bool = False) -> int:
    """Write the page of a player to a file, and return its size in bytes.

    Raises `TuiGruError` if the file exists and not `force`, or it cannot be written.
    """
    content = player.page().encode()
    try:
        save_bytes(Path(os.path.expanduser(path)), content, overwrite=force)
    except FileExistsError:
        raise _not_free(path) from None
    except OSError as error:
        words = f"{safe_text(os.fspath(path))} cannot be written: {error.strerror}; write it elsewhere"
        raise TuiGruError(words, option="o") from None
    except ValueError:  # a zero byte
        raise TuiGruError(f"{shown(path)} is not a valid file name; name it walk.html", option="o") from None
    return len(content)


def check_free(path: FilePath) -> None:
    """Raise `TuiGruError` if the path exists or its folder does not, before the work of drawing."""
    if not isinstance(path, str | os.PathLike):
        raise TuiGruError(f"expected the path of a file, not {shown(path)}", option="o")
    place = os.path.expanduser(os.fspath(path))
    if "\0" not in place and os.path.lexists(place):
        raise _not_free(path)
    if not os.path.isdir(os.path.dirname(place) or "."):
        raise TuiGruError(f"there is no folder {safe_text(os.path.dirname(place))}; create it first", option="o")


def _not_free(path: FilePath) -> TuiGruError:
    words = f"{safe_text(os.fspath(path))} exists and is left as it is; name another file, or add --force (in Python, force=True)"
    return TuiGruError(words, option="o")


def play(
    session: Session,
    path: FilePath,
    *,
    by: Level = "timestep",
    last: int | None = None,
    size: tuple[int, int] = SIZE,
    theme: str | None = None,
    force: bool = False,
) -> Path:
    """Write the walk of a session to a file; see `Session.player`."""
    player = Player(session, by=by, last=last, size=size, theme=theme)
    if not force:
        check_free(path)
    player.draw()
    write(player, path, force=force)
    return Path(path)


def embedded(session: Session) -> str:
    """Return the last moments of a session as HTML for a notebook: a frame of its own, which no other output disturbs."""
    player = Player(session, last=FEW, at_end=True, on_telephones=False, most_recorded=MOST_RECORDED // 10)
    player.draw()
    words = html.escape(f"the last moments of {session!r}", quote=True)
    return (
        f'<iframe title="{words}" srcdoc="{html.escape(player.page(), quote=True)}" sandbox="allow-scripts"'
        ' style="width:100%;aspect-ratio:1.45;border:0"></iframe>'
    )
