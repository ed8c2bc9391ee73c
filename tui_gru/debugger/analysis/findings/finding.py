"""A finding, and the evidence for it."""

from __future__ import annotations

from dataclasses import dataclass

from tui_gru.debugger.derivation.origin import ValueRef


@dataclass(frozen=True)
class Evidence:
    """One fact in words. `number` refers to a number of the run that shows it, with its `value`."""

    words: str
    number: ValueRef | None = None
    value: float | None = None


@dataclass(frozen=True)
class Finding:
    """A problem that a run shows. `name` is that of its row in the table; `meaning` is a sentence for a learner.

    `tick` is the place of the run that shows it best; None if the whole run does.
    """

    name: str
    title: str
    meaning: str
    cure: str
    evidence: tuple[Evidence, ...]
    tick: int | None = None

    def __repr__(self) -> str:
        return f"<finding {self.name}: {self.title}; cure: {self.cure}>"


def counted(count: int, what: str) -> str:
    """Return a number with a noun: `1 batch`, `3 batches`, `7 epochs`, `1,000 entries`."""
    plural = f"{what[:-1]}ies" if what.endswith("y") else f"{what}es" if what.endswith(("tch", "s")) else f"{what}s"
    return f"{count:,} {what if count == 1 else plural}"


def listed(words: list[str], most: int = 4) -> str:
    """Return words in a list: `a, b and c`; if there are more than `most`, `a, b and 3 others`."""
    if len(words) > most:
        return f"{', '.join(words[:most])} and {len(words) - most} others"
    return f"{', '.join(words[:-1])} and {words[-1]}" if len(words) > 1 else "".join(words)
