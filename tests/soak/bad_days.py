"""Bad days: each trouble of a script with each end in each part of a step, and runs with random rates, edits and optimizers.

python -m tests.soak.bad_days --count 2664 --seed 0

A block is one day: everything that is shown of it at its first, middle and last step is compared with its numbers.
"""

from __future__ import annotations

import asyncio
import os
import random
import tempfile
import warnings
from contextlib import chdir
from functools import cache
from pathlib import Path
from unittest.mock import patch

from tests.bad_days import GROWING, GROWTH, HAND, RATE, RUNS, BadDay, Run, Trainer, trainings
from tests.soak.blocks import run_blocks
from tests.soak.healthy import random_text
from tests.statements import (
    Shown,
    answers,
    assert_none,
    false_cells,
    false_findings,
    false_first_number,
    false_losses,
    false_rows,
    false_words,
    pages,
    panels,
    reports,
    trees,
)
from tui_gru.tui.verbs import VERBS

SIZES = ((200, 60), (160, 50), (120, 36), (110, 34), (80, 24), (40, 12))
_TRAININGS = list(trainings())
random.Random(0).shuffle(_TRAININGS)
_OWN = 4  # every fourth day is a run of the program
_ASKING = [verb for verb in VERBS if verb.group in ("Look", "Analyse") or verb.id in ("check", "not.finite")]


@cache
def _trainer() -> Trainer:
    return Trainer()


def day_of(seed: int, folder: Path) -> BadDay:
    """Return the day of a seed."""
    if seed % _OWN:
        return _trainer().record(_TRAININGS[(seed - seed // _OWN - 1) % len(_TRAININGS)], folder)
    at = seed // _OWN
    return (RUNS[at] if at < len(RUNS) else random_run(seed)).make(folder)


def random_run(seed: int) -> Run:
    """Return a run with an absurd rate, or a number that is set to something absurd."""
    chance = random.Random(seed)
    rows, timesteps = chance.choice([1, 2, 4]), chance.choice([2, 5, 16])
    options = {
        "text": random_text(chance, 14 * rows * timesteps + 100),
        "hidden_size": chance.choice([2, 5, 12]),
        "batch_size": rows,
        "seq_length": timesteps,
        "seed": seed,
        "optimizer": chance.choice(["sgd", "momentum", "adam"]),
        "clip": chance.choice([0.0, 1.0]),
        "dtype": chance.choice(["float32", "float32", "float64"]),
    }
    options |= {"cell_text": GROWING} if chance.random() < 0.1 else {"cell": chance.choice(["gru", "lstm", "rnn", "mgu"])}
    edits = ()
    if chance.random() < 0.5:
        options["learning_rate"] = 10 ** chance.uniform(2, 30)
    else:
        name = chance.choice(["learning_rate", "Wy", "Wh"]) if options.get("cell") != "lstm" else "Wy"
        edits = ((chance.randint(0, 6), name, () if name == "learning_rate" else (0, 0), 10 ** chance.uniform(4, 37)),)
    # A weight that is set to something absurd may do no harm: then what else is true of so short a run comes first.
    slow = frozenset({"rate-too-small", "softmax-underflow"}) if edits and edits[0][1] != "learning_rate" else frozenset()
    return Run(f"run {seed}", options, 10, edits, stops=chance.random() < 0.5, causes=RATE | GROWTH | HAND | slow)


async def _shown_panels(day: BadDay, place: str, size: tuple[int, int]) -> list[str]:
    session, shown, faults = day.open(place), list[Shown](), list[str]()
    async for where, panel in panels(session, size):
        shown.append(Shown(where, f"{panel.plain_text()}\n{panel.subheading}"))
        faults += [f"{where}: {fault}" for fault in false_cells(panel, session)]
    return faults + false_words(shown, day.facts)


def faults_of(day: BadDay, chance: random.Random, folder: Path) -> list[str]:
    """Return all that is false in what is shown of a day."""
    session, facts = day.open(), day.facts
    findings = session.findings()
    names = [each.name for each in findings]
    faults = [] if day.name.startswith("run ") and not names else false_findings(names, facts)
    faults += false_first_number(day.open(), facts, of_script=day.records)
    for place in ("first", "middle", "last"):
        faults += [f"{place}: {fault}" for fault in false_losses(day.open(place), facts)]
        faults += [f"{place}: {fault}" for tree in trees(day.open(place)) for fault in false_rows(tree)]
        size = chance.choice(SIZES)
        faults += [f"{place}: {fault}" for fault in asyncio.run(_shown_panels(day, place, size))]
    place = chance.choice(("first", "middle", "last"))
    shown = [Shown(f"{place} {each.verb.id}", f"{each.text}\n{each.refused}") for each in answers(day.open(place), _ASKING)]
    text = " ".join(" ".join(each.text for each in shown if each.where.endswith(" findings")).split())
    faults += [f"nothing says that the script ended with {word}" for word in facts.ended if place == "last" and word not in text]
    shown += [*reports(day.path, folder), *pages(session, findings)]
    return faults + false_words(shown, facts)


def block(seed: int) -> int:
    """Ask everything of one day."""
    with tempfile.TemporaryDirectory() as name, chdir(name), warnings.catch_warnings():
        folder = Path(name)
        state = {"XDG_STATE_HOME": str(folder / "state"), "XDG_CONFIG_HOME": str(folder / "config")}
        with patch.dict(os.environ, state):
            warnings.simplefilter("error", RuntimeWarning)
            day = day_of(seed, folder / "day") if seed % _OWN else day_of(seed, folder)
            faults = faults_of(day, random.Random(seed), folder)
            faults += [path.read_text(encoding="utf-8")[-600:] for path in (folder / "state").glob("tui-gru/reports/*")]
    assert_none([f"{day.name}: {fault}" for fault in faults])
    return 1


if __name__ == "__main__":
    run_blocks(__doc__ or "", "days", 2664, block)
