"""What the independent loop states about each public name of a session."""

from __future__ import annotations

import gzip
import json
import math
import re
from base64 import b64decode
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from unittest.mock import patch

import numpy as np
import pytest
import torch

from tests.debugger.deriving import assert_adds_up, explained, walk
from tests.session.acting import bits, portrait, timeline_of
from tests.session.pairs import oracle
from tests.session.pairs.oracle import Change, Event, Loop, Pass, Silent
from tests.session.pairs.sweep import VOCABULARY, Sweep
from tui_gru import Session, TuiGruError
from tui_gru.analysis.examined import Finding
from tui_gru.analysis.trials import Cure
from tui_gru.debugger.edits import changeable
from tui_gru.debugger.program import spoken
from tui_gru.storage.trace import json_text
from tui_gru.tui.console import Console
from tui_gru.tui.derivations import ExplainedNumbers
from tui_gru.tui.player import Walk

Check = Callable[[Sweep], None]
CHECKS: dict[Check, tuple[str, ...]] = {}  # with the names of a session that each is about


def about(*names: str) -> Callable[[Check], Check]:
    def note(check: Check) -> Check:
        CHECKS[check] = names
        return check

    return note


def public_names() -> set[str]:
    """Return all that a session has for its users."""
    return {name for name in dir(Session) if not name.startswith("_") or name == "_repr_html_"}


# ------------------------------------------------------------------------------
# The numbers of the run.


@about("value", "parameter", "gradient", "loss", "parameter_names", "program", "config", "seek", "position")
def values(s: Sweep) -> None:
    """All values of all batches, their gradients, the gradients of weights, and the weights after the update."""
    session = s.fork()
    for batch in range(s.last + 1):
        session.seek((batch + 1) * session.program.ticks)
        assert session.position.number == batch
        s.compare_batch(session, batch)
    assert session.parameter_names == tuple(s.first)


@about("snapshot", "summary", "recorded_gradient", "expected", "remarks", "steps", "machine_difference")
def panels(s: Sweep) -> None:
    """A snapshot has the numbers of the session; a summary counts them."""
    session = s.fork()
    snapshot, name = session.snapshot(), s.chance.choice(list(s.first))
    rule = s.loops[0].optimizer.state_dict()["state"]
    words = {"momentum_buffer": "m", "exp_avg": "m", "exp_avg_sq": "v"}
    for key, word in words.items():
        if rule and key in rule[0]:
            index = list(s.first).index(name)
            if f"{word}_{name}" in session.program.names:
                s.same(
                    f"{word} of {name}",
                    snapshot.value(f"{word}_{name}"),
                    lambda loop: loop.optimizer.state_dict()["state"][index][key],
                )
    s.same("a step", snapshot.last_step(name), lambda loop: loop.batches[-1].after[name] - loop.batches[-1].before[name])
    summary = session.summary(name)
    s.same("largest", max(abs(summary.smallest), abs(summary.largest)), lambda loop: np.abs(loop.batches[-1].after[name]).max())
    assert session.recorded_gradient(name) is session.expected is session.machine_difference is None
    assert (session.remarks, session.steps) == ("", ())


@about("explain", "derive")
def derivations(s: Sweep) -> None:
    """The terms of each number add up to it, and each term leads to the very number."""
    session = s.fork()
    derived(s, session, 6, 3)
    for parameter in s.chance.sample(list(s.first), 2):
        index = tuple(map(s.chance.randrange, s.first[parameter].shape))
        deep = 5 if s.setup.carry == "notebook" else 4
        s.comparisons += assert_adds_up(session.explain(f"d{parameter}", index), deep, session.config.dtype)
    session.seek(s.last * session.program.ticks + s.chance.randint(1, session.program.ticks - 1))
    derived(s, session, 4, 2)


def derived(s: Sweep, session: Session, names: int, depth: int) -> None:
    timeline = timeline_of(session)
    readable = [name for name in explained(session) if session.value(name) is not None]
    for name in s.chance.sample(readable, min(names, len(readable))):
        value = np.asarray(session.value(name))
        index = tuple(map(s.chance.randrange, value.shape))
        root = session.explain(name, index)
        assert root.value == float(value[index])
        s.comparisons += assert_adds_up(root, depth, session.config.dtype)
        for node in walk(root, depth):
            assert all(0 <= share <= 1 for share in node.shares)
            if (number := node.number) is not None and session.silent is None:
                assert session.derive(number).value == node.value
                moment = (timeline.moment_before if number.before else timeline.moment)(number.tick)
                read = moment.value(number.name, number.t)
                if read is None:  # a state that is read by the timestep that begins
                    read = moment.record.array(number.name)[number.t]
                assert float(np.asarray(read)[number.index]) == node.value, number


# ------------------------------------------------------------------------------
# The batch with something changed.


def compare_trained(
    s: Sweep,
    words: str,
    record: Any,
    session: Session,
    trained: Callable[[Loop], Any],
    *,
    deltas: bool = True,
    same_memory: tuple[tuple[str, int], ...] = (),
) -> None:
    """Compare a record of the last batch with one that the loop has trained otherwise, without the numbers of `same_memory`."""
    computed = {id(loop): trained(loop) for loop in s.loops}
    names, model = session.program.names, computed[id(s.loops[0])]
    s.same(f"loss, {words}", record.loss, lambda loop: computed[id(loop)].loss)
    for name, t in model.batch.values:
        if name in names and names[name].timed and (name, t) not in same_memory:
            s.same(f"{name} at {t}, {words}", record.array(name)[t], lambda loop: computed[id(loop)].batch.value(name, t))
        if deltas and f"d{name}" in names:
            s.same(f"d{name} at {t}, {words}", record.array(f"d{name}")[t], lambda loop: computed[id(loop)].batch.gradient(name, t))
    for name in s.first if deltas else ():
        s.same(f"d{name}, {words}", record.gradients[name], lambda loop: computed[id(loop)].gradients[name])
        s.same(f"{name} after, {words}", record.after[name], lambda loop: computed[id(loop)].after[name])


def plain(session: Session, command: str) -> Any:
    """Return what `tui-gru run --json` says to a command, as a reader of the line gets it."""
    console = Console(session)
    try:
        return json.loads(json_text(console.execute(command).data))
    finally:
        console.close()


@about("what_if")
def weights_otherwise(s: Sweep) -> None:
    """Another weight, or another gradient of a weight, in the last batch."""
    session = s.fork()
    name = s.chance.choice(list(s.first))
    index = tuple(map(s.chance.randrange, s.first[name].shape))
    value = s.number(0.43)
    what = session.what_if(name, index, value)
    changed = Event(s.last, name, index, value)
    compare_trained(s, f"with {name}{index}", what.then.record, session, lambda loop: s.otherwise(loop, weight=changed))
    s.same("the loss before", what.losses[0], lambda loop: loop.batches[-1].loss)
    s.same("the loss after", what.losses[1], lambda loop: s.otherwise(loop, weight=changed).loss)
    answer = plain(session, f"what-if {name}[{', '.join(map(str, index))}] {value!r}")
    assert (answer["loss"], answer["loss_then"]) == what.losses
    assert [each["after"] for each in answer["differences"]] == [each.after for each in what.differences]
    flat = int(np.ravel_multi_index(index, s.first[name].shape))
    what = session.what_if(f"d{name}", index, value)
    compare_trained(
        s, f"with d{name}{index}", what.then.record, session, lambda loop: s.otherwise(loop, gradient=Change(name, 0, flat, value)),
    )  # fmt: skip


@about("what_if", "adopt")
def numbers_otherwise(s: Sweep) -> None:
    """Another value, or another gradient of a value, at a timestep of the last batch."""
    session = s.fork()
    allowed, values = changeable(session.program), s.loops[0].batches[-1].batch.values
    choices = [(name, t) for name, t in values if name in allowed and name != "y_hat" and values[name, t].grad_fn is not None]
    for name, t in s.chance.sample(choices, 2):
        shape = np.shape(session.value(name, t))
        flat = s.chance.randrange(math.prod(shape))
        change, index = Change(name, t, flat, s.number(0.31)), tuple(map(int, np.unravel_index(flat, shape)))
        what = session.what_if(name, index, change.value, t)
        words = f"with {name}{index} at {t}"
        if not {*what.also_read_by}.isdisjoint(name for name, _ in values):
            continue  # a line of another timestep, as the one that joins two directions, reads the number too: `remark` says so
        # The gradients of what comes before are those of the listing, at the changed value, so they are no derivative.
        read = {session.config.model.page.before(state): (state, t + (1 if "_next" in name else -1)) for state in s.setup.states}
        same_memory = (read[name],) if name in read else ()  # what a timestep reads is shown as what the other one has computed
        compare_trained(
            s,
            words,
            what.then.record,
            session,
            lambda loop: s.otherwise(loop, change=change),
            deltas=False,
            same_memory=same_memory,
        )
        if f"d{name}" in session.program.names:
            slope = what.then.record.array(f"d{name}")[t]
            s.same(f"d{name}, {words}", slope, lambda loop: s.otherwise(loop, change=change).batch.gradient(name, t))
        with suppress(TuiGruError):  # what the run does not compute cannot be edited
            edited = s.fork()
            edited.adopt(what)
            edited.seek((s.last + 1) * session.program.ticks)
            assert edited.loss == what.losses[1]
            assert edited.undo()
        if f"d{name}" in allowed:
            change = change._replace(gradient=True)
            what = session.what_if(f"d{name}", index, change.value, t)
            compare_trained(
                s, f"with d{name}{index} at {t}", what.then.record, session, lambda loop: s.otherwise(loop, change=change)
            )


@about("silence", "silent", "value", "gradient", "snapshot", "check", "explain", "units", "losses", "what_if", "jacobian")
def silenced(s: Sweep) -> None:
    """A unit held at 0, in every value, gradient, weight, text, derivation, what-if and check."""
    session = s.fork()
    targets = [line.target for line in session.program.model.page.lines]
    names = [
        name
        for name, t in s.loops[0].batches[-1].batch.values
        if t == 0 and name in targets and name not in ("y_hat", "e", "logits")
    ]
    for name in dict.fromkeys((s.chance.choice(names), s.chance.choice(s.setup.states))):
        value = session.value(name)
        if value.ndim != 2:
            continue
        unit = s.chance.randrange(value.shape[-1])
        silent = Silent(name, unit)
        if s.setup.carry == "notebook":
            with pytest.raises(TuiGruError, match="earlier batches"):
                session.silence(name, unit)
            return
        session.silence(name, unit)
        assert (session.silent.name, session.silent.unit) == (name, unit)
        words = f"with unit {unit} of {name} at 0"
        compare_trained(s, words, session.snapshot().record, session, lambda loop: s.otherwise(loop, silent=silent))
        for each in s.first:
            s.same(f"d{each}, {words}", session.gradient(each), lambda loop: s.otherwise(loop, silent=silent).gradients[each])
        node = session.explain(name, (0, unit))
        assert (node.value, node.terms[0].label) == (0.0, "held at 0")
        derived(s, session, 4, 2)
        texts(s, session, silent)
        parameter = s.chance.choice(list(s.first))
        index = tuple(map(s.chance.randrange, s.first[parameter].shape))
        what, changed = session.what_if(parameter, index, s.number(0.43)), Event(s.last, parameter, index, s.number(0.43))
        compare_trained(
            s, f"{words} and {parameter}", what.then.record, session, lambda loop: s.otherwise(loop, weight=changed, silent=silent)
        )
        report = session.check(entries=0)
        assert report.agrees, report.summary
        jacobian(s, session, silent)
        for refused in (session.influence, session.memory):
            with pytest.raises(TuiGruError):
                refused()
        session.silence()
    assert session.silent is None
    s.compare_batch(session, s.last)


# ------------------------------------------------------------------------------
# Texts.


@about("units", "losses")
def read_texts(s: Sweep) -> None:
    """Values and losses after each character of a text, and of the batch."""
    session = s.fork()
    texts(s, session, None)
    row = s.chance.randrange(s.B)
    name = s.row_value(session)
    activity = session.units(name, row=row)
    s.same(f"{name} of row {row}", activity.values, lambda loop: [loop.batches[-1].batch.value(name, t)[row] for t in range(s.T)])
    losses = session.losses()
    order = [(t, row) for t, row in zip(losses.t.tolist(), losses.row.tolist(), strict=True)]
    s.same("losses of the batch", losses.values, lambda loop: [loop.batches[-1].batch.rows[t, row].item() for t, row in order])
    for (t, row), place in zip(order, losses.places.tolist(), strict=True):
        assert s.text[place] == VOCABULARY[int(np.argmax(s.batch(s.last)[1][t][row]))]
    without = session.units(text=s.text[:6], without=True)
    name, unit = without.name, s.chance.randrange(without.units)
    s.same("the loss of a text", without.loss, lambda loop: s.read(loop, s.text[:6]).rows[:-1].mean())
    silent = Silent(name, unit)
    s.same("the loss without a unit", without.without[unit], lambda loop: s.read(loop, s.text[:6], silent=silent).rows[:-1].mean())
    answer = plain(session, "losses")
    assert np.array_equal(answer["values"], session.losses(text=s.text).values)
    answer, *_ = plain(session, f"units {name}")
    assert np.array_equal(np.array(answer["values"], session.units(name).values.dtype), session.units(name).values)


def texts(s: Sweep, session: Session, silent: Silent | None) -> None:
    text, name = "".join(s.chance.choices(VOCABULARY, k=7)), s.row_value(session)
    activity, losses = session.units(name, text=text), session.losses(text=text)
    words = f"over a text, {silent}"
    s.same(
        f"{name} {words}",
        activity.values,
        lambda loop: [s.read(loop, text, silent=silent).value(name, t)[0] for t in range(len(text))],
    )
    s.same(f"losses {words}", losses.values, lambda loop: s.read(loop, text, silent=silent).rows[:-1])


@about("feature")
def features(s: Sweep) -> None:
    """An expression after each character of the training text."""
    session, state = s.fork(), s.setup.states[-1]
    feature = session.feature(f"max(abs({state}))")
    s.same(
        "a feature",
        feature.values(s.text),
        lambda loop: [np.abs(s.read(loop, s.text).value(state, t)).max() for t in range(len(s.text))],
    )


@about("memory")
def remembered(s: Sweep) -> None:
    """The loss by context, and the influence by distance."""
    session, text = s.fork(), "".join(s.chance.choices(VOCABULARY, k=12))
    if s.setup.bidirectional or s.setup.cell.mixes_rows:
        with suppress(TuiGruError):  # unless the rows are mixed in what no prediction reads
            session.memory(text=text)
        return
    memory = session.memory(text=text)
    contexts, ids = (1, 2), [VOCABULARY.index(char) for char in text]
    assert memory.contexts == contexts
    last = range(contexts[-1] - 1, len(ids) - 1)

    def windows(loop: Loop, context: int, omitted: int | None = None) -> tuple[Pass, torch.Tensor]:
        rows = torch.eye(len(VOCABULARY), dtype=torch.float64)[
            torch.tensor([[ids[i + k] for i in last] for k in range(1 - context, 2)])
        ]
        weights = loop.at(-1, "after")
        reads = [row @ weights["E"] if s.setup.embedding else row for row in rows[:-1]]
        if omitted is not None:
            reads[omitted] = reads[omitted] * 0
        reads = [each.detach().requires_grad_() for each in reads]
        batch = oracle.run(s.setup, weights, list(rows[:-1]), list(rows[1:]), loop.zeros(len(last)), reads=reads)
        return batch, s.predictions(batch.logits[-1])

    def losses(loop: Loop) -> list[float]:
        with loop.rounding():
            return [windows(loop, context)[0].rows[-1].mean().item() for context in contexts]

    def by_distance(loop: Loop, occlusion: bool) -> list[float]:
        with loop.rounding():
            batch, chances = windows(loop, contexts[-1])
            chosen = batch.logits[-1].argmax(1)
            picked = chances.gather(1, chosen[:, None])
            if not occlusion:
                slopes = torch.autograd.grad(picked.sum(), batch.reads)
                return [slope.norm(dim=1).mean().item() for slope in reversed(slopes)]
            without = [windows(loop, contexts[-1], t)[1].gather(1, chosen[:, None]) for t in reversed(range(contexts[-1]))]
            return [(each - picked).abs().mean().item() for each in without]

    s.same("losses by context", memory.losses, losses)
    s.same("the loss after all", memory.whole, lambda loop: s.read(loop, text).rows[list(last)].mean())
    s.same("influence by distance", memory.gradient, lambda loop: by_distance(loop, False))
    s.same("omission by distance", memory.occlusion, lambda loop: by_distance(loop, True))


@about("predict", "calculate", "trace", "to_frame", "keep_draft")
def answers(s: Sweep) -> None:
    """Chances after a text, expressions, and all numbers as arrays and as a table are those of the loop; a draft changes none."""
    session, state, t = s.fork(), s.setup.states[0], s.chance.randrange(s.T)
    if s.setup.bidirectional or s.setup.loss != "cross-entropy":
        with pytest.raises(TuiGruError):
            session.predict("ab")
    else:
        chances = session.predict("ab").probabilities
        s.same("chances", chances, lambda loop: torch.softmax(s.read(loop, "ab").logits[-1][0], 0))
    session.seek((s.last + 1) * session.program.ticks)
    size = session.calculate(f"max(abs({state})) + a", t, {"a": 0.25})
    s.same("an expression", size, lambda loop: np.abs(loop.batches[-1].batch.value(state, t)).max() + 0.25)
    arrays = session.trace(1)
    s.same("losses of the trace", arrays["loss"], lambda loop: [each.loss for each in loop.batches[1:]])
    learned = all(each.learns for each in s.loops[0].batches[1:])
    assert any(name.startswith("parameters/") for name in arrays) == learned
    for name in s.first if learned else ():
        s.same(f"{name} of the trace", arrays[f"parameters/{name}"], lambda loop: [each.after[name] for each in loop.batches[1:]])
    table = session.to_frame("history")
    s.same("losses of the table", table["loss"], lambda loop: [each.loss for each in loop.batches])
    numbers = bits_here(session)
    session.keep_draft()
    assert bits_here(session) == numbers
    assert all(set(draft.text) <= set(VOCABULARY) for drafts in session.state.drafts.values() for draft in drafts)


@about("largest_gradients")
def gradients_of_rows(s: Sweep) -> None:
    """The norm of what the head and the loss give to each row, by the gradient of the logits and the weights of the head."""
    session = s.fork()
    if s.setup.carry == "notebook" or not session.program.model.page.outputs:
        return

    def norms(loop: Loop) -> np.ndarray:
        last = loop.batches[-1]
        slopes = np.array([np.asarray(last.batch.gradient("logits", t)) for t in range(s.T)]) @ last.before["Wy"].T
        return np.sort(np.linalg.norm(slopes[..., : s.H], axis=(0, 2)))[::-1]

    if s.loops[0].batches[-1].learns:
        rows = [(place.row, norm) for place, norm in session.largest_gradients(100) if place.batch == s.last]
        assert sorted(row for row, _ in rows) == list(range(s.B))
        s.same("gradients of rows", [norm for _, norm in rows], norms)


@about("sample", "samples")
def sampled(s: Sweep) -> None:
    """Each distribution is the one of the loop after the same characters, and the character is the one that the number chooses."""
    session = s.fork()
    if s.setup.bidirectional or s.setup.loss != "cross-entropy":
        with pytest.raises(TuiGruError):
            session.sample("ab", 4)
        return
    session.sample("ab", 4, temperature=0)
    session.sample("ab", 5, temperature=0.7, seed=s.seed)
    session.sample("ab", 4, temperature=0, sampler="tutorial")
    for sample in session.samples:
        for i, draw in enumerate(sample.draws):
            text = "ab" + "".join(each.char for each in sample.draws[:i]) if sample.sampler == "fed-back" else "ab" * (i + 1)
            sharper = sample.temperature or 1.0
            s.same("a distribution", draw.y_hat, lambda loop: torch.softmax(s.read(loop, text).logits[-1][0] / sharper, 0))
            best = int(np.argmax(draw.y_hat))
            assert (
                draw.char == VOCABULARY[best if draw.uniform is None else int(np.searchsorted(np.cumsum(draw.y_hat), draw.uniform))]
            )
    *_, answer = plain(session, "sample ab 4 0")
    assert answer["text"] == session.samples[0].text


# ------------------------------------------------------------------------------
# What a prediction depends on.


@about("influence", "influence_of_rows")
def influences(s: Sweep) -> None:
    session = s.fork()
    t, row, back = s.chance.randrange(s.T), s.chance.randrange(s.B), s.chance.choice([0, 2 * s.T])
    if back and s.setup.cell.mixes_rows:
        back = 0
    influence = session.influence(row, t, back=back)
    first = int(influence.batch[0])
    batches = range(first, s.last + 1)

    def ran(loop: Loop, omitted: int | None = None, others: bool = False) -> tuple[Pass, torch.Tensor]:
        weights, inputs = loop.at(-1), [each for batch in batches for each in loop.batches[batch].inputs]
        reads = [each @ weights["E"] if s.setup.embedding else each for each in inputs]
        is_row = (torch.arange(s.B) == row)[:, None]
        if omitted is not None:
            reads[omitted] = torch.where(is_row, 0, reads[omitted])
        if others:
            reads = [torch.where(is_row, each, 0) for each in reads]
        reads = [each.detach().requires_grad_() for each in reads]
        batch = oracle.run(s.setup, weights, inputs, None, loop.batches[first].states, reads=reads)
        return batch, s.predictions(batch.logits[influence.at])[row, influence.character]

    def gradients(loop: Loop, state: str = "") -> np.ndarray:
        with loop.rounding():
            batch, value = ran(loop)
            of = [batch.values[state, k] for k in range(len(batch.reads))] if state else batch.reads
            slopes = torch.autograd.grad(value, of, allow_unused=True)
            return np.array([0.0 if slope is None else slope[row].norm().item() for slope in slopes])

    def without(loop: Loop, omitted: int | None = None, others: bool = False) -> float:
        with loop.rounding():
            return (ran(loop)[1] - ran(loop, omitted, others)[1]).item()

    s.same("a prediction", influence.value, lambda loop: ran(loop)[1])
    s.same("influence", influence.gradient, gradients)
    for state, norms in influence.states.items():
        s.same(f"influence of {state}", norms, lambda loop: gradients(loop, state))
    omitted = s.chance.randrange(influence.at + 1)
    s.same("omission", influence.occlusion[omitted], lambda loop: without(loop, omitted))
    if not back:
        rows = session.influence_of_rows(row, t)

        def of_rows(loop: Loop) -> list[float]:
            with loop.rounding():
                batch, _ = ran(loop)
                best = int(batch.logits[t][row].argmax())
                value = s.predictions(batch.logits[t])[row, best]
                slopes = torch.autograd.grad(value, batch.reads, allow_unused=True, materialize_grads=True)
                return torch.stack(slopes).square().sum(dim=(0, 2)).sqrt().tolist()

        s.same("influence of rows", rows.gradient, of_rows)
        s.same("omission of the other rows", rows.together, lambda loop: without(loop, others=True))


@about("jacobian")
def time_scales(s: Sweep) -> None:
    jacobian(s, s.fork(), None)


def jacobian(s: Sweep, session: Session, silent: Silent | None) -> None:
    t, row, state = s.chance.randrange(s.T), s.chance.randrange(s.B), s.chance.choice(s.setup.states)
    if s.setup.cell.mixes_rows:  # where that is refused, or the same, as in a row that reads no other
        return
    matrix = session.jacobian(state, row=row, t=t)
    suffix = next(word for word in ("_l0_reverse", "_l1_reverse", "_l0", "_l1", "") if state.endswith(word))
    word = "next" if suffix.endswith("reverse") else "prev"
    states = [each + suffix for each in s.setup.cell.states]
    assert matrix.states == tuple(states)

    def ran(loop: Loop) -> np.ndarray:
        with loop.rounding():
            last, parts = loop.batches[-1], []
            batch = oracle.run(s.setup, loop.at(-1), last.inputs, None, last.states, silent=silent)
            before = [batch.values[f"{each}_{word}{suffix}", t] for each in s.setup.cell.states]
            for each in states:
                for unit in range(s.H):
                    slopes = torch.autograd.grad(batch.values[each, t][row, unit], before, retain_graph=True, allow_unused=True)
                    parts.append([np.zeros(s.H) if slope is None else slope[row].numpy() for slope in slopes])
            return np.array(parts)

    s.same(f"the derivative of {state}", matrix.matrix, ran)


# ------------------------------------------------------------------------------
# The course of the run.


@about("history", "story")
def courses(s: Sweep) -> None:
    session, parameter = s.fork(), s.chance.choice(list(s.first))
    learned = [batch for batch in range(s.last + 1) if s.loops[0].batches[batch].learns]
    batches, losses = session.history("loss", at=range(s.last + 1))
    assert batches.tolist() == list(range(s.last + 1))
    s.same("losses", losses, lambda loop: [each.loss for each in loop.batches])
    for expression, of in (
        ("grad_norm", lambda each: each.norm),
        (f"norm(d{parameter})", lambda each: np.linalg.norm(each.gradients[parameter])),
    ):
        _, numbers = session.history(expression, at=range(s.last + 1))
        s.same(expression, numbers[learned], lambda loop: [of(loop.batches[batch]) for batch in learned])
        assert all(np.isnan(numbers[batch]) for batch in set(range(s.last + 1)) - set(learned))
    story = session.story(s.last + 1, also=range(s.last + 1))
    s.same("losses of the story", story.columns["loss"], lambda loop: [each.loss for each in loop.batches])
    s.same("norms of the story", story.columns["grad_norm"][learned], lambda loop: [loop.batches[batch].norm for batch in learned])
    s.same(
        "weights of the story",
        story.columns["max_weight"],
        lambda loop: [max(np.abs(value).max() for value in each.after.values()) for each in loop.batches],
    )
    for moment, batch in zip(story.moments, range(s.last + 1), strict=True):
        assert moment.batch == batch
        for name, norm in moment.norms.items():
            s.same(f"the norm of {name}", norm, lambda loop: np.linalg.norm(loop.batches[batch].after[name]))
        if batch in learned:
            deltas = moment.deltas
            main = session.program.main_state
            s.same("deltas", deltas, lambda loop: [np.linalg.norm(loop.batches[batch].batch.gradient(main, t)) for t in range(s.T)])
        for name, size in moment.steps.items():
            norms = [np.linalg.norm(loop.batches[batch].before[name]) for loop in s.loops]
            if norms[0] <= oracle.bound(norms, s.setup.dtype):
                continue  # a weight that began at 0 and has only what rounding gave it
            s.same(
                f"a step of {name}",
                size,
                lambda loop: (
                    np.linalg.norm(loop.batches[batch].after[name] - loop.batches[batch].before[name])
                    / np.linalg.norm(loop.batches[batch].before[name])
                ),
            )
    answer = plain(session, "story")
    assert np.array_equal(answer["columns"]["loss"], story.columns["loss"])


@about("check", "batch_check", "check_every_batch", "checked")
def checked(s: Sweep) -> None:
    session = s.fork()
    report = session.check(entries=s.seed % 2)
    assert report.agrees, report.summary
    assert session.batch_check().run(entries=0).agrees
    assert plain(session, "check")["summary"] == session.check().summary
    session.check_every_batch = True
    session.step("batch")
    assert session.checked.batches == 1
    assert not session.outcome.notice or not session.outcome.notice.warning


@about("printed", "facts", "is_on_trial", "add_trial")
def printed_numbers(s: Sweep) -> None:
    """What is printed of a weight is that of the loop, and the facts have the rate of the loop and its weights' norms."""
    session = s.fork()
    last = len(s.loops[0].batches) - 1
    for name in s.first:
        printed = session.printed(name).values
        assert np.array_equal(printed, session.parameter(name))
        s.same(f"{name}, printed", printed, lambda loop: loop.batches[last].after[name])
    (rates,) = session.facts("rate")
    (table,) = session.facts("parameters")
    assert f"{session.learning_rate:g}" in " ".join(rates.sentences)
    assert set(table.columns["parameter"]) == {session.program.writer.name(name) for name in session.parameter_names}
    assert not session.is_on_trial
    assert not session.add_trial(s.fork(), 0, "no trial of a script")
    assert not session.is_on_trial


@about(
    "findings", "found", "gone", "hold_out", "held_out", "try_cures", "tried_options", "rates", "tried_rates", "diagnose", "learned"
)
def trials(s: Sweep) -> None:
    """What is tried is the run with another option, from its first weights or from here on."""
    session = s.fork()
    before = portrait(session)
    findings = session.findings()
    assert session.found == findings
    assert session.gone() == session.found.gone
    assert portrait(session) == before
    roots = {finding.name for finding in findings if finding.cause is None}
    diagnosis = session.diagnose()
    assert {finding.name for finding in diagnosis} == roots
    assert all(finding.tried or finding.proof == 2 for finding in diagnosis)
    if session.program.loss_names.row and session.state.timeline.completed(session.position):
        learned = session.learned(points=3)
        assert learned.mean.shape == learned.batches.shape
    assert portrait(session) == before
    session.hold_out("abab")
    assert session.held_out == "abab"
    finding = Finding("loss-rises", "a finding", "it is not one", "none", (), cures=(Cure("learning_rate", s.rate / 8),))
    tried = session.tried_options(finding)
    assert {each.option for each in session.try_cures(finding)} <= {each.option for each in tried}
    count = 3
    for each in tried:
        rate = s.rate if each.cure is None else each.cure.value

        def losses(loop: Loop) -> list[float]:
            again = Loop(s.setup, s.first, rate, loop.seed)
            return [again.train(*s.batch(batch), first=batch % s.num_batches == 0).loss for batch in range(count)]

        if each.losses and each.since == 0 and not s.events:  # changes of a run are made in its trials as well
            s.same(f"losses with the rate {rate}", each.losses[:count], losses)
    rates = session.rates()
    assert [each.rate for each in rates] == sorted(each.rate for each in rates)
    assert session.tried_rates == rates


# ------------------------------------------------------------------------------
# Pages.


@about("report", "compared")
def reports(s: Sweep) -> None:
    session = s.fork()
    report = session.report(whole=s.seed % 4 == 0)
    s.same("the curve", [loss for _, loss in report.curve], lambda loop: [each.loss for each in loop.batches])
    facts = dict(report.facts)
    for words, of in (
        ("first loss", lambda loop: loop.batches[0].loss),
        ("loss of the last epoch", lambda loop: np.mean([each.loss for each in loop.batches[-s.num_batches :]])),
    ):
        s.shown(words, facts[words].split()[0], of)
    if s.setup.loss == "cross-entropy":
        s.shown(
            "perplexity",
            facts["perplexity"],
            lambda loop: math.exp(np.mean([each.loss for each in loop.batches[-s.num_batches :]])),
        )
    compared = session.compared(s.fork())
    assert compared.mine.curve == compared.other.curve == report.curve


def page_data(session: Session, folder: str) -> dict[str, Any]:
    """Return what the page of a player reads, with the derivations of the debugger: those of most models are computed in the page
    (tests/tui/test_player_derivations.py)."""
    with patch.object(Walk, "derivations", lambda walk, most: ExplainedNumbers(walk.session.state.timeline, walk.ticks)):
        page = session.player(Path(folder, "walk.html"), "timestep", 3, theme="blackboard").read_text("utf-8")
    packed = re.search(r'<script id="data"[^>]*>([^<]*)</script>', page)
    assert packed is not None
    data: dict[str, Any] = json.loads(gzip.decompress(b64decode(packed[1])))
    return data


@about("player", "_repr_html_")
def pages(s: Sweep) -> None:
    """The numbers on the page of the player, each by the name and the place that the page says."""
    if s.seed % 5:
        return
    session = s.fork()
    with TemporaryDirectory() as folder:
        data = page_data(session, folder)
    program, labels = session.program, {}
    for name in program.names:
        value = session.value(name)
        if isinstance(value, np.ndarray) and value.dtype.kind == "f":
            labels |= {spoken(program, name, index): (name, index) for index in np.ndindex(value.shape)}
    compared, page_of = 0, session.config.model.page
    computed = {page_of.before(state): state for state in s.setup.states}
    for label, written, _, place, *_ in data["derivations"]:
        if label not in labels or not place.startswith("epoch"):
            continue
        name, index = labels[label]
        epoch, batch, *rest = map(int, re.findall(r"(?:epoch|batch|t) (\d+)", place))
        number = (epoch - 1) * s.num_batches + batch - 1
        if name[1:] in s.first and (s.setup.bidirectional or s.setup.carry == "notebook" or rest != [1]):
            continue  # a sum that is not complete
        # A state that a timestep reads is at the place where the other timestep has computed it.
        theirs = s.getter(computed.get(name, name), number, rest[0] - 1 if rest else None)
        if theirs is not None:
            s.shown(
                f"{label} at {place}", written, lambda loop: np.asarray(theirs(loop)).reshape(np.shape(session.value(name)))[index]
            )
            compared += 1
    assert compared > 10
    assert "<iframe" in session._repr_html_()


# ------------------------------------------------------------------------------
# Time.


def bits_here(session: Session) -> dict[str, Any]:
    """Return all numbers at the position of a session, in a form that compares bit for bit."""
    return {name: bits(session.value(name)) for name in session.program.readable}


@about("step", "step_each", "seek", "tick_after", "run_to", "newest", "batches_to", "anchor", "holds", "mark", "marks", "jump",
       "next_mark", "delete_mark", "left_at", "prefetch", "program_text")  # fmt: skip
def travels(s: Sweep) -> None:
    """Wherever a session comes from, a moment has the same numbers."""
    session, draw = s.fork(), s.chance
    end = session.position.tick
    ticks = [session.seek(draw.randrange(end)).tick for _ in range(3)]
    numbers = {}
    for letter, tick in zip("abc", ticks, strict=True):
        session.seek(tick)
        numbers[tick], anchor = bits_here(session), session.anchor()
        session.mark(letter)
        assert session.holds(anchor)
    for _ in range(6):
        level, count = draw.choice(["op", "timestep", "phase", "batch", "epoch"]), draw.choice([-2, -1, 1, 2])
        session.seek(session.position)  # a step back returns to where the steps forward came from
        target = session.tick_after(level, count)
        assert session.step(level, count).tick == target
    session.step_each("op", 5)
    line = draw.choice(s.setup.states)
    assert session.run_to(line).line.target == line
    for letter, tick in zip("abc", ticks, strict=True):
        assert session.jump(letter).tick == tick
        assert bits_here(session) == numbers[tick]
        assert session.batches_to() >= 1
    assert [mark.letter for mark in session.marks] == ["a", "b", "c"]
    session.seek(0)
    if min(ticks):
        assert session.next_mark().tick == min(ticks)
    session.delete_mark("a")
    assert len(session.marks) == 2
    session.seek(end)
    session.prefetch()
    assert session.newest.tick >= end
    assert f"batch {session.position.batch + 1}" in session.left_at
    s.compare_batch(session, s.last)
    writer, text = session.program.writer, session.program_text()
    assert all(writer.name(line.target) in text for line in session.config.model.page.lines)


@about(
    "learning", "learning_rate", "sgd", "passing", "epochs", "end", "interrupt", "interrupts", "stop_on_nan", "run_to_not_finite"
)
def further(s: Sweep) -> None:
    """The run goes on as the loop does, with learning off, an SGD step, another rate, and interrupted."""
    session, rate = s.fork(), s.rate / 3
    session.learning = False
    session.step("batch")
    session.sgd()
    session.learning = True
    session.learning_rate = rate
    losses: list[tuple[int, float]] = []

    def passed(_: object) -> None:
        snapshot = session.passing()
        if snapshot is not None:
            losses.append((snapshot.position.number, snapshot.value("loss")))

    session.step("batch", 2, progress=passed)

    def again(loop: Loop) -> list[Any]:
        key = id(loop), "further"
        if key not in s.computed:
            going = s.trained(loop.seed)
            for batch in range(s.last + 1, s.last + 4):
                going.rate = rate if batch > s.last + 1 else going.rate
                going.train(*s.batch(batch), first=batch % s.num_batches == 0)
            s.computed[key] = going.batches
        return s.computed[key]

    assert session.position.number == s.last + 3
    s.same("the losses of further batches", session.history("loss", at=range(s.last + 1, s.last + 4))[1],
           lambda loop: [each.loss for each in again(loop)[s.last + 1 :]])  # fmt: skip
    for number, loss in losses:
        s.same("a passing loss", loss, lambda loop: again(loop)[number].loss)
    for name in s.first:
        s.same(f"{name} after further batches", session.parameter(name), lambda loop: again(loop)[-1].after[name])
    end, numbers = session.position.tick, bits_here(session)
    session.seek(0)
    session.step("batch", s.last + 4, progress=lambda _: session.interrupt())
    session.interrupts.forget()
    while session.position.tick < end:  # and no further: the numbers of later batches may be infinite
        session.step("batch")
    session.seek(end)
    assert bits_here(session) == numbers
    session.stop_on_nan = True
    assert not session.run_to_not_finite()
    session.stop_on_nan = False
    session.epochs = session.newest.epoch + 2
    session.step("epoch", 5)
    assert session.position == session.end == session.newest


@about(
    "run_until", "run_back_until", "next_match", "continue_", "reverse_continue", "break_at", "watch", "change_stop", "delete_stop",
    "stops", "counts_first", "outcome", "run_to_first",
)  # fmt: skip
def searches(s: Sweep) -> None:
    """A run stops in the first batch, or the last one on the way back, whose loss the loop has below a limit."""
    session, losses = s.fork(), [each.loss for each in s.loops[0].batches]
    low, high = max(zip(sorted(losses), sorted(losses)[1:], strict=False), key=lambda pair: pair[1] - pair[0])
    if high - low < 1e-3:
        return
    below = [batch for batch, loss in enumerate(losses) if loss < (low + high) / 2]
    condition, loss_tick = f"loss < {(low + high) / 2!r}", session.program.loss_tick
    at = {batch: batch * session.program.ticks + loss_tick for batch in below}
    end = session.position.tick
    for back in (False, True):
        chosen = below[-1] if back else below[0]
        session.seek(end if back else 0)
        assert (session.run_back_until if back else session.run_until)(condition)
        assert session.position.tick == at[chosen]
        stop = session.break_at(condition=condition)
        session.seek(end if back else 0)
        assert session.reverse_continue() if back else session.continue_()
        assert (session.position.tick, session.outcome.position) == (at[chosen], session.position)
        assert not session.counts_first
        session.change_stop(stop.id, enabled=False)
        assert not session.stops.get(stop.id).enabled
        session.delete_stop(stop.id)
    session.seek(0)
    for batch in below:
        assert session.next_match() if batch != below[0] else session.run_until(condition)
        assert session.position.tick == at[batch]
    session.seek(end)
    assert session.run_to_first(condition)
    assert session.position.tick == at[below[0]]
    assert not session.run_to_first(f"loss < {low - 1!r}")
    assert session.position.tick == at[below[0]]
    session.watch("loss", stops=True)
    session.seek(0)
    assert session.continue_()
    assert session.position.tick == loss_tick + session.program.ticks  # before the first batch, there is no loss to change


@about("edit", "undo", "redo", "branch", "branches", "switch", "rename_branch", "delete_branch", "compare", "apart")
def forks(s: Sweep) -> None:
    """A weight changed in the past: the new branch is the loop with that weight, and the old one is as it was."""
    session, ticks = s.fork(), s.session.program.ticks
    if 1 in s.events:
        return
    end, numbers = session.position.tick, bits_here(session)
    name = s.chance.choice(list(s.first))
    index, value = tuple(map(s.chance.randrange, s.first[name].shape)), s.number(-0.29)
    session.seek(ticks)
    session.edit(name, index, value)
    branch = session.branch
    assert session.branches == ("main", branch)
    session.step("batch", s.last)

    def other(loop: Loop) -> list[Any]:
        key = id(loop), "forked"
        if key not in s.computed:
            again = Loop(s.setup, s.first, s.rate, loop.seed)
            again.train(*s.batch(0), first=True)
            again.set(name, index, value)
            for batch in range(1, s.last + 1):
                again.train(*s.batch(batch), first=batch % s.num_batches == 0)
            s.computed[key] = again.batches
        return s.computed[key]

    s.same(
        "losses of a fork",
        session.history("loss", at=range(1, s.last + 1))[1],
        lambda loop: [each.loss for each in other(loop)[1:]],
    )
    for each in s.first:
        s.same(f"{each} of a fork", session.parameter(each), lambda loop: other(loop)[-1].after[each])
    apart = session.apart("main")
    s.same(
        "the difference of branches",
        [apart.here.mine, apart.here.theirs],
        lambda loop: [other(loop)[-1].loss, loop.batches[-1].loss],
    )
    assert session.compare("main") == "main"
    there = bits_here(session)
    assert session.undo()
    assert session.redo()
    session.seek(end)
    assert bits_here(session) == there
    session.switch("main")
    session.seek(end)
    assert bits_here(session) == numbers
    session.rename_branch(branch, "other")
    session.delete_branch("other")
    assert session.branches == ("main",)


# ------------------------------------------------------------------------------
# Files.


@about("save", "open", "record_to", "recording", "recorder", "close", "keep", "kept", "state", "on", "carry_over", "memory_notice",
       "notice", "add_notice")  # fmt: skip
def files(s: Sweep) -> None:
    """A session in a file is the session."""
    with TemporaryDirectory() as folder:
        session, path = s.fork(), Path(folder, "walk.tui-gru")
        session.keep("a layout", [1, 2])
        session.save(path)
        again = Session.open(path)
        assert again.kept("a layout") == [1, 2]
        assert portrait(again)["values"] == portrait(session)["values"]
        s.compare_batch(again, s.last)
        recorded = Path(folder, "recorded.tui-gru")
        session.record_to(recorded)
        assert session.recording == recorded == session.recorder.path
        session.step("batch", -1)
        session.step("op", 3)
        session.close()
        assert session.recording is None
        again = Session.open(recorded)
        assert (again.position, bits_here(again)) == (session.position, bits_here(session))
        again.seek((s.last + 1) * again.program.ticks)
        s.compare_batch(again, s.last)
    begun = Session.on(session.config)
    assert {name: bits(begun.parameter(name)) for name in s.first} == {name: bits(value) for name, value in s.first.items()}
    begun.carry_over(session.state, session.state.marks)
    assert begun.kept("a layout") == [1, 2]
    begun.notice = "one"
    begun.add_notice("two")
    assert "one" in begun.notice
    assert begun.memory_notice == ""
