"""Memory limit of a session: it holds for all actions, and the file grows only by what was done."""

import gc
import math
import random
import tracemalloc
import weakref
from contextlib import closing

import numpy as np
import pytest

from tests.debugger.models import MODELS
from tests.extent import SOAK
from tests.session.acting import assert_same, timeline_of
from tests.without_terminal import run_without_terminal
from tui_gru import Session
from tui_gru.debugger.segment import size_at_hand
from tui_gru.engine.batch import BatchRecord
from tui_gru.engine.config import Config
from tui_gru.engine.numbers import mib
from tui_gru.engine.training import Trainer

# Large records of a small model, whose initial weights need no torch.
LARGE = {"text": "".join(random.Random(0).choices("hatM", k=6000)), "vocabulary": "hatM"}
LARGE |= {"hidden_size": 2, "batch_size": 64, "seq_length": 8}
LIMIT = 2**17
CHANGES = 25


def kept(work):
    """Return the number of bytes that are still in use after `work`."""
    gc.collect()
    tracemalloc.start()
    try:
        work()
        gc.collect()
        return tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()


def edit_one_place(session, i):
    session.edit("Wz", (0, 1), i)


def edit_and_step(session, i):
    session.edit("Wz", (0, 1), i)
    session.step("op")


def edit_and_go_on(session, i):
    session.edit("h", (0, 1), i / CHANGES)
    session.step("batch")


def sgd(session, i):
    session.sgd()


def toggle(session, i):
    session.learning = not session.learning
    session.step("timestep")


def rate(session, i):
    session.learning_rate = i / CHANGES
    session.step("timestep")


def text(session, i):
    session.edit("text", i, session.config.vocabulary[i % 4])
    session.step("timestep")


def fork(session, i):
    session.step("batch")
    session.step("batch", -1)
    session.edit("Wz", (0, 1), i)
    session.switch("main")


DEEDS = [edit_one_place, edit_and_step, edit_and_go_on, sgd, toggle, rate, text, fork]


def begun(**options):
    session = Session(**LARGE, history_memory=LIMIT, **options)
    session.learning = False
    session.step("batch", 3)
    session.step("timestep")
    return session


@pytest.mark.parametrize("deed", DEEDS)
def test_a_change_keeps_what_was_changed_not_the_batch(deed):
    session = begun()
    record = size_at_hand(session.config)
    bound = LIMIT + 6 * record  # four batches are cached for any limit, one is shown, and one is being computed
    assert bound < CHANGES * record / 3

    def work():
        for i in range(CHANGES):
            deed(session, i)

    def undo():
        while session.undo():
            pass

    assert kept(work) < bound
    assert kept(undo) < bound
    assert kept(session.redo) < bound


def all_held(session):
    """Return a replacement of `BatchRecord.__init__`, and a function that returns the most bytes of records and checkpoints that
    existed at once since the last call, and the most records."""
    live, most = weakref.WeakSet([session.state.timeline.record(0)]), [0, 0]
    begin = BatchRecord.__init__

    def noted(record, compiled):
        begin(record, compiled)
        live.add(record)
        checkpoints = {id(each.checkpoints): each.checkpoints.nbytes for each in session.state.timeline.segments}
        most[0] = max(most[0], sum(each.nbytes for each in live) + sum(checkpoints.values()))
        most[1] = max(most[1], len(live))

    def held():
        found, most[:] = tuple(most), (0, 0)
        return found

    return noted, held


def walk_everywhere(session):
    """Step, seek, search and change, each with the snapshot that a screen holds until the next."""
    shown = []

    def do(work, *arguments):
        work(*arguments)
        shown[:] = [session.snapshot()]
        session.state.timeline.previous(session.position.number)

    session.learning = True
    for _ in range(12):
        do(session.step, "batch")
    for _ in range(4):
        do(session.step, "batch", -1)
        do(session.step, "timestep", -1)
    do(session.step, "batch", 10)
    for part in (0, 0.9, 0.4):
        do(session.seek, int(part * session.newest.tick))
    do(session.run_until, "any(abs(h) > 2) or epoch == 4")
    do(session.run_back_until, "any(abs(h) > 2)")
    for i in range(6):
        do(session.edit, "Wz", (0, 1), i / 7)
    do(session.step, "batch", 3)
    for _ in range(6):
        do(session.undo)
    for _ in range(3):
        do(session.redo)
    return do


def limited(batches, monkeypatch):
    """Return a session whose limit is so many of its batches, the function `held` of `all_held`, and the bytes of a batch."""
    options = {**LARGE, "hidden_size": 64, "text": LARGE["text"][:4200]}
    size = size_at_hand(Config.of(**options))
    session = Session(**options, history_memory=int(batches * size))
    noted, held = all_held(session)
    monkeypatch.setattr(BatchRecord, "__init__", noted)
    return session, held, size


@pytest.mark.parametrize("batches", [1, 1.5, 2, 3, 4, 5, 7, 9, 12, 20, 28, 29, 40])
def test_the_limit_holds_for_all_records_and_checkpoints(batches, monkeypatch):
    """The pool and what is in use count, besides the batch that was there when the session was opened.

    The limits are those of so many batches of the model, which is large for most of them.
    """
    session, held, size = limited(batches, monkeypatch)
    assert session.memory_notice == ""
    do = walk_everywhere(session)
    if batches >= 2:  # a search through batches with changes takes a third record
        do(session.run_back_until, "any(abs(h) > 2)")
    assert size < held()[0] - size <= 1.5 * batches * size


@pytest.mark.parametrize("batches", [0.5, 1, 2])
def test_two_records_are_enough_for_every_step_change_and_search(batches, monkeypatch):
    """The one that is shown, and the one that is computed meanwhile."""
    session, held, _ = limited(batches, monkeypatch)
    do = walk_everywhere(session)
    do(session.seek, session.newest)
    for i in range(3):
        do(session.step, "batch", 2)
        do(session.step, "timestep", 2)
        do(session.edit, "h", (0, 1), i / 7)
        do(session.step, "line", 20)
    for _ in range(3):
        do(session.undo)
    assert held()[1] == 2
    do(session.run_until, "epoch == 9")
    here = session.position.number
    do(session.run_until, "any(abs(h - prev(h)) > 1.99) or epoch == 10")
    assert session.position.number > here + 3
    do(session.run_back_until, "any(abs(h - prev(h)) > 1.99) or epoch == 9")
    assert held()[1] == 0  # no other was made


def test_a_comparison_of_branches_takes_two_records_more(monkeypatch):
    session, held, _ = limited(1, monkeypatch)
    session.learning = True
    session.step("batch", 4)
    session.step("batch", -2)
    session.edit("Wz", (0, 1), 0.5)
    session.step("batch", 2)
    session.compare("main")
    shown = []
    for count in (-1, 1, -2, 2, -1):
        shown[:] = [session.snapshot()]
        assert shown[0].other.moment is not None
        session.step("batch", count)
    assert 2 < held()[1] <= 4


def test_a_change_in_the_record_itself_gives_the_bits_of_one_in_a_copy(monkeypatch):
    few, _, _ = limited(1, monkeypatch)
    many = Session(**{**LARGE, "hidden_size": 64, "text": LARGE["text"][:4200]}, history_memory=2**28)
    for session in (few, many):
        session.learning = True
        session.step("batch", 2)
        end = session.position.tick + session.program.backward_end
        for after, name, place in ((-250, "h", (0, 1)), (0, "dUh", (1, 1)), (12, "Wz", (1, 0)), (320, "h", (1, 1))):
            session.seek(end + after)
            for value in (0.25, 0.75, 0.5):
                session.edit(name, place, value)
        session.edit("text", 4100, "M")
    for session in (few, many):
        session.step("batch", 3)
        session.undo()
        session.redo()
    ticks = range(0, many.newest.tick, many.program.ticks // 3)
    for tick in random.Random(2).sample(ticks, len(ticks)):
        few.seek(tick)
        many.seek(tick)
        assert bits(few) == bits(many)
        one, other = few.snapshot(), many.snapshot()
        assert one.changed == other.changed
        assert (one.previous and one.previous.loss) == (other.previous and other.previous.loss)
        for name in ("Wz", "by"):
            assert np.array_equal(one.last_step(name), other.last_step(name)), (tick, name)


def test_two_records_are_enough_for_a_recording(tmp_path, monkeypatch):
    pytest.importorskip("torch")
    from tests.capture.runs import trained

    trained(tmp_path / "run.gru", steps=12, every=1, last=0)
    few = Session.open(tmp_path / "run.gru", history_memory=size_at_hand(Session.open(tmp_path / "run.gru").config))
    noted, held = all_held(few)
    monkeypatch.setattr(BatchRecord, "__init__", noted)
    assert few.memory_notice == ""
    for act in (*[("batch", 1)] * 4, ("batch", -1), ("timestep", 1), ("batch", 3), "edit", ("timestep", 2), "undo"):
        shown = few.snapshot()  # as a screen holds it until the next one
        if isinstance(act, tuple):
            few.step(*act)
        elif act == "edit":
            few.edit("Wz", (0, 0), 0.3)
        else:
            few.undo()
        assert shown.previous is None or math.isfinite(shown.previous.loss)
    assert held()[1] == 2


def test_a_model_too_large_for_the_limit_takes_little_and_says_it(monkeypatch):
    session, held, size = limited(0.5, monkeypatch)
    assert f"takes {mib(session.config.record_bytes)}" in session.memory_notice
    assert session.state.timeline.memory.budget.most_bytes > 3 * size  # with a comparison of branches, besides the batch at opening
    walk_everywhere(session)
    assert held()[0] <= 2.5 * size
    code, seen = run_without_terminal("--no-record", "--history-memory", "1K", keys="q")
    assert code == 0
    assert "its history takes up to" in seen


def test_large_records_give_the_same_numbers():
    """With copies of the weights, and with few cached batches."""
    options = {**LARGE, "text": LARGE["text"][:4200]}
    few, many = Session(**options, history_memory=2**16), Session(**options, history_memory=2**28)
    for session in (few, many):
        walk_everywhere(session)
        session.switch("main")
    ticks = random.Random(2).sample(range(many.newest.tick), 12)
    for tick in ticks:
        few.seek(tick)
        many.seek(tick)
        assert bits(few) == bits(many)


@pytest.mark.parametrize("deed", DEEDS)
def test_the_file_grows_by_what_was_done(tmp_path, deed):
    path, session = tmp_path / "a.tui-gru", begun()
    session.save(path)
    before = path.stat().st_size
    for i in range(CHANGES):
        deed(session, i)
    session.save(path)
    checkpoints = LIMIT  # as many as are in memory
    assert path.stat().st_size - before < checkpoints + CHANGES * 4000
    assert_same(session, Session.open(path))


def test_the_file_of_a_recording_drops_checkpoints_as_memory_does(tmp_path):
    path, session = tmp_path / "a.tui-gru", begun()
    session.learning = True
    session.record_to(path)
    with closing(session):
        session.step("batch", 200)
        while session.position.number < 1000:
            session.step("batch", 50)
            session.learning_rate /= 2  # each stretch of training is another
    assert path.stat().st_size < 6 * LIMIT  # when every second checkpoint is dropped, the pages of the file are one third full
    assert_same(session, Session.open(path))


def ready(compiled):
    """Return a record with everything that its passes read."""
    record = BatchRecord(compiled)
    for name in ("forward", "backward"):
        record.cut(name)
        compiled.cut(record.own_after, name)
    compiled.cut(record.own_gradients, "backward", "G")
    return record


@pytest.mark.parametrize("config", [Config.of(**model) for model in MODELS.values()], ids=tuple(MODELS))
def test_the_size_of_a_batch_at_hand_is_what_it_takes(config):
    compiled = config.compiled
    records = []
    taken = kept(lambda: records.extend(ready(compiled) for _ in range(8))) / 8
    assert taken < 1.2 * size_at_hand(config) < 1.8 * taken


@pytest.mark.parametrize("deed", DEEDS)
def test_replayed_changes_are_what_they_were(deed):
    """No batch is cached: every moment is computed again from the beginning or a checkpoint, with all changes."""
    session = Session(text="the cat sat on the mat; the rat sat on", hidden_size=2, batch_size=2, seq_length=3, history_memory=0)
    session.learning = False
    session.step("batch", 2)
    for i in range(9):
        deed(session, i)
    ticks = range(0, session.newest.tick + 1, 7 if SOAK else 17)
    shown = {}
    for tick in ticks:
        session.seek(tick)
        shown[tick] = bits(session)
    for tick in random.Random(1).sample(ticks, len(ticks)):
        timeline_of(session).memory.records.clear()
        session.seek(tick)
        assert bits(session) == shown[tick], tick


def bits(session):
    record = session.snapshot().record
    numbers = [record.array("h"), record.array("y_hat"), record.before.flat, record.after.flat]
    return [array.tobytes() for array in numbers], repr((record.loss, record.grad_norm))


def test_many_changes_in_one_place_are_replayed_at_once(monkeypatch):
    session = begun()
    for i in range(300):
        session.edit("Wz", (0, 1), i)
    session.step("batch", 5)
    timeline_of(session).memory.records.clear()
    done, resume = [], Trainer.resume
    monkeypatch.setattr(Trainer, "resume", lambda self, *args, **how: done.append(1) or resume(self, *args, **how))
    session.step("batch", -5)
    assert session.parameter("Wz")[0, 1] == 299
    assert len(done) == 1


def test_a_seek_replays_little_however_long_the_run(monkeypatch):
    """The numbers of all batches exceed the limit; the checkpoints are as close as before."""
    session = Session(history_memory=60_000)
    session.learning = True
    done, run = [], Trainer.run
    for _ in range(4):
        session.step("batch", 1500)
        monkeypatch.setattr(Trainer, "run", lambda self, *args, **how: done.append(1) or run(self, *args, **how))
        for part in (0.1, 0.5, 0.77):
            del done[:]
            session.seek(int(part * session.newest.tick))
            session.snapshot()
            assert len(done) <= 260
        monkeypatch.undo()
        session.seek(session.newest)


BATCHES = 1500  # of a long run: of more numbers than are written to the file together


def long_run(limit):
    session = Session(history_memory=limit, learning_rate=0.3, epochs=BATCHES // 3)
    session.learning = True
    return session


def stops_at(session, condition):
    """Where a condition stops from the end backwards, and from the beginning on."""
    session.seek(session.end)
    way = [session.run_back_until(condition) and session.position.tick for _ in range(3)]
    session.seek(0)
    return way + [session.run_until(condition) and session.position.tick for _ in range(3)]


@pytest.fixture(scope="module")
def all_kept():
    """The losses of a long run of which everything is kept, and where conditions stop."""
    session = long_run(2**28)
    session.step("batch", BATCHES)
    losses = [*session.snapshot().losses]
    conditions = (f"loss == {losses[17]!r}", f"loss < {losses[1121]!r}", "loss > prev(loss) * 1.05", "grad_norm > 0.4")
    return losses, {condition: stops_at(session, condition) for condition in conditions}


@pytest.mark.parametrize("limit", [0, 20_000, 10**6])
def test_numbers_of_a_long_run_are_exact_whatever_the_limit(all_kept, limit):
    """Those beyond the limit are in a file: conditions and the curve see them as they were."""
    session = long_run(limit)
    assert kept(lambda: session.step("batch", BATCHES)) < limit + 6 * size_at_hand(session.config)
    losses, ways = all_kept
    assert [*session.snapshot().losses] == losses
    for condition, way in ways.items():
        assert any(way), condition
        assert stops_at(session, condition) == way, condition


def test_old_samples_go_where_they_take_too_much():
    session = Session(history_memory=2**18)
    session.sample("Ma", 250, seed=0)
    assert kept(lambda: [session.sample("Ma", 250, seed=i) for i in range(1, 8)]) < 2**18
    assert [sample.seed for sample in session.samples] == [7]  # the newest is kept, however large it is
    for i in range(20, 30):
        session.sample("Ma", 10, seed=i)
    assert [sample.seed for sample in session.samples] == [*range(20, 30)]


def test_checkpoints_of_many_branches_are_within_the_limit():
    session, plain = (Session(history_memory=memory) for memory in (20_000, 2**28))

    def work(session):
        session.learning = True
        session.step("batch", 60)
        for i in range(16):
            session.seek(f"e1 b{i % 3 + 1} t1")
            session.edit("Wz", (0, 1), i)
            session.step("batch", 60)

    bound = 20_000 + 16 * 3000 + 8 * size_at_hand(session.config)
    assert kept(lambda: work(session)) < bound < kept(lambda: work(plain)) / 2
    for name in random.Random(1).sample(session.branches, 10):
        for each in (session, plain):
            each.switch(name)
            each.seek("e13 b2 t2")
        assert bits(session) == bits(plain)


def test_hits_are_known_of_the_timelines_asked_about_last():
    session = Session(history_memory=10**6)
    session.learning = True
    session.step("batch", 3000)
    session.break_at("loss", condition="loss < 0")

    def work():
        for i in range(100):
            session.edit("Wz", (0, 1), i)
            session.step("batch")

    assert kept(work) < 800_000
