"""Resuming a batch from any line of any timestep: the same bits with the same weights, otherwise the values of its lines."""

from __future__ import annotations

import numpy as np
import pytest

from tests.engine import line_by_line
from tests.engine.line_by_line import points, waiting
from tests.engine.models import SIZES, epoch, filled, learned, own, settings_of
from tui_gru.engine.batch import BatchRecord
from tui_gru.engine.compiled import compiled
from tui_gru.engine.model import Structure
from tui_gru.engine.training import Earlier, Point, compute, compute_from, gradients_so_far

STRUCTURES = [
    Structure(cell="gru", update="adam", clip=True),
    Structure(cell="gru-reset-after", layers=2, input="embedding", lengths=True, update="momentum"),
    Structure(cell="lstm", bidirectional=True, input="dense", loss="squared-error", update="momentum", clip=True),
    Structure(cell="mgu", layers=2, bidirectional=True),
    Structure(cell="rnn", layers=3, input="dense", loss="", head="", update="adam"),
]
each_structure = pytest.mark.parametrize(
    "structure", STRUCTURES, ids=lambda s: f"{s.cell}-{s.layers}x{1 + s.bidirectional}-{s.update}"
)


def named(record: BatchRecord) -> list[str]:
    """Return all values and deltas by name."""
    return [name for name, operation in record.compiled.schedule.named.items() if operation.memory.kind in ("record", "state")]


def bits(record: BatchRecord) -> dict[str, bytes]:
    """Return everything that is computed in a batch, as bytes."""
    found = {name: record.array(name).tobytes() for name in named(record)}
    found |= {"gradients": record.own_gradients.flat.tobytes(), "after": record.own_after.flat.tobytes()}
    found |= {name: record.vectors[name].tobytes() for name in record.compiled.update.vectors}
    numbers = {
        **record.numbers,
        "loss": record.loss,
        "norm": record.grad_norm,
        "max": record.max_weight,
        "n": record.own_after.updates,
    }
    return found | {name: np.float64(number).tobytes() for name, number in numbers.items()}


def forget(record: BatchRecord, at: Point) -> None:
    """Overwrite everything that has not been computed at a point, so that it must be computed again."""
    for turn in waiting(record, at):
        for name in (*turn.parts, *([turn.line.target] if turn.line.op == "=" else [])):
            operation = record.compiled.schedule.named[name]
            if operation.memory.kind != "parameter":
                record.array(name)[turn.t if operation.timed else ...] = np.nan
    if at.phase != "update":
        record.own_gradients.flat[...] = np.nan
    lines = record.compiled.model.rule.lines_of(record.before.names)
    for line in lines[at.done if at.phase == "update" else 0 :]:
        if line.target in record.numbers:
            record.numbers = {**record.numbers, line.target: np.nan}
        else:
            line_by_line.after(record, line.target)[...] = np.nan
    record.loss = record.grad_norm = record.max_weight = np.nan
    record.own_after.updates = -1


@each_structure
def test_the_same_weights_change_no_bit(structure):
    record = learned(structure, {**SIZES, "T": 3 if structure.layers == 1 else 2}, "float32")
    before, places = bits(record), list(points(record))
    assert len(places) > 60
    for at in places:
        forget(record, at)
        compute_from(record, at, settings_of(record), learn=True)
        changed = [name for name, value in bits(record).items() if value != before[name]]
        assert changed == [], at


@each_structure
def test_other_weights_change_what_comes_after_and_nothing_before(structure):
    original = learned(structure)
    draw = np.random.default_rng(7)
    places = list(points(original))
    for at in [places[i] for i in draw.permutation(len(places))[:10]]:
        record, lines, forgotten = original.copy(), original.copy(), original.copy()
        for each in (record, lines):
            each.before = original.before.copy()
            each.before.flat[...] *= 1.25
        forget(forgotten, at)
        compute_from(record, at, settings_of(record), learn=True)
        gradients = line_by_line.execute(lines, at)
        for name in named(record):
            kept = ~np.isnan(forgotten.array(name))
            assert record.array(name)[kept].tobytes() == original.array(name)[kept].tobytes(), (at, name)
            np.testing.assert_allclose(record.array(name), lines.array(name), rtol=1e-10, atol=1e-12, err_msg=f"{at} {name}")
        if at.phase == "update":
            assert record.own_gradients.flat.tobytes() == original.own_gradients.flat.tobytes()
        else:
            for name, gradient in gradients.items():
                np.testing.assert_allclose(record.own_gradients[name], gradient, rtol=1e-10, atol=1e-12, err_msg=f"{at} {name}")
        done = at.done if at.phase == "update" else 0
        for number, (target, value) in enumerate(line_by_line.updated(record, done).items()):
            np.testing.assert_allclose(line_by_line.after(record, target), value, rtol=1e-10, atol=1e-12, err_msg=f"{at} {target}")
            if number < done:
                ours = np.asarray(line_by_line.after(record, target))
                assert ours.tobytes() == np.asarray(line_by_line.after(original, target)).tobytes(), (at, target)


@each_structure
def test_a_whole_batch_is_what_its_lines_say(structure):
    record = learned(structure)
    lines = filled(structure)
    gradients = line_by_line.execute(lines, Point("forward"))
    for name in named(record):
        np.testing.assert_allclose(record.array(name), lines.array(name), rtol=1e-10, atol=1e-12, err_msg=name)
    for name, gradient in gradients.items():
        np.testing.assert_allclose(record.own_gradients[name], gradient, rtol=1e-10, atol=1e-12, err_msg=name)
    for target, value in line_by_line.updated(record).items():
        np.testing.assert_allclose(line_by_line.after(record, target), value, rtol=1e-10, atol=1e-12, err_msg=target)


@pytest.mark.parametrize("name", ["az", "z", "hUz", "dh", "dh_carry", "dh_prev"])
def test_a_number_set_by_hand_is_taken_on(name):
    """A number set just after its line or part is unchanged, and everything that reads it is computed from it."""
    record = learned(Structure(cell="gru"))
    phase = "backward" if name.startswith("d") else "forward"
    (segment, *_) = record.compiled.schedule.phases[phase].segments
    target = {"az": "z", "hUz": "z", "dh_carry": "dh_prev"}.get(name, name)
    line = [line.target for line in segment.lines].index(target)
    at = Point(phase, 0, 1, line + (target == name), frozenset({name} - {target}))
    t = line_by_line.timestep(segment, 1, SIZES["T"])
    lines = record.copy()
    for each in (record, lines):
        each.array(name)[t, 0, 0] += 0.5
    set_to = record.array(name).copy()
    compute_from(record, at, settings_of(record), learn=True)
    np.testing.assert_array_equal(record.array(name)[t], set_to[t])
    if target == name:
        gradients = line_by_line.execute(lines, at)
        np.testing.assert_allclose(record.own_gradients["Uz"], gradients["Uz"], rtol=1e-10)
    elif name == "az":
        np.testing.assert_allclose(record.array("z")[t], 1 / (1 + np.exp(-set_to[t])))
    elif name == "dh_carry":
        others = sum(record.array(path)[t] for path in ("dh_candidate", "dh_update", "dh_reset"))
        np.testing.assert_allclose(record.array("dh_prev")[t], set_to[t] + others)


@pytest.mark.parametrize("structure", [Structure(cell="gru"), Structure(cell="lstm", layers=2)], ids=["gru", "lstm"])
def test_with_the_gradient_of_earlier_batches(structure):
    """Carry notebook: the same bits from every point of the last batch, and with other weights the values of its lines."""
    *earlier, record = epoch(structure, 3, dtype="float32")
    carried = Earlier(earlier[::-1], BatchRecord(record.compiled))
    before = bits(record)
    for at in list(points(record))[::7]:
        forget(record, at)
        compute_from(record, at, settings_of(record), learn=True, earlier=carried)
        assert [name for name, value in bits(record).items() if value != before[name]] == [], at


def test_a_batch_that_did_not_learn_goes_on_learning():
    record = filled(Structure(cell="gru", update="adam"), dtype="float32")
    compute(record, settings_of(record), learn=False)
    assert record.gradients is None
    assert record.after is record.before
    compute_from(record, Point("backward"), settings_of(record), learn=True)
    assert bits(record) == bits(learned(Structure(cell="gru", update="adam"), dtype="float32"))


@each_structure
def test_gradients_so_far(structure):
    """Zero at the beginning of the backward pass; at its end, bit for bit, the gradients that the update uses."""
    record = learned(structure)
    last = [at for at in points(record, update=False) if at.phase == "backward"][-1]
    for name, gradient in gradients_so_far(record, last).items():
        assert gradient.tobytes() == record.own_gradients[name].tobytes(), name
    first = gradients_so_far(record, Point("backward"))
    assert set(first) == set(record.before.names)
    assert all(gradient.shape == record.before[name].shape and not gradient.any() for name, gradient in first.items())


def test_gradients_of_some_timesteps():
    record = learned(Structure(cell="gru"))
    lines = [line.target for line in record.compiled.schedule.phases["backward"].segments[0].lines]
    for step in range(SIZES["T"]):
        found = gradients_so_far(record, Point("backward", 0, step, lines.index("dbz") + 1))
        done = slice(SIZES["T"] - 1 - step, None)
        np.testing.assert_allclose(found["bz"], record.array("daz")[done].sum((0, 1)))
        np.testing.assert_allclose(found["Uz"], np.einsum("tbi,tbj->ij", record.array("h_prev")[done], record.array("daz")[done]))
        before = slice(SIZES["T"] - step, None)  # its line comes after that of bz
        np.testing.assert_allclose(found["br"], record.array("dar")[before].sum((0, 1)))


def test_gradients_of_some_timesteps_of_what_two_lines_read():
    record = learned(own("state h : H\nparameters W U\ng = tanh(x W + h_prev U)\nh = g * (h_prev U)"))
    done = [line.target for line in record.compiled.schedule.phases["backward"].segments[0].lines].index("dU") + 1
    found = [gradients_so_far(record, Point("backward", 0, step, done))["U"] for step in range(SIZES["T"])]
    shares = [found[0], *np.diff(found, axis=0)]
    for t, share in enumerate(shares[::-1]):
        h_prev, dg, dh, g = (record.array(name)[t] for name in ("h_prev", "dg", "dh", "g"))
        np.testing.assert_allclose(share, h_prev.T @ (dg * (1 - g * g) + dh * g), atol=1e-12)


def test_a_segment_is_what_is_done_timestep_by_timestep_in_one_direction():
    schedule = compiled(Structure(cell="rnn", layers=2, bidirectional=True), SIZES, "float32").schedule
    forward = [(segment.direction, [line.target for line in segment.lines]) for segment in schedule.phases["forward"].segments]
    assert forward == [
        (1, ["h_l0"]),
        (-1, ["h_l0_reverse"]),
        (1, ["out_l0", "h_l1"]),
        (-1, ["h_l1_reverse"]),
        (1, ["out_l1", "logits", "y_hat", "term1", "term2", "term3"]),
        (0, ["loss"]),
    ]
    assert [segment.direction for segment in schedule.phases["backward"].segments] == [-1, 1, -1, 1]
