"""What autograd of a script's own module states about each public name of a session on it."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pytest
import torch

from tests.debugger.deriving import assert_adds_up, explained
from tests.session.acting import bits
from tests.session.pairs.modules import ScriptSweep, Truth
from tests.session.pairs.verbs import bits_here, page_data
from tui_gru import Session, TuiGruError
from tui_gru.debugger.program import spoken

Check = Callable[[ScriptSweep], None]
CHECKS: dict[Check, tuple[str, ...]] = {}  # with the names of a session that each is about


#: What asks nothing of where the batches of a run come from: stops, branches, marks, messages, files. verbs.py examines it.
ELSEWHERE = {
    "add_notice", "add_trial", "adopt", "anchor", "apart", "batches_to", "branch", "branches", "break_at", "calculate",
    "carry_over", "change_stop", "check_every_batch", "checked", "compare", "continue_", "counts_first", "delete_branch",
    "delete_mark", "delete_stop", "edit", "held_out", "holds", "interrupt", "interrupts", "is_on_trial", "keep", "keep_draft",
    "kept", "largest_gradients", "learned", "machine_difference", "marks", "memory_notice", "newest", "next_mark", "next_match",
    "notice", "outcome", "passing", "prefetch", "program_text", "recorder", "recording", "redo", "rename_branch",
    "reverse_continue", "run_back_until", "run_to", "run_to_first", "run_to_not_finite", "run_until", "samples", "silent",
    "state", "stop_on_nan", "stops", "switch", "tick_after", "to_frame", "trace", "tried_options", "tried_rates", "try_cures",
    "undo", "watch",
}  # fmt: skip


def about(*names: str) -> Callable[[Check], Check]:
    def note(check: Check) -> Check:
        CHECKS[check] = names
        return check

    return note


def at_end(session: Session) -> Session:
    """Return another session on the same batch, at its end."""
    again = Session(state=session.state)
    again.seek(again.end)
    return again


def compare_gradients(s: ScriptSweep, session: Session, step: int) -> None:
    compared = 0
    if not s.derives:
        assert not [name for name in session.parameter_names if session.gradient(name) is not None]
        return
    for name in session.parameter_names:
        ours, place = session.gradient(name), s.places[name]
        if ours is None:
            continue
        if place is not None:
            s.same(f"d{name}", ours, lambda truth: place.of(truth.gradient(place.name), np.shape(ours)), s.steps[step])
            recorded = session.recorded_gradient(name)
            if recorded is not None:
                assert np.array_equal(recorded, place.of(s.gradients[step][place.name], np.shape(ours))), name
            compared += 1
    assert compared


def output_of(s: ScriptSweep, session: Session) -> str:
    """Return the session's name of the output that the script's loop collects, which it names by its place."""
    outs = [out.detach().numpy() for out in s.steps[-1][0].net.outs]
    page = session.program.model.page

    def apart(name: str) -> float:
        if np.shape(session.value(name)) != outs[0].shape:
            return np.inf
        return max(float(np.abs(session.value(name, t) - out).max()) for t, out in enumerate(outs))

    return min(dict.fromkeys((*page.outputs, *page.states)), key=apart)


@about(
    "value", "parameter", "gradient", "recorded_gradient", "expected", "remarks", "parameter_names", "seek", "position", "end",
    "loss", "program", "config", "snapshot",
)  # fmt: skip
def values(s: ScriptSweep) -> None:
    """The outputs of each timestep and the gradients are those of the module, and nothing is said against the script."""
    session = at_end(s.session)
    name = output_of(s, session)
    for t in range(s.T):
        s.same(f"{name} at {t}", session.value(name, t), lambda truth: truth.net.outs[t])
        slopes = session.value(f"d{name}", t) if f"d{name}" in session.program.names else None
        if slopes is not None and s.keeps_outputs:
            s.same(f"d{name} at {t}", slopes, lambda truth: s.slope(truth, t))
    compare_gradients(s, session, -1)
    assert session.expected is not None
    assert session.expected.agrees, session.expected.sentence
    assert "Autograd gave another gradient" not in session.remarks
    if not s.derives:
        return
    assert "p.grad is the derived gradient, neither clipped nor scaled" in session.remarks, f"{session.remarks}\n{s.text}"
    assert session.snapshot().gradient(session.parameter_names[0]) is not None


@about("printed", "facts")
def printed_numbers(s: ScriptSweep) -> None:
    """What is printed of the output is what the module gave, and the table of parameters has those of the module."""
    session = at_end(s.session)
    output = output_of(s, session)
    assert np.array_equal(session.printed(f"{output} t 1").values, session.value(output, t=0))
    (table,) = session.facts("parameters")
    assert table.missing or len(table.columns["parameter"]) > 0


@about("explain", "derive")
def derivations(s: ScriptSweep) -> None:
    session = at_end(s.session)
    readable = [name for name in explained(session) if session.value(name) is not None]
    for name in s.chance.sample(readable, min(6, len(readable))):
        value = np.asarray(session.value(name))
        index = tuple(map(s.chance.randrange, value.shape))
        root = session.explain(name, index)
        assert root.value == float(value[index])
        s.comparisons += assert_adds_up(root, 3, session.config.dtype)


@about("what_if")
def weights_otherwise(s: ScriptSweep) -> None:
    """Another weight: the outputs of the module with that weight."""
    session = at_end(s.session)
    if "h.detach()" in s.text:  # the session has what the script set there, and does not know that it was the state
        return
    name = s.chance.choice([name for name, place in s.places.items() if place is not None])
    place, value = s.places[name], 0.43
    assert place is not None
    index = tuple(map(s.chance.randrange, np.shape(session.parameter(name))))
    if s.dtype == "float32":
        value = float(np.float32(value))
    there = tuple(i + first for i, first in zip(index, place.first, strict=True))
    truths = s.changed(-1, place.name, there[::-1] if place.is_turned else there, value)
    what, output = session.what_if(name, index, value), output_of(s, session)
    for t in range(s.T):
        s.same(f"{output} at {t} with {name}{index}", what.then.record.array(output)[t], lambda truth: truth.net.outs[t], truths)


@about("influence", "jacobian", "influence_of_rows")
def influences(s: ScriptSweep) -> None:
    session = at_end(s.session)
    output = output_of(s, session)
    t, row = s.chance.randrange(s.T), s.chance.randrange(s.B)
    influence = session.influence(row, t, occlusion=False)
    if influence.value != pytest.approx(float(session.value(output, t)[row, influence.character]), abs=1e-5):
        return  # the prediction is of the head
    s.same("a prediction", influence.value, lambda truth: truth.net.outs[t][row, influence.character])

    def slopes(truth: Truth) -> torch.Tensor:
        (slope,) = torch.autograd.grad(truth.net.outs[t][row, influence.character], truth.x, retain_graph=True)
        return slope

    s.same("influence", influence.gradient, lambda truth: slopes(truth)[:, row].norm(dim=1))
    rows = session.influence_of_rows(row, t)
    if rows.row == row and influence.character == int(np.argmax(session.value(output, t)[row])):
        s.same("influence of rows", rows.gradient, lambda truth: slopes(truth).square().sum(dim=(0, 2)).sqrt())
    states = list(session.program.model.page.states)
    if t and s.keeps_outputs and states == [output] and "h.detach()" not in s.text:

        def matrix(truth: Truth) -> np.ndarray:
            now, before = truth.net.outs[t][row], truth.net.outs[t - 1]
            return np.array([torch.autograd.grad(each, before, retain_graph=True)[0][row].numpy() for each in now])

        s.same("the derivative of the state", session.jacobian(row=row, t=t).matrix, matrix)


@about("check", "batch_check", "findings", "found", "gone", "units", "summary", "diagnose")
def analyses(s: ScriptSweep) -> None:
    """The check agrees, no finding accuses the script of something that changes a gradient, and units are those of the row."""
    session = at_end(s.session)
    output = output_of(s, session)
    report = session.check(entries=1)
    assert report.agrees, report.summary
    accused = {"clipped-after-update", "gradient-changed", "state-detached"}
    assert not accused & {finding.name for finding in session.findings()}
    assert not accused & {finding.name for finding in session.diagnose() if finding.proof}
    s.same("units", session.units(output, row=0).values, lambda truth: [out.detach().numpy()[0] for out in truth.net.outs])


@about("open", "steps", "history", "step", "report", "recorded_gradient", "left_at", "story", "compared")
def recordings(s: ScriptSweep) -> None:
    """Each step of the recording is that of the script: losses, p.grad, weights, outputs, also going back in time."""
    session = Session(state=s.recording.state)
    assert session.steps == (0, 1)
    numbers: dict[int, Any] = {}
    output = output_of(s, at_end(s.session))
    for step in (0, 1, 0):
        session.seek((step + 1) * session.program.ticks)
        if step in numbers:
            assert bits_here(session) == numbers[step]
        numbers[step] = bits_here(session)
        compare_gradients(s, session, step)
        for name, place in s.places.items():
            if place is not None:
                value = np.asarray(session.parameter(name))
                assert np.array_equal(value, place.of(s.weights[step][place.name], value.shape)), name
        for t in range(s.T):
            s.same(f"output {t}", session.value(output, t), lambda truth: truth.net.outs[t], s.steps[step])
    report = session.report(whole=False)
    losses = [loss for _, loss in report.curve]
    for loss, step in zip(losses, range(2), strict=False):
        s.same("the curve", loss, lambda truth: truth.loss, s.steps[step])


@about("player", "_repr_html_")
def pages(s: ScriptSweep) -> None:
    """The numbers on the page of the player are those of the session at the place that the page says."""
    if s.seed % 5:
        return
    session = at_end(s.session)
    with TemporaryDirectory() as folder:
        data = page_data(session, folder)
    program, compared = session.program, 0
    labels = {}
    for name in program.names:
        value = session.value(name)
        if isinstance(value, np.ndarray) and value.dtype.kind == "f" and program.names[name].timed:
            labels |= {spoken(program, name, index): (name, index) for index in np.ndindex(value.shape)}
    page = program.model.page
    computed = {page.before(state): state for state in page.states} | {page.received(state): "" for state in page.states}
    for label, written, _, place, *_ in data["derivations"]:
        timestep = re.search(r" t (\d+)", place)
        if label in labels and timestep is not None and computed.get(labels[label][0], "-"):
            name, index = labels[label]
            number = float(np.asarray(session.value(computed.get(name, name), int(timestep[1]) - 1))[index])
            digits = re.fullmatch(r"[+-]?\d*\.?(\d*)(?:e([+-]?\d+))?", written.replace("−", "-"))
            assert digits is not None, written
            assert abs(float(written.replace("−", "-")) - number) <= 0.5001 * 10.0 ** (int(digits[2] or 0) - len(digits[1])), (
                label,
                place,
            )
            compared += 1
    assert compared > 5


@about("save", "record_to", "close", "step_each", "mark", "jump", "on")
def files(s: ScriptSweep) -> None:
    session = at_end(s.session)
    with TemporaryDirectory() as folder:
        session.save(Path(folder, "walk.tui-gru"))
        again = Session.open(Path(folder, "walk.tui-gru"))
        assert bits_here(again) == bits_here(session)
        compare_gradients(s, again, -1)
        session.mark("a")
        numbers = bits_here(session)
        session.step("timestep", -3)
        session.step_each("op", 2)
        session.jump("a")
        assert bits_here(session) == numbers
        again.close()


@about(
    "silence", "learning", "learning_rate", "sgd", "rates", "sample", "predict", "losses", "memory", "hold_out", "feature", "epochs"
)
def refusals(s: ScriptSweep) -> None:
    """What such a batch has not is refused in words."""
    session = at_end(s.session)
    state = next(iter(session.program.model.page.states))
    for call in (
        lambda: session.sgd(),
        lambda: session.rates(),
        lambda: session.sample("a"),
        lambda: session.predict("a"),
        lambda: session.losses(),
        lambda: session.memory(),
        lambda: session.hold_out("a"),
        lambda: session.feature("max(abs(h))"),
        lambda: session.silence(state, 0),
        lambda: setattr(session, "learning_rate", 0.1),
    ):
        with pytest.raises(TuiGruError):
            call()
    assert session.silent is None
    assert {name: bits(session.parameter(name)) for name in session.parameter_names}
