"""A session opens on every machine: what was recorded stays, a place has one set of numbers, and only the last digits differ."""

import math
import shutil
import tempfile
from contextlib import closing

import numpy as np
import pytest

from tests.session.acting import altered, pack_record, timeline_of, untouched
from tests.storage import machines
from tests.storage.machines import KINDS, MARS, TAME
from tui_gru import Session
from tui_gru.debugger.history import DivergedError, this_machine
from tui_gru.engine.training import Trainer
from tui_gru.storage import file as session_file
from tui_gru.storage import state as contents
from tui_gru.storage.file import DamagedSessionError, SessionFile, SessionFileError, pack, unpack


@pytest.fixture(scope="module")
def made_elsewhere(tmp_path_factory):
    """Return a folder with a session of each kind that another machine recorded, and the facts that it found in each."""
    folder = tmp_path_factory.mktemp("elsewhere")
    facts = machines.elsewhere("record_all", folder)
    for kind in KINDS:
        path = folder / f"{kind}.tui-gru"
        if machines.machines_in(path) == [this_machine()]:
            machines.renamed(path, {this_machine(): MARS})
            machines.perturbed(path)
    return folder, facts


@pytest.fixture(scope="module")
def went_elsewhere(tmp_path_factory):
    """Return two folders: sessions recorded here, and the same after work on another machine; and what was found there, by kind."""
    here, there = tmp_path_factory.mktemp("here"), tmp_path_factory.mktemp("there")
    facts = machines.record_all(here)
    shutil.copytree(here, there, dirs_exist_ok=True)
    other = machines.elsewhere("machine") != this_machine()
    for kind in KINDS if not other else ():
        machines.renamed(there / f"{kind}.tui-gru", {this_machine(): MARS})
    found = machines.elsewhere("work_on_all", there)
    for kind in KINDS if not other else ():
        machines.renamed(there / f"{kind}.tui-gru", {MARS: this_machine(), this_machine(): MARS})
    return here, there, facts, found


@pytest.mark.parametrize("kind", KINDS)
def test_a_session_of_another_machine_is_as_it_was_recorded(made_elsewhere, kind, tmp_path):
    folder, facts = made_elsewhere
    path = folder / f"{kind}.tui-gru"
    with untouched(folder):
        session = Session.open(path)
        assert "recorded on another machine: " in session.notice
        assert machines.facts_of(session) == facts[kind]
        machines.check_places(session)
        machines.check_boundaries(session)
        machines.check_searches(session)
        machines.check_answers(session)
    difference = session.machine_difference
    if kind in TAME:
        assert 0 < difference < TAME[kind]
    assert session.snapshot().machine.warning == (difference > TAME.get(kind, 1e-4))
    again = machines.worked_on(session, tmp_path / "more.tui-gru")
    machines.check_places(again)


@pytest.mark.parametrize("kind", KINDS)
def test_another_machine_finds_what_was_recorded_here(went_elsewhere, kind):
    _, _, facts, found = went_elsewhere
    assert found[kind]["facts"] == facts[kind]
    assert "recorded on another machine: " in found[kind]["notice"]
    if kind in TAME:
        assert (found[kind]["difference"] or 0) < TAME[kind]


@pytest.mark.parametrize("kind", KINDS)
def test_home_again_everything_recorded_here_is_exact(went_elsewhere, kind):
    here, there, _, found = went_elsewhere
    first, home = (Session.open(folder / f"{kind}.tui-gru") for folder in (here, there))
    assert first.machine_difference is None
    assert first.snapshot().machine is None
    assert len(machines.machines_in(there / f"{kind}.tui-gru")) == 2
    reached = {branch: (first.switch(branch), first.newest.tick)[1] for branch in first.branches}
    assert set(reached) < set(home.branches)
    for branch, last in reached.items():
        first.switch(branch)
        home.switch(branch)
        for tick in range(7, last, last // 12):
            first.seek(tick)
            home.seek(tick)
            assert pack_record(home.snapshot().record) == pack_record(first.snapshot().record), (branch, tick)
    home.switch("main")
    assert timeline_of(home).is_exact(10)
    assert not timeline_of(home).is_exact(timeline_of(home).computed)
    assert machines.facts_of(home) == found[kind]["more"]
    machines.check_places(home)


# Files made by this machine that look like those of another


@pytest.fixture
def path(tmp_path):
    """Return a file of this machine: 60 batches that learn, an SGD step, and batches that do not learn."""
    session = Session(history_memory=20_000, epochs=26)
    session.learning = True
    session.step("batch", 60)
    session.learning = False
    session.step("batch", 4)
    session.sgd()
    session.step("batch", 12)
    session.save(tmp_path / "a.tui-gru")
    return tmp_path / "a.tui-gru"


def changed_checkpoints(path, change):
    """Apply `change` to the row of every checkpoint but the first, whose first bytes are the number of updates."""
    with closing(session_file.connect(path, "rw")) as connection:
        file = SessionFile(path, connection)
        for (key,) in connection.execute("SELECT DISTINCT key FROM arrays WHERE key LIKE 'checkpoints/%'").fetchall():
            rows = [(batch, unpack(data)["row"].copy()) for batch, data in file.arrays(key)]
            for _, row in rows[key == "checkpoints/0" :]:
                change(row)
            file.put_arrays(key, [(batch, pack({"row": row})) for batch, row in rows])


def changed_checkpoints_from(path, batch, change):
    """Apply `change` to the rows of all checkpoints from a batch on."""
    with closing(session_file.connect(path, "rw")) as connection:
        file = SessionFile(path, connection)
        for (key,) in connection.execute("SELECT DISTINCT key FROM arrays WHERE key LIKE 'checkpoints/%'").fetchall():
            rows = [(at, unpack(data)["row"].copy()) for at, data in file.arrays(key)]
            for at, row in rows:
                if at >= batch:
                    change(row)
            file.put_arrays(key, [(at, pack({"row": row})) for at, row in rows])


def to_mars(path):
    machines.renamed(path, {this_machine(): MARS})
    return path


def test_the_same_numbers_under_another_name_differ_nowhere(path):
    before = Session.open(path)
    session = Session.open(to_mars(path))
    assert session.notice.endswith("recorded on another machine: no difference met so far")
    assert session.snapshot().machine == ("recorded on another machine: no difference met so far", "other machine", False)
    machines.check_places(session)
    for tick in (1, 300, 2000):
        before.seek(tick)
        session.seek(tick)
        assert pack_record(before.snapshot().record) == pack_record(session.snapshot().record)
    assert session.machine_difference is None


def test_the_same_name_with_another_first_batch_is_another_machine(path):
    altered(path, "run", lambda run: {**run, "first_batch": "0" * 32})
    session = Session.open(path)
    assert "recorded on another machine" in session.notice
    session.save(path.with_name("b.tui-gru"))
    assert "recorded on another machine" in Session.open(path.with_name("b.tui-gru")).notice


@pytest.mark.parametrize("factor", [1 + 1e-6, 1.5, 1e6, math.inf])
def test_no_size_of_a_difference_is_refused(path, factor):
    def change(row):
        with np.errstate(all="ignore"):
            row[2:] *= np.float32(factor)

    changed_checkpoints(to_mars(path), change)
    session = Session.open(path)
    machines.check_places(session)
    session.seek(session.newest)
    session.step("batch", 3)
    difference, report = session.machine_difference, session.snapshot().machine
    if factor < 1.1:
        assert 5e-7 < difference < 1e-4
        assert report.sentence.startswith("recorded on another machine: numbers differ by up to ")
        assert not report.warning
    elif math.isfinite(factor):
        assert difference > 0.3
        assert "epoch 2, batch 2 on numbers differ by up to" in report.sentence
        assert report.sentence.endswith(", more than rounding explains")
        assert report.warning
    else:
        assert difference == math.inf
        assert report.sentence.endswith("from epoch 2, batch 2 on some numbers are finite on one of the two machines only")


def test_a_warning_is_given_by_the_verb_that_meets_the_difference(path):
    def change(row):
        if row[:2].view("i8")[0] > 50:
            row[2:] += 1

    session = Session.open(path)
    session.seek(10)
    session.save(path)
    changed_checkpoints(to_mars(path), change)
    session = Session.open(path)
    assert not session.snapshot().machine.warning
    session.seek(55 * session.program.ticks)
    assert "recorded on another machine: from epoch 1" in session.notice
    assert session.outcome.notice.warning
    session.seek(10)
    assert "another machine" not in session.notice


def test_another_number_of_updates_is_damage(path):
    def change(row):
        row[:2].view("i8")[0] += 1

    changed_checkpoints(to_mars(path), change)
    with pytest.raises(DamagedSessionError, match=r"begins after \d+ updates, but its checkpoint was written after \d+"):
        Session.open(path)


def test_another_number_of_lines_is_another_version(path):
    altered(path, "run", lambda run: {**run, "ticks": run["ticks"] + 1})
    with untouched(path), pytest.raises(SessionFileError, match=r"a batch of this model has \d+ lines, and in this one \d+"):
        Session.open(path)


def test_the_loss_is_the_recorded_one_and_its_derivation_says_what_was_computed_here(path):
    changed_checkpoints(to_mars(path), lambda row: np.multiply(row[2:], np.float32(1 + 1e-4), out=row[2:]))
    recorded = np.asarray(Session.open(path).snapshot().losses)
    session = Session.open(path)
    told = 0
    for batch in range(8, 60):
        session.seek((batch + 1) * session.program.ticks)
        assert session.loss == recorded[batch]
        for name, index in (("loss", ()), ("max_weight", ()), ("Wz", (0, 0))):
            node = session.explain(name, index)
            told += "as recorded on another machine; here " in node.derivation.note
            assert node.value == np.asarray(session.value(name))[index]
        carried = session.explain("h_prev", (0, 0), 0)
        differs = carried.terms and carried.terms[0].value != carried.value
        assert bool(differs) == ("as recorded on another machine; here " in carried.derivation.note)
        told += bool(differs) * 100
    assert told > 160
    session.seek("e5 b1 t1")
    assert session.what_if("Wz", (0, 0), float(session.parameter("Wz")[0, 0])).differences == ()
    assert session.check().agrees


def test_a_hit_that_was_counted_stays_where_it_was(path):
    session = Session.open(path)
    session.seek(40 * session.program.ticks)
    threshold = float(session.value("h")[0, 0])
    session.break_at("h", condition=f"h[0, 0] == {threshold!r}", hits="1")
    session.break_at("h", condition=f"h[0, 0] >= {threshold!r}", hits="%3")
    stops = machines.stops_of(session)
    assert len(stops) > 5
    session.save(path)
    changed_checkpoints(to_mars(path), lambda row: np.multiply(row[2:], np.float32(1.01), out=row[2:]))
    again = Session.open(path)
    assert machines.stops_of(again) == stops
    again.seek(39 * again.program.ticks)
    again.delete_stop(2)
    assert again.continue_()
    assert again.notice.endswith("hit 1 · h[0, 0] == " + repr(threshold) + machines.ONLY_THERE)
    again.save(path)
    assert machines.stops_of(Session.open(path)) == [stop for stop in stops if "breakpoint 1" in stop[1]]


def test_a_line_of_the_log_stays_until_its_log_point_is_changed(path):
    session = Session.open(path)
    session.break_at("loss", log="{h[0, 0]:.9f} {loss:.9f}")
    session.seek(0)
    session.continue_()
    lines = [line.text for line in session.snapshot().log]
    assert len(lines) == 78
    session.save(path)
    changed_checkpoints(to_mars(path), lambda row: np.multiply(row[2:], np.float32(1.01), out=row[2:]))
    again = Session.open(path)
    for _ in range(2):
        again.seek(0)
        again.continue_()
        assert [line.text for line in again.snapshot().log] == lines
    again.change_stop(1, log="{h[0, 0]:.9f}")
    again.seek(0)
    again.continue_()
    now = [line.text for line in again.snapshot().log]
    assert all(" " not in line for line in now)
    assert [line.split()[0] for line in lines] != now


def test_no_weight_changes_between_batches_that_do_not_learn(path):
    changed_checkpoints(to_mars(path), lambda row: np.multiply(row[2:], np.float32(1 + 1e-4), out=row[2:]))
    session = Session.open(path)
    session.watch("Wz[0, 0]", stops=True)
    session.seek(62 * session.program.ticks)
    assert session.continue_()  # at the update of the SGD step
    assert session.position.number == 63
    assert not session.continue_()
    machines.check_boundaries(session)


def test_batches_trained_here_are_compared_bit_for_bit_again(path, monkeypatch):
    changed_checkpoints(to_mars(path), lambda row: np.multiply(row[2:], np.float32(1 + 1e-4), out=row[2:]))
    session = Session.open(path)
    session.epochs, session.learning = None, True
    session.step("batch", 200)
    timeline = timeline_of(session)
    assert not timeline.is_exact(50)
    assert timeline.is_exact(timeline.computed)
    session.save(path)
    run = Trainer.run

    def otherwise(self, record, batch, *arguments, **options):
        run(self, record, batch, *arguments, **options)
        record.loss = np.nextafter(record.loss, 9)

    again = Session.open(path)
    timeline_of(again).memory.records.clear()
    monkeypatch.setattr(Trainer, "run", otherwise)
    again.seek("e5 b1 t1")
    with pytest.raises(DivergedError, match=r"has the loss .* like this machine: the file was changed"):
        again.seek(again.newest)


def numbers_at(session, ticks):
    found = {}
    for tick in ticks:
        session.seek(tick)
        found[tick] = pack_record(session.snapshot().record)
    return found


@pytest.mark.parametrize("limit", [0, 20_000, 2**28])
def test_a_place_keeps_its_numbers_however_many_checkpoints_are_dropped(path, limit):
    """Those of another machine are never dropped: not by the limit in memory, not in the file, and not when it is opened again."""
    changed_checkpoints(to_mars(path), lambda row: np.multiply(row[2:], np.float32(1 + 1e-5), out=row[2:]))
    session = Session.open(path)
    ticks = range(5, session.newest.tick, session.program.ticks // 2)
    numbers = numbers_at(session, ticks)
    assert session.machine_difference > 0

    session = Session.open(path, history_memory=limit)
    assert numbers_at(session, ticks) == numbers
    session.seek(session.newest)
    begins = session.position.number + 1
    session.epochs, session.learning = None, True
    session.step("batch", 400)
    trained = range(begins * session.program.ticks + 3, session.newest.tick, 41 * session.program.ticks)
    more = numbers_at(session, trained)
    if limit < 2**28:
        assert timeline_of(session).memory.budget.spacing > 1
    assert numbers_at(session, reversed(ticks)) == numbers
    assert timeline_of(session).is_exact(begins)  # this machine went on at a checkpoint
    machines.check_places(session)
    for _ in range(2):
        session.save(path)
        session = Session.open(path, history_memory=limit)
        assert numbers_at(session, ticks) == numbers
        assert numbers_at(session, trained) == more


def test_a_file_with_too_many_checkpoints_keeps_those_of_another_machine(path, monkeypatch):
    changed_checkpoints(to_mars(path), lambda row: np.multiply(row[2:], np.float32(1 + 1e-5), out=row[2:]))
    session = Session.open(path)
    ticks = range(5, session.newest.tick, session.program.ticks // 2)
    numbers = numbers_at(session, ticks)
    before = [*timeline_of(session).beginning.checkpoints.batches_after(-1)]
    monkeypatch.setattr(contents, "MOST_CHECKPOINTS", 8)
    session.record_to(path.with_name("b.tui-gru"))
    with closing(session):
        session.seek(session.newest)
        session.epochs, session.learning = None, True
        for _ in range(8):
            session.step("batch", 20)
    session = Session.open(path.with_name("b.tui-gru"))
    assert [*timeline_of(session).beginning.checkpoints.batches_after(-1)] == before
    kept = sum(segment.checkpoints.count for segment in timeline_of(session).segments)
    assert 0 < kept <= 8
    assert numbers_at(session, ticks) == numbers


def test_checkpoints_of_another_machine_move_to_a_file_before_they_take_too_much(path, monkeypatch):
    changed_checkpoints(to_mars(path), lambda row: np.multiply(row[2:], np.float32(1 + 1e-5), out=row[2:]))
    small = Session.open(path, history_memory=4000)
    rows = timeline_of(small).beginning.checkpoints
    assert rows.nbytes < 0.7 * timeline_of(Session.open(path)).beginning.checkpoints.nbytes
    machines.check_places(small)
    monkeypatch.setattr(tempfile, "TemporaryFile", lambda **how: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    machines.check_places(Session.open(path, history_memory=4000))


def test_where_a_run_goes_on_elsewhere_both_machines_have_a_checkpoint(path):
    """At home again, what was recorded here has its bits, and what the other machine added begins with its own numbers."""
    home = Session.open(path)
    ticks = range(5, home.newest.tick, home.program.ticks // 2)
    numbers = numbers_at(home, ticks)
    away = Session.open(to_mars(path))
    away.seek(away.newest)
    begins = away.position.number + 1
    away.epochs, away.learning = None, True
    away.step("batch", 100)
    added = range(begins * away.program.ticks + 7, away.newest.tick, 13 * away.program.ticks)
    more = numbers_at(away, added)
    away.save(path)
    machines.renamed(path, {MARS: this_machine(), this_machine(): MARS})
    changed_checkpoints_from(path, begins, lambda row: np.multiply(row[2:], np.float32(1 + 1e-5), out=row[2:]))
    for limit in (0, 2**28):
        again = Session.open(path, history_memory=limit)
        assert numbers_at(again, ticks) == numbers
        seen = numbers_at(again, added)
        assert seen != more
        again.save(path)
        again = Session.open(path, history_memory=limit)
        assert numbers_at(again, added) == seen
