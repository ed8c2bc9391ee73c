"""The journal of changes that affected the future of a run. Entries are small, so all of them are kept."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from tui_gru.engine.config import Config
from tui_gru.engine.data.tokens import Text, as_text
from tui_gru.engine.running.trainer import Trainer, corpus_of

MOST_TRAINERS = 2


@dataclass(frozen=True, slots=True)
class JournalEntry:
    """One change; `kind` is begin, learning, learning_rate, sgd or edit.

    An edit has a name, an index (empty for a setting of the update rule) and a value.
    """

    kind: str
    name: str = ""
    index: tuple[int, ...] = ()
    value: Any = None

    @property
    def args(self) -> dict[str, Any]:
        """Its arguments in a form that JSON can represent."""
        if self.kind == "edit":
            return {"name": self.name, "index": list(self.index), "value": self.value}
        return {} if self.value is None else {"value": self.value}

    @classmethod
    def of(cls, kind: str, args: Mapping[str, Any]) -> JournalEntry:
        """Create an entry from its kind and `args`."""
        return cls(kind, args.get("name", ""), tuple(args.get("index", ())), args.get("value"))


@dataclass(frozen=True, eq=False, slots=True)
class TextEdit:
    """An edited character of the text at `place` (0-based), and the one edited before it."""

    place: int
    char: str
    before: TextEdit | None


@dataclass(frozen=True, slots=True)
class TrainingSettings:
    """The settings of a stretch of training: `rule` has those of the update rule by name. `once` is the batch that learns although
    learning is off (an SGD step)."""

    learning: bool
    rule: Mapping[str, float]
    once: int | None = None
    letters: TextEdit | None = None

    def with_rule(self, name: str, value: float) -> TrainingSettings:
        """Return the settings with another value of one setting of the update rule."""
        return replace(self, rule={**self.rule, name: value})

    def learns(self, batch: int) -> bool:
        """Return True if a batch, counted through all epochs, ends with backward and update."""
        return self.learning or self.once == batch


class Trainers:
    """The trainers of a run, one per version of the text. Only the most recently used are cached; others are created again."""

    def __init__(self, config: Config) -> None:
        self._first = Trainer(config, corpus_of(config))
        self._made: OrderedDict[TextEdit, Trainer] = OrderedDict()

    def keep_records(self, most: int) -> None:
        """Set how many records are kept for reuse."""
        self._first.pool.most = most

    def of(self, letters: TextEdit | None) -> Trainer:
        """Return the trainer for the text with these characters edited."""
        if letters is None:
            return self._first
        if letters not in self._made:
            config = replace(self._first.config, text=self._text(letters))
            self._made[letters] = Trainer(config, corpus_of(config), self._first.pool)
        self._made.move_to_end(letters)
        while len(self._made) > MOST_TRAINERS:
            self._made.popitem(last=False)
        return self._made[letters]

    def _text(self, letters: TextEdit | None) -> Text:
        changed: dict[int, str] = {}
        while letters is not None:
            changed.setdefault(letters.place, letters.char)
            letters = letters.before
        text = list(self._first.config.text)
        for place, char in changed.items():
            text[place] = char
        return as_text(text, self._first.config.text)
