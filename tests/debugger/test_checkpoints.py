"""Memory limit of a session: checkpoints thin out, the numbers of batches move to a file, and everything is still found."""

import gc
import os
import tempfile
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.extent import examples
from tui_gru.debugger.history import (
    BLOCK,
    BLOCK_BYTES,
    CHANGE_BYTES,
    FEWEST,
    LEAST,
    Budget,
    CachedBatch,
    Checkpoints,
    RecordCache,
    Scalars,
)
from tui_gru.engine.config import Config
from tui_gru.engine.data import Corpus
from tui_gru.engine.training import Trainer, initial_weights

CONFIG = Config.of()
CHECKPOINT = 232  # bytes


def history(first=0, limit=10**6, stride=1, budget=None):
    budget = budget or Budget(limit, stride)
    return Checkpoints(first, budget, Scalars(budget))


def checkpoint(batch):
    return batch.to_bytes(8, "big") * (CHECKPOINT // 8)


def run(history, batches):
    """Store the history of a stretch as a run does: a checkpoint before a batch if one is due, the numbers after it."""
    for _ in range(batches):
        batch = history.first + history.length
        if history.is_due(batch):
            history.keep(batch, checkpoint(batch))
        history.add((batch, -batch, np.nan))


@given(
    first=st.integers(0, 20), stride=st.integers(1, 4), batches=st.integers(1, 200), limit=st.sampled_from((0, 3000, 10**4, 10**6))
)
@settings(max_examples=examples(25, soak=400))
def test_checkpoints_are_evenly_spaced_and_found(first, stride, batches, limit):
    budget = Budget(limit, stride)
    one = history(first, budget=budget)
    run(one, batches)
    kept = {}
    for batch in range(first, first + batches):
        found = one.before(batch)
        if found is not None:
            assert found[0] <= batch
            kept[found[0]] = found[1]
    assert all(batch % stride == 0 and batch > first and row == checkpoint(batch) for batch, row in kept.items())
    assert len(kept) == one.count == len([*one.after(-1)])
    assert all(b - a == budget.spacing for a, b in pairwise(sorted(kept)))
    if kept:
        assert first + batches - max(kept) <= budget.spacing
    if limit == 10**6:
        assert budget.spacing == stride
    if limit == 0:
        assert one.count <= FEWEST
    assert one.column("loss", first, first + batches - 1).tolist() == [*range(first, first + batches)]


def test_checkpoints_keep_to_their_part_of_the_limit():
    budget = Budget(100_000)
    one = history(budget=budget)
    for _ in range(20):
        run(one, 100)
        assert one.nbytes <= budget.for_checkpoints <= budget.limit
    assert one.count > 50


def test_all_stretches_have_their_checkpoints_at_the_same_spacing():
    budget = Budget(200_000)
    old, new = history(budget=budget), history(500, budget=budget)
    run(old, 1000)
    before = budget.spacing
    run(new, 1000)
    assert budget.spacing > before
    assert old.nbytes + new.nbytes <= budget.for_checkpoints
    assert all(batch % budget.spacing == 0 for one in (old, new) for batch, _ in one.after(-1))
    assert all(one.count >= 1000 // budget.spacing - 1 for one in (old, new))


def test_many_short_stretches_have_no_checkpoint_each():
    budget = Budget(10_000)
    stretches = [history(first, budget=budget) for first in range(500)]
    for one in stretches:
        run(one, 2)
    assert sum(one.nbytes for one in stretches) <= budget.for_checkpoints
    assert sum(one.count for one in stretches) >= FEWEST


def test_what_is_forgotten_gives_its_memory_back():
    budget = Budget(250_000)
    for _ in range(5):
        old = history(budget=budget)
        run(old, 400)
        del old
        gc.collect()
    new = history(budget=budget)
    run(new, 400)
    assert budget.spacing == 1


def test_changes_take_from_what_checkpoints_may_have_down_to_a_quarter():
    budget = Budget(2**20)
    rest = budget.for_checkpoints
    budget.changes = 100
    assert budget.for_checkpoints == rest - 100 * CHANGE_BYTES
    budget.changes = 10**5
    assert budget.for_checkpoints == 2**18


def test_another_limit_is_kept_to_at_once():
    budget = Budget(10**6)
    one = history(budget=budget)
    run(one, 1000)
    budget.bound(50_000)
    assert one.nbytes <= budget.for_checkpoints <= 50_000
    assert one.count > FEWEST


# Numbers of every batch


def test_numbers_that_do_not_fit_are_read_back_from_a_file(monkeypatch):
    made = []
    monkeypatch.setattr(tempfile, "TemporaryFile", lambda real=tempfile.TemporaryFile, **how: made.append(real(**how)) or made[-1])
    budget = Budget(8 * 3 * BLOCK_BYTES)  # three blocks
    one, other = (Checkpoints(first, budget, scalars) for scalars in [Scalars(budget)] for first in (0, 40))
    run(one, BLOCK + 7)
    assert not made
    for _ in range(10):
        run(other, 500)
        run(one, 500)
    assert len(made) == 1
    assert made[0].seek(0, 2) == 8 * BLOCK_BYTES
    for history_, last in ((one, BLOCK + 5006), (other, 5039)):
        rng = np.random.default_rng(1)
        for first, end in (*np.sort(rng.integers(history_.first, last + 1, (50, 2))).tolist(), (history_.first, last)):
            assert history_.column("loss", first, end).tolist() == [*range(first, end + 1)]
            assert history_.numbers(first)[:2] == [first, -first]
        assert np.isnan(history_.column("max_weight", history_.first, last)).all()


def test_numbers_stay_in_memory_where_no_file_can_be_written(monkeypatch):
    def full(**how):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(tempfile, "TemporaryFile", full)
    one = history(limit=0)
    run(one, 3 * BLOCK)
    assert one.column("loss", 0, 3 * BLOCK - 1).tolist() == [*range(3 * BLOCK)]
    monkeypatch.undo()
    run(one, 2 * BLOCK)
    assert one.column("grad_norm", 5, 5 * BLOCK - 1).tolist() == [-batch for batch in range(5, 5 * BLOCK)]


def test_a_block_that_was_half_written_is_written_again(monkeypatch):
    one = history(limit=0)
    run(one, BLOCK)
    real, room = tempfile.TemporaryFile, [BLOCK_BYTES // 2]

    class Disk:
        def __init__(self, **how):
            self._file = real(**how)

        def write(self, data):
            count = min(len(data), room[0])
            if not count:
                raise OSError(28, "No space left on device")
            room[0] -= count
            return self._file.write(data[:count])

        def __getattr__(self, name):
            return getattr(self._file, name)

    monkeypatch.setattr(tempfile, "TemporaryFile", Disk)
    run(one, 2 * BLOCK)
    room[0] = 10**9
    run(one, 2 * BLOCK)
    assert one.column("loss", 0, 5 * BLOCK - 1).tolist() == [*range(5 * BLOCK)]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
def test_a_process_that_was_forked_leaves_the_file_to_the_other():
    one = history(limit=0)
    run(one, 3 * BLOCK)
    wait, begin = os.pipe()
    child = os.fork()
    if not child:
        os.read(wait, 1)
        for _ in range(3 * BLOCK):
            one.add((7, 7, 7))
        wrong = one.column("loss", 0, 3 * BLOCK - 1).tolist() != [*range(3 * BLOCK)] or one.numbers(4 * BLOCK) != [7, 7, 7]
        os._exit(wrong)
    run(one, 3 * BLOCK)
    os.write(begin, b"1")
    assert os.waitpid(child, 0)[1] == 0
    os.close(wait)
    os.close(begin)
    assert one.column("loss", 0, 6 * BLOCK - 1).tolist() == [*range(6 * BLOCK)]


def test_a_column_that_was_handed_out_stays_as_it_is():
    one = history()
    run(one, 10)
    column = one.column("loss", 0, 9)
    run(one, 200)
    assert column.tolist() == [*range(10)]
    column[:] = 7
    assert one.column("loss", 0, 9).tolist() == [*range(10)]


# Batches at hand


def record():
    trainer = Trainer(CONFIG, Corpus(CONFIG))
    made = trainer.new_record()
    trainer.run(made, 0, initial_weights(CONFIG), trainer.initial_state(), learn=False, settings=CONFIG.settings)
    return made


RECORD = record()


def test_records_at_hand_are_of_all_stretches_together():
    records = RecordCache(Budget(0), 10**9)
    one, other = 0, 1
    kept = [CachedBatch(RECORD.copy()) for _ in range(6)]
    assert records.nearest(one, 5) is None
    for batch, each in enumerate(kept[:3]):
        records.keep(one, batch, each)
    records.keep(other, 1, kept[3])
    assert records.nearest(one, 9) == (2, kept[2])
    assert records.nearest(one, 0) == (0, kept[0])
    assert records.nearest(other, 1) == (1, kept[3])
    assert records.nearest(other, 0) is None
    records.keep(other, 4, kept[4])  # the least recently used one is dropped
    assert records.nearest(one, 1) == (0, kept[0])


@pytest.mark.parametrize(("limit", "most"), [(0, LEAST), (8 * 10 * 500, 10), (10**9, 64)])
def test_records_at_hand_keep_to_their_part_of_the_limit(limit, most):
    records = RecordCache(Budget(limit), 500)
    for batch in range(200):
        records.keep(0, batch, CachedBatch(RECORD.copy()))
    assert records.nearest(0, 199 - most) is None
    assert records.nearest(0, 200 - most)[0] == 200 - most


def test_earlier_batches_of_an_epoch_are_counted_once():
    records = RecordCache(Budget(8 * 100 * 500), 500)  # a hundred batches

    def epoch(number):
        """Store the batches of an epoch of 40, as carry `notebook` does."""
        earlier = ()
        for batch in range(40 * number, 40 * number + 40):
            kept = CachedBatch(RECORD.copy(), earlier)
            records.keep(0, batch, kept)
            earlier = (kept.record, *earlier)

    epoch(0)
    assert records.nearest(0, 0)[0] == 0  # forty batches, each stored once although others refer to it
    epoch(1)
    epoch(2)
    assert records.nearest(0, 39) is None  # a third epoch would be too much
    assert records.nearest(0, 79)[0] == 79
