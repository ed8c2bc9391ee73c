"""Planted troubles in own runs: how often the first cure that is offered helps, when the run really has it.

python -m tests.soak.cures --count 48 --seed 0

A block plants one trouble: a rate, a size, first weights, a text, a cell, a clip, a decay, or how the state is carried. Its first
cause is asked for, and the run is done again with the cure offered there, by the public verbs and not by a trial: in a new session
from the first batch on, or from the batch of the finding on. A cure helps if the last losses are lower than without it. It is a
finding of this test if a cure that is offered as tried does not help; the share of those that do is printed at the end.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np

from tests.soak.blocks import run_blocks
from tests.soak.mistakes import FORGETFUL, MIXING, OFF, SHUT, healthy
from tui_gru import Finding, Session
from tui_gru.analysis.trials import Cure, put_back

DECAYING = "symbol learning_rate η\nsetting η = 0.1\nsetting λ = {}\nW = W − η ⊙ (dW + λ ⊙ W)"
LAST = 24  # batches that judge
LOWER = 0.02  # nats
NEW_WEIGHTS = {"init", "seed", "dtype", "cell", "hidden_size", "embedding", "layers", "bidirectional"}


class Plan(NamedTuple):
    """A run with a trouble: its options, how many batches it trains, the numbers of whole parameters that are edited at the start,
    and the rate that is set by hand at a batch, if one is."""

    options: dict[str, Any]
    batches: int = 250
    edits: Mapping[str, float] = MappingProxyType({})
    later: tuple[int, float] | None = None


def _small(chance: random.Random, **changes: Any) -> dict[str, Any]:
    return healthy(chance, **({"hidden_size": chance.choice([8, 16, 32]), "seq_length": chance.choice([8, 16])} | changes))


def _rates(chance: random.Random, rates: dict[str, list[float]]) -> Plan:
    optimizer = chance.choice(list(rates))
    clip = chance.choice([0.0, 1.0]) if optimizer == "adam" else 0.0
    return Plan(_small(chance, optimizer=optimizer, learning_rate=chance.choice(rates[optimizer]), clip=clip))


def _equal(chance: random.Random) -> Plan:
    names = ["Wz", "Wr", "Wh", "Uz", "Ur", "Uh", "bz", "br", "bh", "Wy"]
    options = _small(chance, cell="gru", hidden_size=8, optimizer="sgd", learning_rate=0.3)
    return Plan(options, edits=dict.fromkeys(names, chance.choice([0.0, 0.1, 0.3])))


TROUBLES: dict[str, Callable[[random.Random], Plan]] = {
    "a rate that is too large": lambda c: _rates(c, {"adam": [0.3, 1.0, 3.0], "sgd": [30.0, 100.0], "momentum": [5.0, 30.0]}),
    "a rate that is too small": lambda c: _rates(c, {"adam": [1e-6, 1e-5], "sgd": [1e-5, 1e-3], "momentum": [1e-6, 1e-4]}),
    "a rate raised by hand": lambda c: Plan(_small(c), 300, later=(150, c.choice([0.5, 1.0, 3.0]))),
    "a rate lowered by hand": lambda c: Plan(_small(c), 300, later=(20, c.choice([0.0, 1e-7]))),
    "first weights of size 1": lambda c: Plan(_small(c, init="tutorial", hidden_size=64)),
    "gates shut by their biases": lambda c: Plan(_small(c, cell="gru"), edits={"bz": c.choice([7.0, 9.0, 15.0])}),
    "equal first weights": _equal,
    "a clip to nothing": lambda c: Plan(_small(c, optimizer="sgd", clip=c.choice([1e-3, 0.01]), learning_rate=0.3)),
    "a decay that holds the weights down": lambda c: Plan(
        _small(c, optimizer="decay.update", optimizer_text=DECAYING.format(c.choice([0.3, 1.0])), learning_rate=0.3, clip=0.0)
    ),
    "one unit": lambda c: Plan(_small(c, hidden_size=1, learning_rate=0.03), 400),
    "two timesteps": lambda c: Plan(_small(c, seq_length=2, batch_size=2, carry="reset"), 400),
    "a gate that never opens": lambda c: Plan(_small(c, cell="own.cell", cell_text=SHUT)),
    "a relu that is off": lambda c: Plan(_small(c, cell="own.cell", cell_text=OFF)),
    "a state that forgets": lambda c: Plan(_small(c, cell="own.cell", cell_text=FORGETFUL)),
    "rows that are mixed": lambda c: Plan(_small(c, cell="own.cell", cell_text=MIXING)),
    "the layout of the tutorial": lambda c: Plan(_small(c, layout="tutorial")),
    "a gradient into earlier batches": lambda c: Plan(_small(c, carry="notebook", hidden_size=8), 60),
}


def trained(plan: Plan, extra: int = 0, **changes: Any) -> Session:
    """Run a plan, with some options changed, and `extra` batches more."""
    session = Session(**{**plan.options, **changes})
    session.learning, session.stop_on_nan = True, False
    if not NEW_WEIGHTS & changes.keys():
        for name, value in plan.edits.items():
            for index in np.ndindex(session.parameter(name).shape):
                session.edit(name, index, value)
    if plan.later is not None:
        session.step("batch", plan.later[0])
        session.learning_rate = plan.later[1]
        session.step("batch", plan.batches - plan.later[0] + extra)
    else:
        session.step("batch", plan.batches + extra)
    return session


def last_loss(session: Session) -> float:
    count = session.state.timeline.completed(session.position)
    losses = session.history("loss", at=range(count - LAST, count))[1]
    return float(losses.mean())


def with_cure(plan: Plan, session: Session, finding: Finding, cure: Cure) -> float:
    """Return the last loss of the run with a cure, some batches later than it was offered."""
    timeline = session.state.timeline
    if cure.name == "undo":
        session = trained(plan)
        session.seek(cure.value)
        for entry in put_back(timeline, cure.value):
            if entry.kind == "edit":
                session.edit(entry.name, entry.index, entry.value)
        session.learning = True
        session.step("batch", plan.batches + LAST - timeline.completed(session.position))
        return last_loss(session)
    setting = {"clip": "limit"}.get(cure.name, cure.name)
    if finding.since and setting in session.snapshot().settings.rule:
        session = trained(plan)
        session.seek(timeline.end_of(finding.since - 1))
        session.edit(setting, (), cure.value)
        session.step("batch", plan.batches + LAST - timeline.completed(session.position))
        return last_loss(session)
    options = {name: value for name, value in plan.options.items() if name != f"{cure.name}_text"}
    return last_loss(trained(plan._replace(options=options, later=None), LAST, **{cure.name: cure.value}))


class Outcome(NamedTuple):
    """What a trouble gave: the first cause, its first cure, and the last loss without it and with it."""

    trouble: str
    finding: str
    cure: str
    was_tried: bool
    without: float
    with_it: float

    @property
    def helps(self) -> bool:
        return self.with_it < self.without - LOWER or (np.isfinite(self.with_it) and not np.isfinite(self.without))


def outcome(seed: int) -> Outcome:
    """Plant the trouble of a seed, and try the first cure that is offered; its name is "" if none is."""
    chance = random.Random(seed)
    trouble = list(TROUBLES)[seed % len(TROUBLES)]
    plan = TROUBLES[trouble](chance)
    session = trained(plan)
    causes = [finding for finding in session.diagnose() if not finding.is_observation]
    first = next((finding for finding in causes if finding.cures), None)
    if first is None:
        return Outcome(trouble, causes[0].name if causes else "", "", False, np.nan, np.nan)
    cure = first.cures[0]
    without = last_loss(trained(plan, LAST))
    return Outcome(trouble, first.name, cure.typed, first.is_tried, without, with_cure(plan, session, first, cure))


_offered, _help = [0], [0]


def block(seed: int) -> int:
    """Plant one trouble."""
    result = outcome(seed)
    print(result, flush=True)
    if result.cure:
        _offered[0] += 1
        _help[0] += result.helps
        print(f"{_help[0]} of {_offered[0]} first cures help", flush=True)
        assert result.helps or not result.was_tried, result
    return 1


if __name__ == "__main__":
    run_blocks(__doc__ or "", "troubles", 2 * len(TROUBLES), block)
