"""A finding, and the evidence for it."""

from __future__ import annotations

from dataclasses import dataclass

from tui_gru.debugger.derivation.origin import ValueRef


@dataclass(frozen=True)
class Evidence:
    """One fact in words. `number` is a number of the run that shows it, with its `value`; its origin can be followed."""

    words: str
    number: ValueRef | None = None
    value: float | None = None


@dataclass(frozen=True)
class Finding:
    """A mistake that a run shows. `name` is that of its row in the table; `meaning` is a sentence for a learner.

    `tick` is the place of the run that shows it best; None where the whole run does.
    """

    name: str
    title: str
    meaning: str
    cure: str
    evidence: tuple[Evidence, ...]
    tick: int | None = None


def digits(x: float) -> str:
    """Three significant digits: `0.0123`, `1.2e-5`, `1,230`."""
    if abs(x) >= 1000 and abs(x) < 1e6:
        return f"{x:,.0f}"
    mantissa, _, exponent = f"{x:.3g}".partition("e")
    return f"{mantissa}e{int(exponent)}" if exponent else mantissa


def percent(share: float) -> str:
    """`34 %`; what is not quite all or nothing is not rounded to it."""
    if 0 < share < 0.01:
        return "under 1 %"
    return f"{min(round(100 * share), 99) if share < 1 else 100} %"


def counted(count: int, what: str) -> str:
    """`1 batch`, `3 batches`, `2 units`, `1,000 entries`."""
    plural = f"{what[:-1]}ies" if what.endswith("y") else f"{what}es" if what.endswith(("ch", "s")) else f"{what}s"
    return f"{count:,} {what if count == 1 else plural}"


def listed(words: list[str], most: int = 4) -> str:
    """`a, b and c`; of more than `most` how many others there are."""
    if len(words) > most:
        return f"{', '.join(words[:most])} and {len(words) - most} others"
    return f"{', '.join(words[:-1])} and {words[-1]}" if len(words) > 1 else "".join(words)
