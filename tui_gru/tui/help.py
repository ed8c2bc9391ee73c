"""Explanations: the help screen with its search, what has the focus, signs and colours, and the names of a model."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache, cached_property, partial
from importlib import import_module
from inspect import isclass
from pkgutil import walk_packages
from typing import Any, ClassVar, NamedTuple

import numpy as np
from rich.cells import cell_len
from rich.style import Style
from textual import events
from textual.app import ComposeResult
from textual.binding import BindingType
from textual.screen import ModalScreen

import tui_gru.tui.panels as panels
from tui_gru.debugger.program import Program, spoken
from tui_gru.engine.config import token_word
from tui_gru.engine.numbers import counted, exact, plain, significant
from tui_gru.engine.source import Ability
from tui_gru.equations.functions import FUNCTIONS
from tui_gru.equations.syntax import Apply
from tui_gru.session.snapshot import Snapshot
from tui_gru.tui import manual
from tui_gru.tui.about import TERMS, about, about_line, term
from tui_gru.tui.draw import Box, Ref, SegmentRow, clip, explained, in_columns, titled_rows, vstack
from tui_gru.tui.keys import Verb, example, key_signs, keys_of, with_keys
from tui_gru.tui.panel import Panel, SnapshotPanel, Titles
from tui_gru.tui.theme import UNICODE, Palette, transliterate

# ------------------------------------------------------------------------------
# The help screen: all keys and commands below what explains the focus, or a section of the manual.


HINTS = [
    "esc closes",
    "type to ask",
    "a number before a key repeats it: 10s",
    "capital letters go back in time",
]
COMMANDS = "Command line"  # the title of their table, below those of the keys
MOST_SECTIONS = 12  # of the manual that are listed
KEY, LEAST = 10, 20  # cells: the least width of the column of keys, and of the descriptions beside it

Explanation = tuple[str, str]  # what is explained, and the sentence


class HelpEntry(NamedTuple):
    """A row of a table: what is typed, and what it does."""

    typed: str
    words: str


class HelpScreen(ModalScreen["str | None"]):
    """The help over the main screen. Its result is what to ask instead: the character that was typed, or the words of the section.

    The keys of help, escape and quit close it.
    """

    DEFAULT_CSS = """
    HelpScreen { align: center middle; }
    HelpScreen > HelpPanel { width: 96%; max-width: 168; height: auto; max-height: 100%; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        ("escape,q,question_mark", "dismiss"),
    ]

    def __init__(self, verbs: Sequence[Verb[Any]], program: Program, of_focus: Sequence[Explanation], sought: str = "") -> None:
        """Create the help. `of_focus` explains what has the focus. With words, it shows the section of the manual that is about
        them."""
        super().__init__()
        self._panel = HelpPanel(verbs, program, of_focus, sought)

    def compose(self) -> ComposeResult:
        yield self._panel

    def on_key(self, event: events.Key) -> None:
        """Show the next section, or ask what is typed."""
        closes = any(event.key in keys_of(self, verb).split(",") for verb in ("help", "stop", "quit"))
        if closes:
            self.dismiss()
        elif event.key == "enter" and self._panel.section is not None:
            self._panel.open_next()
        elif event.key in ("backspace", "tab"):
            self.dismiss(self._panel.sought)
        elif event.is_printable and event.character and event.key not in self.active_bindings:
            self.dismiss(event.character)
        else:
            return
        event.stop()
        event.prevent_default()


class HelpPanel(Panel):
    """Explanations of what has the focus, then the keys, then the commands; or the section of the manual about the words
    `sought`."""

    def __init__(self, verbs: Sequence[Verb[Any]], program: Program, of_focus: Sequence[Explanation], sought: str = "") -> None:
        super().__init__()
        self._verbs, self._program, self._of_focus, self.sought = verbs, program, of_focus, sought
        self.sections = manual.search(sought)[:MOST_SECTIONS]
        self.section = next(iter(self.sections), None)
        self._contents: dict[tuple[object, int], Box] = {}  # by what is shown and the width

    def open_next(self) -> None:
        """Show the section that is about the same words after the open one; after the last, the first."""
        assert self.section is not None
        self.section = self.sections[(self.sections.index(self.section) + 1) % len(self.sections)]
        self.caption()
        self.scroll_home(animate=False)
        self.refresh_content()
        self.refresh(layout=True)

    @property
    def topics(self) -> str:
        """The content as text, and below an open section the headings of the others about the same words."""
        others = [section.heading for section in self.sections if section != self.section] if self.section is not None else []
        return self.plain_text() + "".join(f"\nalso: {heading}" for heading in others)

    @cached_property
    def _groups(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(verb.group for verb in self._verbs))

    @cached_property
    def _entries(self) -> Mapping[str, Sequence[HelpEntry]]:
        """All keys by their group, and all commands, with placeholders replaced by names of the model."""
        rows = {
            group: [(self._key(v), v.help) for v in self._verbs if v.group == group and v.keys and v.help] for group in self._groups
        }
        rows[COMMANDS] = [(f":{verb.usage}", verb.typed_help) for verb in self._verbs if verb.names and verb.listed]
        spelled = partial(example, self._program)
        return {
            group: [HelpEntry(spelled(typed), spelled(words)) for typed, words in entries]
            for group, entries in rows.items()
            if entries
        }

    def caption(self) -> None:
        if self.section is None:
            self.set_titles("keys", HINTS)
            return
        others = [f"enter: the next of {len(self.sections)}"] if len(self.sections) > 1 else []
        heading = self.section.heading
        title = heading if cell_len(heading) <= self.border_room else self.section.title
        self.set_titles(title, ["esc closes", *others, "backspace: other questions"])

    def build(self, width: int, height: int) -> Box:
        shown = self.section, self.palette
        if (shown, width) not in self._contents:  # asked for with and without a scroll bar, since the height depends on it
            self._contents = {key: box for key, box in self._contents.items() if key[0] == shown}
            drawn = self._tables(width) if self.section is None else manual.drawn_section(self.palette, self.section, width)
            self._contents[shown, width] = drawn
        return self._contents[shown, width]

    def _tables(self, width: int) -> Box:
        """Return what explains the focus, the keys, in two columns where there is room, and the commands."""
        above = [self._explained("Here", self._of_focus, width)] if self._of_focus else []
        groups = [(group, self._entries[group]) for group in self._groups if group in self._entries]
        below = [self._table(COMMANDS, self._entries[COMMANDS], width)] if COMMANDS in self._entries else []
        if width >= 130 and len(groups) > 1:
            boxes = [self._table(group, rows, width // 2 - 2, least=KEY) for group, rows in groups]
            halves = [(vstack(*boxes[:i], gap=1), vstack(*boxes[i:], gap=1)) for i in range(1, len(boxes))]
            shortest = min(halves, key=lambda half: max(box.height for box in half))
            return vstack(*above, in_columns(*shortest, gap=4), *below, gap=1)
        return vstack(*above, *(self._table(group, rows, width, least=KEY) for group, rows in groups), *below, gap=1)

    def _key(self, verb: Verb[Any]) -> str:
        return " ".join(key_signs(keys_of(self, verb.id)))

    def _explained(self, title: str, rows: Sequence[Explanation], width: int) -> Box:
        """Return a box with explanations, each below what it explains."""
        p = self.palette
        return titled_rows(p, title, (explained(p, typed, p.keyword, sentence, width) for typed, sentence in rows))

    def _table(self, title: str, entries: Sequence[HelpEntry], width: int, *, least: int = 0) -> Box:
        """Return a box with keys or commands and their descriptions, beside them if there are LEAST cells, otherwise below."""
        p = self.palette
        column = max(least, *(cell_len(transliterate(entry.typed, p.glyphs)) for entry in entries)) + 2
        column = column if width - column >= LEAST else 0
        rows = (explained(p, row.typed, p.keyword, row.words, width, column=column) for row in entries)
        return titled_rows(p, title, rows)


# ------------------------------------------------------------------------------
# Explanations of all signs and colours, which make up the legend.
#
# A verb in angle brackets stands for the key that is bound to it.


class LegendSign(NamedTuple):
    """A sign or a sample of a colour with its meaning.

    `panels` has the names of the classes of panels in which it is drawn, separated by blanks; it is empty if the sign is drawn in
    many. `ink` is its style in a palette: `dim`, or `signed -0.8` for a number on a scale. `pattern` is a regular expression
    for what is drawn where the sign itself, or a symbol in it, is only an example.
    """

    sign: str
    meaning: str
    panels: str = ""
    ink: str = "plain"
    pattern: str = ""

    def is_in(self, drawn: str) -> bool:
        """Return True if a text that a panel draws has the sign."""
        if self.pattern:
            return re.search(self.pattern, drawn) is not None
        symbols = {char for char in self.sign if not (char.isalnum() or char.isascii() or char in "“”…")}
        words = re.findall(r"\w+", self.sign)
        return not symbols.isdisjoint(drawn) if symbols else all(re.search(rf"\b{re.escape(word)}\b", drawn) for word in words)

    def style(self, palette: Palette) -> Style:
        name, _, number = self.ink.partition(" ")
        attribute: Any = getattr(palette, name)
        style: Style = attribute(float(number)) if number else attribute
        return style


#: The groups of the legend. A sign that has different meanings in two panels has two entries.
SIGNS: Mapping[str, Sequence[LegendSign]] = {
    "Colours": (
        LegendSign(" -0.80 ", "below 0: blue, the stronger the further", ink="signed -0.8"),
        LegendSign(" +0.80 ", "above 0: orange, the stronger the further", ink="signed 0.8"),
        LegendSign(" 0.80 ", "a number from 0 to 1, a gate or a probability: one hue, the stronger the nearer to 1",
                   ink="unit 0.8"),
        LegendSign(" +0.12 ", "bright and bold, as all that is now: just computed by the current line", ink="accent"),
        LegendSign(" t ", "a target: the character that should be predicted; also before ◂", ink="target"),
        LegendSign("▸", "the entry of a list under the cursor; in a check, the largest difference", ink="strong"),
        LegendSign(" 1.2e9 ", "a warning: not finite, beyond the scale, or something to look at", ink="warning"),
        LegendSign(" · ", "not computed yet in this batch", ink="blank"),
    ),
    "Program": (
        LegendSign("▶", "the line just executed", "Listing", "line"),
        LegendSign("│", "lines that have been executed in this part of the batch", "Listing", "dim"),
        LegendSign("●", "a breakpoint: runs stop after this line", "Listing", "warning"),
        LegendSign("◐", "a breakpoint with a condition or a hit count: runs stop there sometimes", "Listing", "warning"),
        LegendSign("○", "a disabled breakpoint", "Listing", "dim"),
        LegendSign("◆", "a log point: writes into the log, and does not stop", "Listing", "warning"),
        LegendSign("◇", "a disabled log point", "Listing", "dim"),
    ),
    "Equations": (
        LegendSign("x W", "the matrix product", "Listing CurrentLine", pattern=r"(?<!\w)x W"),
        LegendSign("⊙", "the product entry by entry", "Listing CurrentLine"),
        *(LegendSign(row.text, row.words, "Listing CurrentLine") for row in FUNCTIONS.values()),
        LegendSign("Σ", "the sum; “over” says along which direction", "Listing CurrentLine"),
        LegendSign("mean", "the sum, divided by the number of summands", "Listing CurrentLine"),
        LegendSign("B", "the number of rows in a batch", "Listing CurrentLine"),
        LegendSign("T", "the number of timesteps in a batch", "Listing CurrentLine"),
        LegendSign("H", "the number of hidden units"),
        LegendSign("V", "the number of characters in the vocabulary"),
        LegendSign("n", "the number of updates so far, including this one", "Listing CurrentLine"),
        LegendSign("Wᵀ", "a matrix with rows and columns exchanged", "Listing CurrentLine", pattern="ᵀ"),
        LegendSign("hₜ₋₁", "h after the previous timestep", "Listing CurrentLine Gates"),
        LegendSign("dh", "the gradient of the loss with respect to h", "Listing CurrentLine"),
        LegendSign("dh←", "the part of dh that comes from the next timestep", "Listing CurrentLine"),
        LegendSign("① ② ③", "the terms of the loss: for each character, each row, the timestep", "Listing LossTerms",
                   pattern="[①②③]"),
        LegendSign("+= −=", "added to the previous value: gradients; subtracted from it: updates", "Listing", pattern="[+−]="),
        LegendSign("⋯ ⋮", "entries that do not fit; <zoom> zooms the panel", ink="dim"),
    ),
    "Batch and predictions": (
        LegendSign("M→a", "“M” is read, and “a” should be predicted", "Sequence"),
        LegendSign("t 0.2763 ◂", "the target of a row; bold: the likeliest", "Softmax WhatIfPanel", "target"),
        LegendSign("▐ ▌", "the current timestep", "Sequence", "accent"),
        LegendSign("▲ row 1 “th…” does not follow “…at”",
                   "for example: row 1 begins with “th…”, but its initial hidden state was computed after “…at”, another place of "
                   "the text: the model starts this batch with a memory that does not belong to it. With --layout contiguous, each "
                   "row continues the text of the previous batch", "Sequence", "warning"),
        LegendSign("‖dh‖", "the norm of the gradient at a timestep; the bar below it compares the timesteps", "Sequence"),
        LegendSign("c h z r",
                   "the paths of the gradient to the previous timestep, with their shares of it in percent, or each letter a "
                   "fifth of it: the line of the carry, the candidate, the update gate, the reset gate, as the border says",
                   "Sequence", pattern="paths|share"),
        LegendSign("‖dW‖", "the norm of the gradients of a gate: the root of the sum of squares; ‖ΔW‖ of changes", "Overview"),
        LegendSign("┃", "a wall: the gradient is cut here and does not reach the previous batch", "Sequence"),
        LegendSign("read", "what the model read before it said this: the primer again, or its own last character", "Samples"),
        LegendSign("p", "the probability that the sampled character had", "Samples", "gate", pattern=r"(?m)^p +[\d.]"),
        LegendSign("u", "the random number from 0 to 1 that chose the character; none if the likeliest was chosen", "Samples",
                   pattern=r"(?m)^u +[\d.]"),
        LegendSign("7", "under a character: its influence in tenths of the largest", "InfluenceMap", pattern=r"\d"),
        LegendSign("+7", "in a matrix too large for its numbers: the sign of an entry, and its size in tenths of the scale",
                   "ParameterMatrix ValueMatrix", "signed 0.7", pattern=r"[+-]\d(?![\d.])"),
        LegendSign("tenths of 0.7", "the scale of these digits, in a narrow panel ×0.07: with it, +7 is 0.49",
                   "ParameterMatrix ValueMatrix", "dim", pattern="tenths of|×0"),
        LegendSign("≈0 ≈1 ≈±1",
                   "shares of the entries: near 0, near 1, and saturated, near −1 or 1: within a tenth of the range from its limit",
                   "ValueMatrix"),
    ),
    "Run": (
        LegendSign("▲", "the current position in the run", "TimeLine LossCurve", "accent"),
        LegendSign("▲ 2 findings", "something is wrong with the run: <findings> lists it", "Header", "warning"),
        LegendSign("past, 5 lines back", "you are 5 executed lines before the newest moment reached", "Header", "strong"),
        LegendSign("a", "a mark that you have set", "TimeLine", "strong", pattern=r"(?<!\w)[a-zA-Z](?!\w)"),
        LegendSign("●", "a run stopped here", "TimeLine", "warning"),
        LegendSign("╰", "another branch leaves here", "TimeLine", "second"),
        LegendSign("↑ ↓", "an outlier of the loss, or a loss off the axis", "TimeLine LossCurve", "warning"),
        LegendSign("✗", "not a finite number", "TimeLine LossCurve Header", "warning"),
        LegendSign("╌ blind guess",
                   "all characters equally likely, log V; unigram: knowing the counts of characters; bigram: of pairs",
                   "LossCurve", "dim"),
        LegendSign("╌", "not reached yet", "TimeLine", "dim"),
    ),
}  # fmt: skip


def signs_of(panel: object) -> list[LegendSign]:
    """Return the signs that are drawn in a panel, by its class and its base classes."""
    kinds = {kind.__name__ for kind in type(panel).__mro__}
    return [sign for signs in SIGNS.values() for sign in signs if not kinds.isdisjoint(sign.panels.split())]


def meanings(written: str) -> list[str]:
    """Return the meanings of a sign, written as in the legend or as one of several signs of an entry."""
    return [sign.meaning for signs in SIGNS.values() for sign in signs if written in _spellings(sign)]


def _spellings(sign: LegendSign) -> set[str]:
    """Return a sign as the legend has it, and its parts; words are parts only together: `log V`."""
    text = sign.sign.strip()
    has_words = re.search(r"[^\W\d_]{3}", text) is not None
    return {text, re.sub(r"^\W+", "", text), *(part for part in text.split() if not (has_words and part[0].isalnum()))}


def signs_with(written: str) -> list[str]:
    """Return the signs, with their meanings, that contain a word."""
    word = re.compile(rf"(?<!\w){re.escape(written)}(?!\w)", re.IGNORECASE)
    all_signs = [sign for signs in SIGNS.values() for sign in signs]
    matches = [sign for sign in all_signs if word.search(sign.sign)] + [sign for sign in all_signs if word.search(sign.meaning)]
    return [f"{sign.sign.strip()}: {sign.meaning}" for sign in matches]


# ------------------------------------------------------------------------------
# Explanations of what has the focus: the number under the cursor, its panel, the current line and the panel's signs.


#: Replaces verbs in angle brackets by the keys bound to them.
Keys = Callable[[str], str]
#: The words by which panels are known on the screen and in commands, where they are not the name of the class.
WORDS = {
    "training loop": "Listing", "program": "Listing", "the current line": "CurrentLine", "gates": "Gates", "values": "Gates",
    "ŷ": "Softmax", "loss": "LossTerms", "loss, term by term": "LossTerms", "weights": "Overview", "gradients": "Overview",
    "origin": "DerivationPanel", "derivation": "DerivationPanel", "stops": "StopsList", "marks": "StopsList",
    "branches": "BranchList", "apart": "BranchesApart", "facts": "FactList", "numbers": "NumberList",
    "check": "CheckReport", "what if": "WhatIfPanel", "what-if": "WhatIfPanel",
    "findings": "FindingsList", "arrays": "ArrayList", "units": "UnitsMap", "influence": "InfluenceMap", "losses": "LossPlaces",
}  # fmt: skip


def rows_here(snapshot: Snapshot, focused: object, ref: Ref | None, keys: Keys) -> Iterator[Explanation]:
    """Yield the explanations of what has the focus: the number `ref`, the panel, the current line, the signs in the panel."""
    if ref is not None and ref.name in snapshot.program.names:
        yield _number(snapshot, ref), _sentence(_value(snapshot.program, ref))
    words = about_panel(focused)
    if words:
        yield "this panel", keys(words)
    if snapshot.line is not None:
        yield snapshot.line.text, _sentence(about_line(snapshot.program, snapshot.line))
    if focused is None and snapshot.config.source.can(Ability.TEXT):
        yield from _batch_here(snapshot)
    lines = (line.formula.walk() for line in snapshot.program.lines.values() if line.formula is not None)
    used = {node.function for nodes in lines for node in nodes if isinstance(node, Apply)}
    unused = {row.text for name, row in FUNCTIONS.items() if name not in used}
    signs = [sign for sign in signs_of(focused) if sign.sign not in unused]
    if isinstance(focused, Panel) and focused.palette.glyphs is UNICODE:
        drawn = f"{focused.plain_text()}{focused.subheading}"
        signs = [sign for sign in signs if sign.is_in(drawn)]
    for sign in signs:
        yield sign.sign.strip(), _sentence(keys(sign.meaning))


def _batch_here(snapshot: Snapshot) -> Iterator[Explanation]:
    """Yield what the rows and the timesteps of a batch are, and the loss of the epoch so far."""
    config, at = snapshot.config, snapshot.position
    words = f"A batch has {counted(config.batch_size, 'row')}: pieces of the text that are computed side by side."
    yield "row, t", f"{words} At each timestep t, of {config.seq_length:,}, every row reads one {token_word(config.vocabulary)}."
    losses = snapshot.losses[at.number - at.batch : at.number + 1]
    unknown = config.source.unknown_losses
    losses = losses[[at.number - at.batch + i not in unknown for i in range(len(losses))]]
    if len(losses):
        mean = plain(float(np.mean(losses)))
        yield "loss", f"The mean of {counted(len(losses), 'batch')} of epoch {at.epoch + 1:,} is {mean}, nats for each prediction."


def every_row(program: Program, keys: Keys) -> Iterator[Explanation]:
    """Yield the explanations of all values, panels and signs."""
    for name in program.names:
        yield program.writer.name(name), _sentence(about(program, name))
    words = {kind: word for word, kind in reversed(WORDS.items())}  # the first word of each panel
    for kind, sentence in explanations().items():
        yield words.get(kind, re.sub(r"(?<!^)(?=[A-Z])", " ", kind).lower()), keys(sentence)
    yield from ((word, _sentence(sentence)) for word, sentence in TERMS.items())
    for signs in SIGNS.values():
        yield from ((sign.sign.strip(), _sentence(keys(sign.meaning))) for sign in signs)


def explanation_of(program: Program, words: str, keys: Keys) -> str:
    """Explain a typed name of the model, sign or panel, or the sign whose explanation has the word; else return the empty text."""
    return explain_named(program, words, keys) or keys(next(iter(signs_with(words.strip())), ""))


def explain_named(program: Program, words: str, keys: Keys) -> str:
    """Explain a typed name of the model, sign or panel; else return the empty text."""
    name = program.code_name(words.strip())
    if name in program.names:
        return f"{program.writer.name(name)}: {about(program, name)}"
    if senses := meanings(words.strip()):
        return f"{words.strip()}: {keys('; or '.join(senses))}"
    panel = WORDS.get(words.strip().lower(), words.replace(" ", "")).lower()
    of_panel = next((keys(sentence) for name, sentence in explanations().items() if name.lower() == panel), "")
    return of_panel or term(words)


def line_in_full(snapshot: Snapshot) -> str:
    """Explain the line just executed: what it computes, from what, and to which number; empty if there is none to explain."""
    line, program = snapshot.line, snapshot.program
    if line is None or line.formula is None or line.target not in program.names:
        return ""
    does = {"+=": "adds the share of this timestep to", "-=": "makes a step of"}.get(line.op, "computes")
    words = f"{line.text} {does} {program.writer.name(line.target)}, {about_line(program, line)}"
    read = [
        f"{program.writer.name(name)}, {re.split('[:;] ', about(program, name))[0]}" for name in line.reads if name in program.names
    ]
    if read:
        words += f". It reads {'; '.join(read)}"
    shape, timed = program.shapes[line.target], program.names[line.target].timed
    number = _number(snapshot, Ref(line.target, (0,) * len(shape), snapshot.position.t if timed else None))
    return f"{words}. {'Its first number' if shape else 'It gives'}: {number}"


def _value(program: Program, ref: Ref) -> str:
    if ref.change:
        return f"the change of {program.writer.name(ref.name)}"
    return about(program, ref.name)


def _number(snapshot: Snapshot, ref: Ref) -> str:
    """Return `z[row 1, unit 2] = 0.93014`, without the number if it is not computed yet."""
    named = spoken(snapshot.program, ref.name, ref.index)
    value: Any = snapshot.last_step(ref.name) if ref.change else snapshot.value(ref.name, ref.t)
    if value is None:
        return named
    change = "the last change of " if ref.change else ""
    number = np.asarray(value)[ref.index] if ref.index else value
    # A number without entries, such as the loss, is summed in float64, and its last digits say nothing.
    return f"{change}{named} = {exact(number).removeprefix('+') if ref.index else significant(number, 7)}"


def _sentence(words: str) -> str:
    """Add a full stop, and a capital letter unless the words begin with a name of the model."""
    first = words.split(" ")[0]
    begun = f"{words[:1].upper()}{words[1:]}" if len(first) > 3 or first in ("a", "an", "the", "how", "what") else words
    return f"{begun}{'' if begun.endswith('.') else '.'}" if words else ""


def about_panel(panel: object) -> str:
    """Return the explanation of a panel; empty if it has none."""
    return str(getattr(panel, "ABOUT", ""))


@cache
def explanations() -> dict[str, str]:
    """Return the explanation of every class of a panel by its name."""
    by_name = {}
    for module in (*(info.name for info in walk_packages(panels.__path__, f"{panels.__name__}.")), "tui_gru.tui.command", __name__):
        for kind in vars(import_module(module)).values():
            if isclass(kind) and kind.__module__ == module and "ABOUT" in vars(kind):
                by_name[kind.__name__] = about_panel(kind)
    return by_name


# ------------------------------------------------------------------------------
# The legend: all colours and signs of the screen with their meanings.


#: Cells for a sign; a longer one is put on a separate line.
_SIGN = 16


class Legend(SnapshotPanel):
    """The legend. It is independent of the moment, so it stays until it is closed."""

    STAYS = True

    def titles(self, snapshot: Snapshot) -> Titles:
        hints = [with_keys(self, "<help> explains what has the focus"), with_keys(self, "<stop> closes")]
        return Titles("colours and signs", hints)

    def content(self, snapshot: Snapshot, width: int, height: int) -> Box:
        palette = self.palette

        def rows(sign: LegendSign) -> list[SegmentRow]:
            fits_beside = cell_len(transliterate(sign.sign, palette.glyphs)) <= _SIGN and width >= 3 * _SIGN
            meaning = with_keys(self, sign.meaning)
            return explained(palette, sign.sign, sign.style(palette), meaning, width, column=_SIGN + 2 if fits_beside else 0)

        groups = (titled_rows(palette, title, map(rows, signs)) for title, signs in SIGNS.items())
        return clip(palette, vstack(*groups, gap=1), width, 10**6)
