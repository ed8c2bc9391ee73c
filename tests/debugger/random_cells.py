"""Random cells against an independent loop, and everything that is said about their numbers.

A number is allowed to be off by what rounding explains: by some units in the last place of what noise in every operation of the
loop changes in its array.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from tests.debugger.deriving import assert_adds_up, explained, walk
from tests.engine.cells import random_cell
from tests.engine.tape import NOISE, Arrays, Batch, flat, forward, gradients, losses, softmax
from tests.session.acting import timeline_of
from tui_gru import Session, TuiGruError
from tui_gru.analysis.units import can_be_silent
from tui_gru.engine.batch import BatchRecord
from tui_gru.engine.config import CARRIES, DTYPES
from tui_gru.equations import syntax as e
from tui_gru.equations.page import Equation, Input

TEXT = "abcacbabcbacbabcaabcbbacabbca"
UNITS = 512  # in the last place: rounding of sums in another order, and the largest of many numbers against one draw of the noise
LARGEST = 1e4  # cells whose numbers grow beyond it are left out


def opened(seed: int) -> Session | None:
    """Return a session with three batches of a random cell; None if the cell is refused, or its numbers grow too large."""
    sizes = {"hidden_size": 2 + seed % 2, "batch_size": 2 + seed // 2 % 2, "seq_length": 2 + seed // 4 % 2}
    kinds = {"carry": CARRIES[seed % 3], "dtype": DTYPES[seed // 3 % 2], "optimizer": "sgd", "clip": 0.0, "learning_rate": 0.3}
    try:
        session = Session(text=TEXT, cell="mine.cell", cell_text=random_cell(seed), seed=seed, **sizes, **kinds)
    except TuiGruError:
        return None
    session.learning = True
    session.step("batch", 3)
    blocks = [timeline_of(session).record(batch).block for batch in range(3)]
    return session if all(np.isfinite(block).all() and np.abs(block).max() < LARGEST for block in blocks) else None


def sweep(seed: int) -> int:
    """Check everything for one random cell. Return the number of derivations that add up; 0 for a cell that was left out."""
    session, chance = opened(seed), random.Random(seed)
    if session is None:
        return 0
    for batch in range(3):
        assert_trained(session, batch)
    done = derived(session, chance, names=8, depth=3)
    for parameter in chance.sample(session.program.parameters, 2):
        index = tuple(map(chance.randrange, session.gradient(parameter).shape))
        deep = 5 if session.config.carry == "notebook" else 4
        done += assert_adds_up(session.explain(f"d{parameter}", index), deep, session.config.dtype)
    report = session.check(entries=seed % 2)
    assert report.agrees, report.summary
    assert_what_if(session, chance)
    assert_read(session, chance)
    assert_influence(session, chance)
    if session.config.carry != "notebook":  # whose gradient goes into batches that were computed with all units
        done += assert_silent(session, chance)
    session.seek(2 * session.program.ticks + chance.randint(1, session.program.ticks - 1))
    return done + derived(session, chance, names=6, depth=2)


def derived(session: Session, chance: random.Random, names: int, depth: int) -> int:
    """Check that derivations of random numbers add up, and that every reference leads to the very number."""
    timeline, done = timeline_of(session), 0
    known = [name for name in explained(session) if session.value(name) is not None]
    for name in chance.sample(known, min(names, len(known))):
        value = np.asarray(session.value(name))
        index = tuple(map(chance.randrange, value.shape))
        root = session.explain(name, index)
        assert root.value == float(value[index])
        done += assert_adds_up(root, depth, session.config.dtype)
        for node in walk(root, depth):
            assert all(0 <= share <= 1 for share in node.shares)
            if (number := node.number) is not None:
                moment = (timeline.moment_before if number.before else timeline.moment)(number.tick)
                found = moment.value(number.name, number.t)
                if found is None:  # a state that is read by the timestep that begins
                    found = moment.record.array(number.name)[number.t]
                assert float(np.asarray(found)[number.index]) == node.value, number
    return done


# Against the independent loop


def batch_of(record: BatchRecord) -> Batch:
    """Return what a batch began with."""
    page, timesteps = record.compiled.model.page, range(record.compiled.sizes["T"])
    inputs = [name for name, given in page.inputs.items() if not given.target]
    return Batch(
        {name: flat(weight) for name, weight in record.before.items()},
        [{name: np.asarray(record.array(name)[t], np.float64) for name in inputs} for t in timesteps],
        {state: np.array(record.border(state, end=False), np.float64) for state in page.states},
    )


def targets_of(record: BatchRecord) -> list[np.ndarray]:
    """Return the targets (B, V) of each timestep."""
    (name,) = (name for name, given in record.compiled.model.page.inputs.items() if given.target)
    return list(np.asarray(record.array(name), np.float64))


def noise() -> np.random.Generator:
    """Return the noise for a second run of the independent loop."""
    return np.random.default_rng(0)


def assert_close(name: str, ours: np.ndarray, theirs: np.ndarray, other: np.ndarray, dtype: str) -> None:
    """Compare an array with that of the independent loop; `other` is the latter with noise."""
    ours, theirs, other = (np.asarray(array, np.float64).reshape(np.shape(ours)) for array in (ours, theirs, other))
    amplified = np.abs(other - theirs).max() / NOISE
    allowed = UNITS * float(np.finfo(dtype).eps) * (amplified + np.abs(theirs).max() + 0.01)
    assert np.abs(ours - theirs).max() <= allowed, (name, ours, theirs, allowed)


def assert_trained(session: Session, batch: int) -> None:
    """Compare the values and gradients of a batch."""
    records = [timeline_of(session).record(number) for number in range(batch + 1)]
    record, names = records[-1], session.program.names
    page, dtype = record.compiled.model.page, session.config.dtype
    batches = [batch_of(each) for each in (records if session.config.carry == "notebook" else records[-1:])]
    theirs, tape = gradients(page, batches, targets_of(record))
    other, like = gradients(page, batches, targets_of(record), noise())
    for name, gradient in record.own_gradients.items():
        assert_close(f"d{name}", gradient, theirs[name], other[name], dtype)
    for t, at in enumerate(tape.named):
        for name in at.keys() & set(session.program.values):
            array = record.array(name)
            assert_close(name, array[t] if names[name].timed else array, tape.value(name, t), like.value(name, t), dtype)


def assert_what_if(session: Session, chance: random.Random) -> None:
    """Compare the loss and the gradients with another weight."""
    parameter = chance.choice(session.program.parameters)
    index = tuple(map(chance.randrange, session.parameter(parameter).shape))
    what = session.what_if(parameter, index, 0.37)
    records = [timeline_of(session).record(number) for number in range(3)]
    page, targets = records[-1].compiled.model.page, targets_of(records[-1])
    batches = [batch_of(each) for each in (records if session.config.carry == "notebook" else records[-1:])]
    weights = {**batches[-1].weights, parameter: batches[-1].weights[parameter].copy()}
    weights[parameter][(0, *index)[-2:]] = np.asarray(0.37, session.config.dtype)
    batches[-1] = batches[-1]._replace(weights=weights)
    (theirs, tape), (other, like) = (gradients(page, batches, targets, each) for each in (None, noise()))
    would = what.then.record
    assert_close("loss", np.array([would.loss]), losses(tape, targets).mean(), losses(like, targets).mean(), session.config.dtype)
    for name, gradient in would.own_gradients.items():
        assert_close(f"d{name}", gradient, theirs[name], other[name], session.config.dtype)


def assert_silent(session: Session, chance: random.Random) -> int:
    """Compare a batch without a unit with the loop that multiplies the unit's line by a mask. Return the number of derivations."""
    record, config = timeline_of(session).record(2), session.config
    page = record.compiled.model.page
    name = chance.choice([line.target for line in page.lines if can_be_silent(config.model, line.target)])
    unit = chance.randrange(config.compiled.shape(config.model.axes[name])[-1])
    mask = np.ones((config.batch_size, config.compiled.shape(config.model.axes[name])[-1]))
    mask[:, unit] = 0
    lines = list[Equation]()
    for line in page.lines:
        if line.target == name:
            lines.append(replace(line, target="unmasked"))
            line = Equation(name, e.Times((e.Name("mask"), e.Name("unmasked"))))
        lines.append(line)
    batch, targets = batch_of(record), targets_of(record)
    if name in batch.states:
        batch.states[name][:, unit] = 0
    batch = batch._replace(x=[{**x, "mask": mask} for x in batch.x])
    with_mask = replace(page, lines=tuple(lines), inputs={**page.inputs, "mask": Input("H")})
    (theirs, tape), (other, like) = (gradients(with_mask, [batch], targets, each) for each in (None, noise()))
    session.silence(name, unit)
    assert session.loss is not None
    assert_close("loss", np.array([session.loss]), losses(tape, targets).mean(), losses(like, targets).mean(), config.dtype)
    for parameter in session.program.parameters:
        assert_close(f"d{parameter}", np.asarray(session.gradient(parameter)), theirs[parameter], other[parameter], config.dtype)
    done, names = 0, [name for name in explained(session) if session.value(name) is not None]
    for each in chance.sample(names, min(6, len(names))):
        index = tuple(map(chance.randrange, np.shape(session.value(each))))
        done += assert_adds_up(session.explain(each, index), 2, config.dtype)
    assert session.check(entries=0).agrees
    session.silence()
    return done


def assert_read(session: Session, chance: random.Random) -> None:
    """Compare a text read with the weights of this moment: a value after each character, and the losses."""
    text = "".join(chance.choices(session.config.vocabulary, k=23))
    names = session.program.names
    rows = [name for name in session.program.values if names[name].axes == ("B", "H") and not name.endswith("_prev")]
    name = chance.choice(rows)
    page, weights = session.config.model.page, {name: flat(session.parameter(name)) for name in session.program.parameters}
    one_hot = np.eye(len(session.config.vocabulary))[[session.config.vocabulary.index(char) for char in text]]
    (read,) = (name for name, given in page.inputs.items() if not given.target)
    batch = Batch(
        weights, [{read: x[None]} for x in one_hot], {state: np.zeros((1, session.config.hidden_size)) for state in page.states}
    )
    tapes = [forward(page, batch, each) for each in (None, noise())]
    own, other = ([tape.value(name, t)[0] for t in range(len(text))] for tape in tapes)
    assert_close(name, session.units(name, text=text).values, np.array(own), np.array(other), session.config.dtype)
    own, other = (losses(tape, one_hot[1:, None])[:, 0] for tape in tapes)
    assert_close("losses", session.losses(text=text).values, own, other, session.config.dtype)


def assert_influence(session: Session, chance: random.Random) -> None:
    """Compare the influence of the inputs of this batch on a prediction."""
    record = session.snapshot().record
    T, B = session.config.seq_length, session.config.batch_size
    t, row = chance.randrange(T), chance.randrange(B)
    found = session.influence(row, t, back=0)
    batch, page = batch_of(record), record.compiled.model.page

    def slopes(rounding: np.random.Generator | None) -> Sequence[float]:
        tape = forward(page, batch, rounding)
        seed = np.zeros_like(tape.value("logits", t))
        seed[row] = (np.arange(seed.shape[1]) == found.character) - softmax(tape.value("logits", t))[row]
        back = tape.backward({tape.named[t]["logits"]: seed}, batch.weights)
        (read,) = batch.x[0]
        return [float(np.linalg.norm(back[tape.named[k][read]][row])) for k in range(T)]

    def prediction(x: Sequence[Arrays], rounding: np.random.Generator | None) -> float:
        tape = forward(page, batch._replace(x=x), rounding)
        return float(np.log(softmax(tape.value("logits", t))[row, found.character]))

    assert_close("influence", found.gradient, np.array(slopes(None)), np.array(slopes(noise())), "float64")
    omitted = chance.randrange(t + 1)
    without = [dict(at) for at in batch.x]
    without[omitted] = {name: np.where(np.arange(B)[:, None] == row, 0, value) for name, value in without[omitted].items()}
    own, other = (prediction(batch.x, each) - prediction(without, each) for each in (None, noise()))
    assert_close("occlusion", np.array([found.occlusion[omitted]]), np.array([own]), np.array([other]), "float64")
