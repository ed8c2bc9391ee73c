"""Jump: two letters lead to any number, line, timestep or moment that is on the screen.

The first letter is that of a panel, the second that of a place in it. Letters go by place, in reading order, not by what is there:
a number that is not computed yet has its letter already, so hands can learn them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, NamedTuple

from textual import events
from textual.errors import NoWidget
from textual.widget import Widget

from tui_gru.tui import panels
from tui_gru.tui.keys import sign_of_key
from tui_gru.tui.matrix import MatrixView
from tui_gru.tui.panel import LabelledPlace, Panel, PanelGroup
from tui_gru.tui.theme import fitting

if TYPE_CHECKING:
    from tui_gru.tui.layout import PanelHost
    from tui_gru.tui.session_screen import SessionScreen

#: The letters of places, in reading order: those of the home row first.
LETTERS = "asdfghjklqwertyuiopzxcvbnm"
#: The letters of each panel, further ones where it has more places than there are letters; and its word.
OF_PANELS: tuple[tuple[type[Widget], str, str], ...] = (
    (panels.listing.Listing, "lk", "lines"),
    (panels.sequence.Sequence, "sd", "sequence"),
    (panels.values.LossTerms, "ty", "loss"),
    (panels.line.CurrentLine, "cv", "current line"),
    (panels.values.Gates, "gn", "gates"),
    (panels.values.Softmax, "po", "ŷ"),
    (panels.time.LossCurve, "u", "curve"),
    (panels.weights.WeightsPanel, "wer", "weights"),
    (panels.time.TimeLine, "m", "moments"),
)
OVERLAY = "ab"


class Target(NamedTuple):
    """A place on the screen: the panel that it is in, and where in its content."""

    panel: Panel
    place: LabelledPlace


class Jump:
    """Waits for the letters of a place, and goes there. While it waits, places have labels, and everything else is dimmed."""

    def __init__(self, screen: SessionScreen, host: PanelHost) -> None:
        self._screen, self._host = screen, host
        self.targets: dict[str, Target] = {}  # by two letters
        self._words: dict[str, str] = {}  # of each letter of a panel in view
        self._first = ""
        self._row: Target | None = None  # the row of a large matrix, of which a column is awaited
        self._explains = False
        self._typed = ""  # the letter of a group of columns, or digits
        self.waits = False

    def begin(self) -> None:
        """Label all places on the screen, and wait for the letters of one."""
        self._label()
        if not self.targets and not self._elsewhere():
            self._screen.say("there is nothing to jump to on this screen", warning=True)
            return
        self.waits = True
        self._ask()

    def go(self, letters: str) -> bool:
        """Go to the place of these letters. Return False if there is none."""
        self._label()
        target = self.targets.get(letters.lower())
        self.leave()
        if target is None:
            return False
        self._arrive(target, explains=letters[1:2].isupper())
        return True

    def leave(self) -> None:
        """Take all labels away."""
        self.waits = False
        self._first, self._row, self._typed = "", None, ""
        for panel in self._screen.query(Panel):
            panel.set_labels(None)
        if self._screen.is_attached:
            self._screen.bottom.prefix = ""

    def take_key(self, event: events.Key) -> bool:
        """Take the next letter. Return True if the key has no other meaning."""
        if not self.waits:
            return False
        key, letter = event.key, event.character or ""
        if self._row is not None:
            self._take_column(key, letter)
        elif key == "backspace" and self._first:
            self._first = ""
            self._ask()
        elif key == "asterisk" and self._first:
            self._go_to_largest([target.panel for name, target in self.targets.items() if name[0] == self._first])
        elif key in ("colon", "asterisk", "question_mark"):
            self.leave()
            self._screen.say("")
            return False
        elif not self._first and letter in self._words:
            self._choose(letter)
        elif not self._first and (elsewhere := self._elsewhere().get(letter)) is not None:
            self._turn_to(letter, elsewhere)
        elif self._first and (target := self.targets.get(self._first + letter.lower())) is not None:
            self._explains = letter.isupper()
            if target.place.columns:
                self._row = target
                self._ask()
            else:
                self.leave()
                self._arrive(target, explains=self._explains)
        else:
            self.leave()
            self._screen.say("" if key == "escape" else f"no place has the letters {self._first}{letter}")
        return True

    def _choose(self, letter: str) -> None:
        """Choose a panel. A matrix of which only some rows are in view is enlarged, so that all its entries have places."""
        self._first = letter
        shown = [target.panel for name, target in self.targets.items() if name[0] == letter]
        matrix = shown[0]
        is_cut = isinstance(matrix, MatrixView) and matrix.form in ("map", "strips") and len(shown) < matrix.shape[0]
        if is_cut and set(shown) == {matrix} and self._screen.maximized is None:
            self._screen.set_focus(matrix)
            self._host.zoom()
            self._screen.call_after_refresh(self._label_again)
        else:
            self._ask()

    def _label_again(self) -> None:
        self._label()
        self._ask()

    def _go_to_largest(self, shown: Iterable[Panel]) -> None:
        """Go to the largest number of some panels, disregarding signs."""
        sizes = {panel: size for panel in dict.fromkeys(shown) if (size := panel.largest_size()) is not None}
        self.leave()
        if not sizes:
            self._screen.say("no number is computed here yet")
            return
        panel = max(sizes, key=lambda panel: sizes[panel])
        self._screen.set_focus(panel)
        panel.go_to_largest_number()
        self._screen.say(f"the largest: {panel.subheading}" if panel.subheading else "the largest")

    # Labels

    def _label(self) -> None:
        """Find all places on the screen, and give each its letters."""
        self.targets, self._words = {}, {}
        for kind, letters, word in OF_PANELS:
            self._label_all(letters, word, self._in_view(self._screen.query(kind)))
        if (overlay := self._screen.overlay) is not None:
            self._label_all(OVERLAY, overlay.heading.partition(" ")[0] or "list", self._in_view([overlay]))

    def _label_all(self, letters: str, word: str, shown: Iterable[Panel]) -> None:
        """Give the places of the panels of one kind their letters, in reading order."""
        targets = [Target(panel, place) for panel in shown for place in panel.places()]
        targets.sort(key=lambda target: (target.panel.region.y + target.place.y, target.panel.region.x + target.place.x))
        names = [first + second for first in letters for second in LETTERS]
        for name, target in zip(names, targets, strict=False):
            self.targets[name] = target
            self._words[name[0]] = word

    def _in_view(self, shown: Iterable[Widget]) -> Iterator[Panel]:
        """Yield the panels that are on the screen and that no other covers."""
        for widget in shown:
            for panel in widget.query(Panel) if isinstance(widget, PanelGroup) else [widget]:
                if isinstance(panel, Panel) and panel.region and panel.display:
                    try:
                        top, _ = self._screen.get_widget_at(panel.region.x + panel.region.width // 2, panel.region.y)
                    except NoWidget:
                        continue
                    if panel in top.ancestors_with_self:
                        yield panel

    def _elsewhere(self) -> dict[str, tuple[type[Widget], str]]:
        """Return the panels of other pages by the first of their letters, with their words."""
        screen = self._screen
        if screen.overlay is not None or screen.maximized is not None:
            return {}
        return {letters[0]: (kind, word) for kind, letters, word in OF_PANELS if self._host.is_elsewhere(kind)}

    def _turn_to(self, letter: str, panel: tuple[type[Widget], str]) -> None:
        """Turn to the page of a panel, and label its places."""
        self._host.show_page_of(panel[0])
        self._first = letter

        def label() -> None:
            self._screen.lay_out()  # the panels in a panel are laid out after it
            self._label()
            if letter in self._words:
                self._ask()
            else:
                self.leave()
                self._screen.say(f"there is nothing to jump to in {panel[1]}")

        self._screen.call_after_refresh(label)

    def _ask(self) -> None:
        """Draw the labels of what can be typed next, and say what that is."""
        screen, drawn = self._screen, dict[Panel, list[tuple[int, int, str]]]()
        for name, target in self.targets.items():
            if name[0] == self._first or not self._first:
                label = name[1] if self._first else name
                drawn.setdefault(target.panel, []).append((target.place.x, target.place.y, label))
        if self._row is not None:
            drawn = {self._row.panel: list(self._labels_of_columns())}
        for panel in screen.query(Panel):
            if panel.region:
                panel.set_labels(drawn.get(panel, []))
        screen.bottom.prefix = sign_of_key(screen, "jump") + self._first
        screen.say(self._help())

    def _help(self) -> str:
        """Say what can be typed next, in as many words as one row has room for, so that nothing is covered."""
        if self._row is not None:
            most, by = self._row.place.columns, _group(self._row.place.columns)
            hints = ["a letter below" + (f", then 1 to {by}" if by > 1 else ""), f"or the number of a unit, to {most}"]
        elif self._first:
            hints = [f"{self._words[self._first]}: a letter goes there", "a capital explains", "* the largest"]
        else:
            elsewhere = "  ".join(f"{letter} {word}" for letter, (_, word) in self._elsewhere().items())
            hints = ["two letters go there", *([f"elsewhere: {elsewhere}"] if elsewhere else [])]
            hints += ["a capital second one explains", ": any name", "* remarkable"]
        return fitting(hints, self._screen.app.size.width - 8)

    # Columns of a large matrix

    def _labels_of_columns(self) -> Iterator[tuple[int, int, str]]:
        """Yield a label for the row, and one at the first column of each group in view."""
        assert self._row is not None
        panel, place = self._row
        yield place.x, place.y, "▸"
        by = _group(place.columns)
        for number, letter in enumerate(LETTERS):
            if number * by < place.columns and (x := panel.column_at(number * by)) is not None:
                yield x, place.y + 1, letter

    def _take_column(self, key: str, letter: str) -> None:
        assert self._row is not None
        place, by = self._row.place, _group(self._row.place.columns)
        column = None
        if key == "backspace":
            self._row, self._typed = None, ""
            self._ask()
            return
        by_number = letter.isdecimal() or key == "enter"
        if self._typed and not self._typed.isdigit():  # the letter of a group
            by_number = False
            first = LETTERS.index(self._typed) * by
            column = first + int(letter) - 1 if letter.isdecimal() and 1 <= int(letter) <= by else None
        elif letter.isdecimal():
            self._typed += letter
            if len(self._typed) < len(str(place.columns)):
                self._screen.say(f"unit {self._typed}… · enter goes there")
                return
            column = int(self._typed) - 1
        elif key == "enter" and self._typed:
            column = int(self._typed) - 1
        elif letter and letter.lower() in LETTERS and LETTERS.index(letter.lower()) * by < place.columns:
            self._typed = letter.lower()
            if by > 1:
                first = LETTERS.index(self._typed) * by
                self._screen.say(f"units {first + 1} to {min(first + by, place.columns)}: 1 to {by}")
                return
            column = LETTERS.index(self._typed)
        target, explains = self._row, self._explains
        self.leave()
        if column is None or not 0 <= column < place.columns:
            self._screen.say("" if key == "escape" else f"there is no such unit; this row has {place.columns}")
        else:
            entry = column if by_number else target.panel.entry_of_column(column)
            self._arrive(target, explains=explains, column=entry)

    # There

    def _arrive(self, target: Target, *, explains: bool, column: int = 0) -> None:
        """Move the cursor to a place, or go to its moment; explain the number or line that is there, if wanted."""
        screen, (panel, place) = self._screen, target
        if panel.focusable and place.tick is None:
            screen.set_focus(panel)
        panel.point_to(place, column)
        if place.tick is None:
            screen.say("")
            if explains:
                explain = screen.verbs["explain"].press
                assert explain is not None
                explain(screen)
            elif isinstance(panel, panels.listing.Listing):
                screen.say(f"enter runs to {panel.pointed_text} · {sign_of_key(screen, 'breakpoint')} sets a breakpoint on it")


def _group(columns: int) -> int:
    """Return how many columns one letter stands for."""
    return -(-columns // len(LETTERS))
