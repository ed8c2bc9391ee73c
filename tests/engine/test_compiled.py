"""Compiled models: the code and bits do not depend on Python's hash seed, models are cached, and records are reused."""

from __future__ import annotations

import os
import subprocess
import sys

import numpy as np
import pytest

from tests.engine.models import RATE, SIZES, fill, filled, learned, run, settings_of
from tui_gru.engine.batch import BatchRecord, RecordPool
from tui_gru.engine.compiled import Compiled, compiled
from tui_gru.engine.model import Structure
from tui_gru.engine.training import Point, compute, compute_from
from tui_gru.engine.weights import Weights

HASHED = """
import hashlib
from tests.engine.models import learned
from tests.session.pairs.cells import random_cell
from tests.engine.models import own
from tui_gru.engine.model import Structure
found = hashlib.sha256()
for model in (
    Structure(cell="lstm", layers=2, bidirectional=True, lengths=True, update="adam", clip=True),
    Structure(cell="gru-reset-after", input="embedding"),
    *(own(random_cell(seed).equations, dtype="float32") for seed in (1, 4, 7)),
):
    record = learned(model, dtype="float32")
    for name in ("forward", "backward", "forward_on", "backward_on", "earlier"):
        found.update(record.compiled.function(name).code.source.encode())
    found.update(record.compiled.update.source.encode() + record.block.tobytes() + record.own_after.flat.tobytes())
    found.update(" ".join(record.compiled.model.backward.paths).encode())
print(found.hexdigest())
"""


def test_the_same_code_and_bits_whatever_is_hashed():
    found = set()
    for seed in ("0", "1"):
        environment = {**os.environ, "PYTHONHASHSEED": seed}
        done = subprocess.run([sys.executable, "-c", HASHED], env=environment, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stderr
        found.add(done.stdout)
    assert len(found) == 1


def test_a_model_is_compiled_once_for_its_sizes():
    structure = Structure(cell="rnn")
    assert compiled(structure, SIZES, "float32") is compiled(Structure(cell="rnn"), dict(reversed(SIZES.items())), "float32")
    assert compiled(structure, SIZES, "float32") is not compiled(structure, {**SIZES, "H": 3}, "float32")
    assert compiled(structure, SIZES, "float32") is not compiled(structure, SIZES, "float64")


def test_what_a_record_takes_is_known_before():
    for structure in (Structure(cell="lstm", update="adam", clip=True), Structure(layers=2, bidirectional=True, lengths=True)):
        model = compiled(structure, {**SIZES, "H": 64, "B": 8, "T": 16}, "float32")
        assert BatchRecord(model).nbytes == pytest.approx(model.record_bytes, rel=0.01)


def test_a_copy_is_its_own():
    record = learned(Structure(cell="lstm", update="adam", clip=True))
    twin = record.copy()
    assert twin.block.tobytes() == record.block.tobytes()
    assert (twin.loss, twin.grad_norm, twin.max_weight, twin.numbers) == (
        record.loss,
        record.grad_norm,
        record.max_weight,
        record.numbers,
    )
    assert twin.before is record.before
    assert not np.shares_memory(twin.block, record.block)
    compute_from(twin, Point("forward"), settings_of(twin), learn=True)
    assert twin.own_after.tobytes() == record.own_after.tobytes()


def test_nothing_of_a_batch_before_is_left():
    """A record that was used for another batch gives the bits of a new one."""
    structure = Structure(cell="gru-reset-after", layers=2, bidirectional=True, lengths=True)
    fresh = learned(structure, seed=5)
    used = learned(structure, seed=4)
    used.before = fresh.before
    fill(used, seed=5)
    run(used)
    assert used.block.tobytes() == fresh.block.tobytes()
    assert used.own_after.tobytes() == fresh.own_after.tobytes()


# The pool


@pytest.fixture
def pool() -> RecordPool:
    return RecordPool(compiled(Structure(cell="lstm", update="adam"), SIZES, "float32"))


def ran(record: BatchRecord, seed: int = 0) -> BatchRecord:
    """Return a record from a pool that has been computed."""
    record.before = filled(Structure(cell="lstm", update="adam"), dtype="float32").before
    fill(record, seed)
    return run(record)


def test_a_record_is_used_again_once_nobody_holds_it(pool):
    record = ran(pool.take())
    block = id(record.block)
    other = pool.take()
    assert other is not record
    del record
    assert id(pool.take().block) == block


HELD = {
    "the record": lambda record: record,
    "a state": lambda record: record.array("h"),
    "a part of a state": lambda record: record.array("h")[1:, 0],
    "a gradient, transposed": lambda record: record.array("dh_prev").T,
    "a value": lambda record: record.array("i"),
    "the loss": lambda record: record.array("loss"),
    "two values": lambda record: [record.array("i"), record.array("f")],
    "a value's memory": lambda record: memoryview(record.array("h")),
    "all memory": lambda record: record.block[:1],
    "indices": lambda record: record.ids("x"),
    "a part of indices": lambda record: record.ids("y")[0],
    "a border": lambda record: record.border("c", end=True),
    "the weights after it": lambda record: record.after,
    "all weights, flat": lambda record: record.after.flat,
    "a part of them": lambda record: record.after.flat[:2],
    "the parameters": lambda record: record.after.parameters,
    "a weight": lambda record: record.after["Wi"],
    "weights by name": lambda record: dict(record.after.items()),
    "a state of the rule": lambda record: record.after["m_Wi"].reshape(-1)[:1],
    "the gradients": lambda record: record.gradients,
    "the gradients, flat": lambda record: record.gradients.flat,
    "a part of a gradient": lambda record: record.gradients["Uo"][0],
    "a vector of the update": lambda record: record.vector("m_hat"),
    "a part of one": lambda record: record.vector("v_hat")["Wi"],
    "a vector, flat": lambda record: record.vectors["m_hat"][1:],
    "what a line of the update gave": lambda record: record.update_vector("m"),
}


@pytest.mark.parametrize("held", HELD.values(), ids=HELD)
def test_whatever_someone_can_still_see_stays(pool, held):
    """While a view of values, of weights or of vectors of the update exists, its memory is not reused."""
    record = ran(pool.take())
    kept, address = held(record), record.block.ctypes.data
    before = np.array(record.block)
    del record
    others = [ran(pool.take(), seed) for seed in range(1, 4)]
    assert address not in {other.block.ctypes.data for other in others}
    del others
    ran(pool.take(), 9)
    assert kept is not None
    del kept
    taken = [pool.take() for _ in range(5)]
    assert address in {each.block.ctypes.data for each in taken}
    (same,) = [each for each in taken if each.block.ctypes.data == address]
    np.testing.assert_array_equal(same.block, before)


def test_weights_that_a_later_batch_began_with_stay(pool):
    """A run holds only its last batch. The weights that it began with are not overwritten; earlier ones are."""
    record, weights, addresses = ran(pool.take()), None, set()
    for seed in range(1, 7):
        following = pool.take()
        following.before = record.own_after
        weights = np.array(record.own_after.flat)
        fill(following, seed)
        run(following)
        record = following
        addresses.add(record.block.ctypes.data)
        np.testing.assert_array_equal(record.before.flat, weights)
    assert len(addresses) == 3


def test_earlier_batches_of_an_epoch_are_held_by_the_next(pool):
    """Records into which another has cut its views are reused, too."""
    from tui_gru.engine.training import Earlier

    scratch = BatchRecord(pool.take().compiled)
    blocks = set()
    for _ in range(6):
        earlier: list[BatchRecord] = []
        for seed in range(3):
            record = pool.take()
            record.before = (
                earlier[-1].own_after if earlier else filled(Structure(cell="lstm", update="adam"), dtype="float32").before
            )
            fill(record, seed)
            compute(record, {**settings_of(record), "learning_rate": RATE}, learn=True, earlier=Earlier(earlier[::-1], scratch))
            earlier.append(record)
            blocks.add(record.block.ctypes.data)
        del record
    assert len(blocks) <= 8


def test_weights_of_bytes_and_copies_are_not_those_of_a_record(pool):
    record = ran(pool.take())
    copied, block = record.after.copy(), record.block.ctypes.data
    again, _ = Weights.from_bytes(record.compiled.layout, record.after.tobytes(), "float32")
    del record
    assert pool.take().block.ctypes.data == block
    np.testing.assert_array_equal(copied.flat, again.flat)


def test_a_compiled_model_needs_sizes_for_all_axes():
    from tui_gru.errors import TuiGruError

    with pytest.raises(TuiGruError, match=r"^one-hot.input:2:7: x has the axis V, which has no size; axes with a size: B H T$"):
        compiled(Structure(cell="rnn"), {"T": 2, "B": 2, "H": 2}, "float32")
    assert isinstance(compiled(Structure(cell="rnn"), {"T": 2, "B": 2, "H": 2, "V": 3}, "float32"), Compiled)
