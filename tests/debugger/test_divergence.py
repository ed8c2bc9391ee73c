"""A replay that differs from the run in a single bit is detected, and the error names the place."""

from contextlib import closing

import numpy as np
import pytest

from tests.session.acting import timeline_of
from tui_gru import Session
from tui_gru.debugger.history import DivergedError, different, this_machine
from tui_gru.engine.training import Trainer
from tui_gru.engine.weights import COUNT_BYTES, Weights
from tui_gru.storage import file as session_file
from tui_gru.storage.file import pack, unpack

IDLE = 4  # a character of the vocabulary that does not occur in the text, so that no loss depends on its rows of Wz, Wr and Wh
BATCHES = 301
#: A model, and a matrix with a row on which no loss depends, among weights and states of the update rule.
IDLING = [({}, "Wz"), ({"cell": "lstm", "optimizer": "adam", "clip": 1.0, "learning_rate": 0.001}, "v_Wf")]


def trained(**options):
    session = Session(vocabulary="hatMx", **{"history_memory": 20000, **options})
    session.learning = True
    session.step("batch", BATCHES)
    return session


def checkpoints(session):
    return [batch for batch, _ in timeline_of(session).last.checkpoints.after(0)]


def spacing(session):
    return timeline_of(session).memory.budget.spacing


def flip(array):
    """Flip the last bit of the first number."""
    array.reshape(-1)[:1].view("u4")[...] ^= 1


@pytest.fixture
def fault(monkeypatch):
    """Return a function that makes the engine wrong in one bit whenever it computes a batch from the given weights."""

    def plant(session, number, matrix):
        spoilt, run = timeline_of(session).record(number).before.flat.copy(), Trainer.run

        def otherwise(self, record, batch, weights, *arguments, **options):
            run(self, record, batch, weights, *arguments, **options)
            if np.array_equal(weights.flat, spoilt):
                flip(record.own_after[matrix][IDLE])

        monkeypatch.setattr(Trainer, "run", otherwise)

    return plant


def forget(session):
    timeline_of(session).memory.records.clear()


def place(batch):
    return f"batch {batch % 3 + 1} of epoch {batch // 3 + 1} "


@pytest.mark.parametrize(("model", "matrix"), IDLING, ids=["a weight", "of Adam"])
@pytest.mark.parametrize("number", [100, 101, 239])
def test_a_fault_in_a_replay_is_named_at_the_next_checkpoint(fault, number, model, matrix):
    session = trained(**model)
    assert 1 < spacing(session) < 50
    here = session.position
    fault(session, number, matrix)
    forget(session)
    after = next(batch for batch in checkpoints(session) if batch > number)
    why = "gives different results for the same computation"
    with pytest.raises(DivergedError, match=f"replay of {place(after)}begins with 1 of .* {why}"):
        session.run_back_until("any(h > 9)")
    assert session.position == here
    forget(session)
    assert session.run_back_until("loss < 0") is False  # the numbers of every batch are the same


def test_a_fault_that_a_loss_depends_on_is_named_at_once(monkeypatch):
    session = trained()
    forget(session)
    at = 5 * spacing(session) + 4
    spoilt, run = timeline_of(session).record(at).before.flat.copy(), Trainer.run
    forget(session)

    def otherwise(self, record, batch, weights, *arguments, **options):
        run(self, record, batch, weights, *arguments, **options)
        if np.array_equal(weights.flat, spoilt):
            record.loss = np.nextafter(record.loss, 9)

    monkeypatch.setattr(Trainer, "run", otherwise)
    with pytest.raises(DivergedError, match=f"replay of {place(at)}has the loss"):
        session.seek((at + 1) * session.program.ticks)


@pytest.mark.parametrize("which", [0, 7, -1])
def test_a_changed_checkpoint_of_a_file_is_noticed_though_its_hash_was_mended(tmp_path, which):
    path = tmp_path / "a.tui-gru"
    session = trained()
    session.seek("e1 b1 t1")
    session.save(path)
    with closing(session_file.connect(path, "rw")) as connection:
        file = session_file.SessionFile(path, connection)
        number, data = list(file.arrays("checkpoints/1"))[which]
        row = unpack(data)["row"].copy()
        flip(Weights(session.config.compiled.layout, row[COUNT_BYTES // row.itemsize :])["Wz"][IDLE])
        file.put_arrays("checkpoints/1", [(number, pack({"row": row}))])
    again = Session.open(path)
    here = again.position
    with pytest.raises(DivergedError) as error:
        again.seek((number + 2) * again.program.ticks)
    assert f"the replay of {place(number)}begins with 1 of" in str(error.value)
    assert f"it was recorded with {this_machine()}, like this machine: the file was changed" in str(error.value)
    assert again.position == here


def test_an_unharmed_file_is_proven_once(tmp_path):
    """Until a checkpoint has been verified, a replay begins at the checkpoint before it."""
    session = trained()
    session.save(tmp_path / "a.tui-gru")
    again = Session.open(tmp_path / "a.tui-gru")
    (before, at), replayed = checkpoints(again)[2:4], []
    for _ in range(2):
        forget(again)
        seen = []
        again.seek((at + 3) * again.program.ticks, progress=seen.append)
        replayed.append(len(seen))
        forget(again)
        assert again.run_back_until("any(z > 9)") is False
    assert replayed[0] > at - before > 4 >= replayed[1]


def test_numbers_that_are_none_are_no_difference_and_a_sign_is():
    one = np.array([0.0, np.nan, 1.0, np.inf], np.float32)
    other = np.array([-0.0, -np.nan, np.nextafter(np.float32(1), np.float32(2)), np.inf], np.float32)
    assert different(one, other).tolist() == [True, False, True, False]
    assert not different(one, one).any()
