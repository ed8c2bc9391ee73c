"""Session files with correct hashes and invalid contents: refused with a clear error before anything is run or shown."""

import os
import random
import shutil
import sqlite3
import time
from contextlib import closing, suppress
from pathlib import Path

import numpy as np
import pytest

from tests.session.acting import act, acted, altered, portrait, untouched
from tui_gru import Session
from tui_gru.cli.commands import main
from tui_gru.debugger.history import DivergedError
from tui_gru.engine.training import Trainer
from tui_gru.errors import TuiGruError
from tui_gru.storage import file as session_file
from tui_gru.storage import store as library
from tui_gru.storage.file import MOST_DEPTH, DamagedSessionError, SessionFile, SessionFileError, pack, unpack
from tui_gru.storage.store import session_path

EVIL = "\x1b]0;owned\x07"
DEEP = "[" * 900 + "]" * 900


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A session with a fork, a change undone, a sample, a counted breakpoint and checkpoints."""
    session = Session()
    session.learning = True
    session.break_at("h", condition="step == 2 or step == 5", hits="%7")
    session.step("batch", 8)
    session.step("batch", -3)
    session.edit("Wz", (0, 1), 0.5)
    session.step("batch", 2)
    session.edit("text", 3, "a")
    session.edit("by", 0, 1.0)
    session.undo()
    session.sample("Ma", 4)
    path = tmp_path_factory.mktemp("saved") / "math.tui-gru"
    session.save(path)
    return path


@pytest.fixture
def path(saved, tmp_path):
    """A file of it to be spoilt."""
    return Path(shutil.copy(saved, tmp_path))


def put(*place, to):
    """Return a change that writes another value at a place in a fact."""

    def change(fact):
        at = fact
        for step in place[:-1]:
            at = at[step]
        at[place[-1]] = to
        return fact

    return change


FACTS = [
    ("here", put("tick", to=10**9)), ("here", put("tick", to=-1)), ("here", put("tick", to=1.0)), ("here", put("tick", to=True)),
    ("here", put("tick", to=2**70)), ("here", put("branch", to="nowhere")), ("here", put("branch", to=EVIL)),
    ("here", put("done", to=10**9)), ("here", put("done", to="1")), ("here", put("undone", to=7)), ("here", put("more", to=1)),
    ("here", put("stop_on_nan", to=1)), ("here", put("stride", to={})), ("here", put("stride", "level", to="year")),
    ("here", put("newest", to=0)), ("here", put("newest", to=10**9)), ("here", put("newest", to=-5)),
    ("here", put("newest", to=None)),
    ("here", put("written", to=-1)), ("here", put("written", to=10**30)), ("here", put("written", to="now")),
    ("here", put("counted", to=99)), ("here", "[]"), ("here", DEEP), ("here", "{"), ("here", "[1e999]"),
    ("branches", put(0, 0, to=EVIL)), ("branches", put(0, 0, to="two words")), ("branches", put(0, 0, to="main~1")),
    ("branches", put(0, 0, to="x" * 200)), ("branches", put(0, 0, to="")), ("branches", put(0, 1, to=99)),
    ("branches", put(0, 2, to=10**9)), ("branches", put(0, 2, to=-5)), ("branches", put(1, 1, to=-1)), ("branches", "[]"),
    ("branches", put(0, to=[])), ("branches", put(1, 0, to="main")), ("branches", put(1, 2, to="9")),
    ("run", put("machine", to=f"NumPy{EVIL}")), ("run", put("machine", to="x" * 9999)), ("run", put("epochs", to=0)),
    ("run", put("epochs", to="3")), ("run", put("history_memory", to=-1)), ("run", put("config", "hidden_size", to="2")),
    ("run", put("config", "hidden_size", to=3)), ("run", put("config", "hidden_size", to=10**15)),
    ("run", put("config", "seq_length", to=10**15)), ("run", put("config", "vocabulary", to="hatMM")),
    ("run", put("config", "vocabulary", to=["h", "a", "t", ["M"]])), ("run", put("config", "learning_rate", to=-1)),
    ("run", put("config", "learning_rate", to="0.1")), ("run", put("config", "dtype", to="object")),
    ("run", put("config", "colour", to="red")), ("run", put("config", to=[])),
    ("run", put("config", "cell", to="nope")), ("run", put("config", "cell", to=EVIL)), ("run", put("config", "cell", to=7)),
    ("run", put("config", "cell_text", to=f"h = {EVIL}")), ("run", put("config", "cell_text", to="(" * 10**5)),
    ("run", put("config", "layers", to=10**9)), ("run", put("config", "layers", to=2)),
    ("run", put("config", "bidirectional", to=1)),
    ("run", put("config", "embedding", to=10**15)), ("run", put("config", "optimizer", to="adam")),
    ("run", put("config", "optimizer", to=EVIL)), ("run", put("config", "clip", to=-1)), ("run", put("config", "init", to="zeros")),
    ("run", put("config", "layout", to=None)), ("run", put("first_batch", to="")), ("run", put("first_batch", to=5)),
    ("run", put("first_batch", to=EVIL)), ("run", put("ticks", to=7)), ("run", put("ticks", to=0)), ("run", put("machines", to=[])),
    ("run", put("machines", to=[["Mars", "0"]])), ("run", put("machines", to=[[EVIL, "0"]])), ("run", put("machines", to=5)),
    ("history/0", put("machines", to=[])), ("history/0", put("machines", to=[[0, 1]])), ("history/0", put("machines", to=[[1, 0]])),
    ("history/1", put("machines", to=[[0, 0], [0, 0]])), ("history/1", put("machines", to=[[0, 0], [10**6, 0]])),
    ("segment/0", put("before", to=0)), ("segment/0", put("before", to=3)), ("segment/0", put("start", to=5)),
    ("segment/0", put("more", to=1)), ("segment/0", put("learning_rate", to=-1)), ("segment/0", put("learning", to=1)),
    ("segment/0", put("once", to="never")), ("segment/0", put("action", "kind", to="learning")),
    ("segment/1", put("action", to={"kind": "begin", "args": {}})), ("segment/1", put("action", "args", "value", to=1)),
    ("segment/2", put("start", to=-1)), ("segment/2", put("start", to=10**9)), ("segment/2", put("before", to=2)),
    ("segment/2", put("before", to=None)), ("segment/2", put("before", to=-1)), ("segment/2", put("action", "kind", to="format")),
    ("segment/2", put("action", "args", to={})), ("segment/2", put("action", "args", "name", to=EVIL)),
    ("segment/2", put("action", "args", "name", to="Q")), ("segment/2", put("action", "args", "after", to=["Q"])),
    ("segment/2", put("action", "args", "index", to="01")), ("segment/2", put("action", "args", "value", to=None)),
    ("segment/2", put("action", "args", "index", to=[0])), ("segment/2", put("action", "args", "index", to=[4, 0])),
    ("segment/3", put("action", "args", "value", to="z")), ("segment/3", put("action", "args", "value", to="zzz")),
    ("segment/3", put("action", "args", "value", to=1)), ("segment/3", put("action", "args", "index", to=[10**9])),
    ("history/0", put("length", to=10**9)), ("history/0", put("length", to=0)), ("history/0", put("length", to="1")),
    ("history/0", put("checkpoints", to=0)), ("history/0", put("checkpoints", to=2)), ("history/0", put("checkpoints", to=-1)),
    ("history/0", put("spacing", to=1)), ("history/1", put("length", to=7)), ("history/1", put("checkpoints", to=6)),
    ("done/0", put("source", to="nowhere")), ("done/1", put("target", to="nowhere")), ("done/1", put("tick", to=10**9)),
    ("done/2", put("other", to=None)), ("done/1", put("other", to=[99, 1])), ("done/1", put("other", to=[0, 10**9])),
    ("done/1", put("source", to=EVIL)), ("undone/0", put("other", to=None)), ("undone/0", put("left", to=10**9)),
    ("undone/0", put("source", to="nowhere")),
    ("samples", put(0, "at", to=9)), ("samples", put(0, "primer", to="")), ("samples", put(0, "primer", to=EVIL)),
    ("samples", put(0, "sampler", to="dice")), ("samples", put(0, "temperature", to=-1)), ("samples", put(0, "seed", to=-1)),
    ("samples", put(0, "chars", to="Mat")), ("samples", put(0, "chars", to="Matz")), ("samples", put(0, "chars", to="hhhh")),
    ("samples", put(0, "uniforms", to=[2.0] * 4)), ("samples", put(0, "uniforms", to=["0"] * 4)), ("samples", "7"),
    ("kept", "[]"), ("kept", f'{{"layout": {DEEP}}}'), ("kept", '{"layout": NaN}'),
    ("kept", '{"layout": ' + "[" * MOST_DEPTH + "]" * MOST_DEPTH + "}"),
    ("counts", put("keys", to=[])), ("counts", put("doubtful", to=[["1"]])),
]  # fmt: skip


@pytest.mark.parametrize(("key", "change"), FACTS)
def test_a_fact_that_makes_no_sense_is_refused_before_anything_is_run(path, monkeypatch, key, change):
    altered(path, key, change)
    runs, run = [], Trainer.run
    monkeypatch.setattr(Trainer, "run", lambda *args, **options: (runs.append(1), run(*args, **options)))
    with untouched(path), pytest.raises(SessionFileError, match=r"math\.tui-gru (is damaged at|cannot be opened here:) ") as raised:
        Session.open(path)
    assert str(raised.value).isprintable()
    assert len(runs) <= 1


def with_arrays(path, key, change):
    """Change the first arrays under a key."""

    def first(entries):
        arrays = dict(unpack(entries[0][1]))
        change(arrays)
        entries[0] = entries[0][0], pack(arrays)

    with_entries(path, key, first)


def with_entries(path, key, change):
    """Apply `change` to the list of entries under a key, each (number, bytes)."""
    with closing(session_file.connect(path, "rw")) as connection:
        file = SessionFile(path, connection)
        entries = list(file.arrays(key))
        change(entries)
        file.drop_arrays(key)
        file.put_arrays(key, entries)


def number(name, to):
    def change(arrays):
        arrays[name] = arrays[name].copy()
        arrays[name].flat[0] = to

    return change


def counted_twice(arrays):
    """The first hit, a second time."""
    arrays["counts"] = arrays["counts"].copy()
    arrays["counts"][arrays["batches"][0]] += 1
    arrays["ticks"] = np.insert(arrays["ticks"], 0, arrays["ticks"][0])


ARRAYS = [
    ("columns/0", lambda arrays: arrays.update({"loss": arrays["loss"][:-1]})),
    ("columns/0", lambda arrays: arrays.update({"loss": arrays["loss"].astype(np.float32)})),
    ("columns/0", lambda arrays: arrays.update({"loss": arrays["loss"][None]})),
    ("columns/0", lambda arrays: arrays.pop("loss")), ("columns/1", lambda arrays: arrays.clear()),
    ("columns/1", lambda arrays: arrays.update({name: array[:-1] for name, array in arrays.items()})),
    ("columns/1", lambda arrays: arrays.update({"max_weight": arrays["max_weight"].astype(np.int64)})),
    ("columns/2", lambda arrays: arrays.update({"more": arrays["loss"]})),
    ("columns/2", lambda arrays: arrays.update({"grad_norm": np.float64(1)})),
    ("checkpoints/0", lambda arrays: arrays.update({"row": arrays["row"][:-1]})),
    ("checkpoints/0", lambda arrays: arrays.update({"row": arrays["row"].astype(np.float64)})),
    ("checkpoints/0", lambda arrays: arrays.update({"row": arrays["row"].astype(np.int32)})),
    ("checkpoints/1", lambda arrays: arrays.update({"row": arrays["row"][None]})),
    ("checkpoints/1", lambda arrays: arrays.update({"row": np.float32(1)})),
    ("checkpoints/1", lambda arrays: arrays.update({"row": np.tile(arrays["row"], 10)})),
    ("checkpoints/1", lambda arrays: arrays.pop("row")), ("checkpoints/2", lambda arrays: arrays.update({"text": arrays["row"]})),
    ("sample/0", number("index", 99)), ("sample/0", number("index", -1)), ("sample/0", lambda arrays: arrays.pop("index")),
    ("sample/0", lambda arrays: arrays.update({"index": arrays["index"].astype(np.float64)})),
    ("sample/0", lambda arrays: arrays.pop("y_hat")),
    ("sample/0", lambda arrays: arrays.update({"y_hat": arrays["y_hat"].astype(np.float32)})),
    ("sample/0", lambda arrays: arrays.update({"y_hat": arrays["y_hat"][:, :2]})),
    ("counts", number("counts", -9)), ("counts", number("counts", 10**6)),
    ("counts", lambda arrays: arrays.update({"counts": np.zeros(10**4, np.int32)})),
    ("counts", lambda arrays: arrays.update({"counts": arrays["counts"].astype(np.int64)})),
    ("counts", lambda arrays: arrays.update({"counts": arrays["counts"][None]})), ("counts", lambda arrays: arrays.pop("counts")),
    ("counts", number("batches", -1)), ("counts", number("batches", 10**6)),
    ("counts", lambda arrays: arrays.update({"batches": np.repeat(arrays["batches"], 2), "ticks": np.repeat(arrays["ticks"], 2)})),
    ("counts", lambda arrays: arrays.update({"counts": np.zeros_like(arrays["counts"])})),
    ("counts", lambda arrays: arrays.update({"counts": np.zeros_like(arrays["counts"]), "ticks": arrays["ticks"][:0]})),
    ("counts", lambda arrays: arrays.update({"batches": arrays["batches"].astype(np.int32)})),
    ("counts", lambda arrays: arrays.update({"ticks": arrays["ticks"].astype(np.int32)})),
    ("counts", number("ticks", 0)), ("counts", number("ticks", 10**6)), ("counts", counted_twice),
    ("counts", lambda arrays: arrays.update({"ticks": arrays["ticks"][:-1]})),
    ("counts", lambda arrays: arrays.update({"ticks": arrays["ticks"][::-1]})),
    ("counts", lambda arrays: arrays.update(batches=np.repeat(arrays["batches"], 2), ticks=arrays["ticks"][0] + np.arange(6))),
]  # fmt: skip


@pytest.mark.parametrize(("key", "change"), ARRAYS)
def test_arrays_that_do_not_fit_are_refused(path, key, change):
    with_arrays(path, key, change)
    with untouched(path), pytest.raises(DamagedSessionError):
        Session.open(path)


def moved(i, to):
    """Return a change that gives the arrays at a place another number."""
    return lambda entries: entries.__setitem__(i, (to, entries[i][1]))


ENTRIES = [
    ("columns/1", list.clear), ("columns/1", moved(0, 256)), ("columns/1", moved(0, -1)), ("checkpoints/0", list.clear),
    ("columns/1", lambda entries: entries.append((8, entries[0][1]))), ("checkpoints/0", moved(0, 1)),
    ("checkpoints/1", moved(-1, 10**9)), ("checkpoints/1", moved(0, -1)), ("checkpoints/2", moved(0, 3)),
    ("checkpoints/1", list.pop), ("checkpoints/1", lambda entries: entries.append((8, entries[0][1]))),
    ("sample/0", list.clear), ("sample/0", lambda entries: entries.append((1, entries[0][1]))),
    ("counts", list.clear), ("counts", lambda entries: entries.append((1, entries[0][1]))),
]  # fmt: skip


@pytest.mark.parametrize(("key", "change"), ENTRIES)
def test_arrays_that_stand_elsewhere_or_nowhere_are_refused(path, key, change):
    with_entries(path, key, change)
    with untouched(path), pytest.raises(DamagedSessionError):
        Session.open(path)


@pytest.mark.parametrize(
    "data",
    [
        b'[["a","<f8",[-1]]]\n12345678', b'[["a","<f8",[true]]]\n12345678', b'[[7,"<f8",[1]]]\n12345678',
        b'[["a",["<f8"],[1]]]\n12345678',
        b'[["a","<f8",[1.0]]]\n12345678', b'[["a","O8",[1]]]\n12345678', b'[["a","<c8",[1]]]\n12345678', DEEP.encode() + b"\n",
    ],
)  # fmt: skip
def test_bytes_that_are_no_arrays_are_refused(data):
    with pytest.raises(ValueError):  # noqa: PT011  # some are NumPy's own words
        unpack(data)


def test_steps_that_lead_far_away_are_forgotten(path):
    for stride in (
        {"level": "batch", "net": 10**12, "origin": 0}, {"level": "batch", "net": 0, "origin": 10**12},
        {"level": "", "net": 10**12},
        {"level": "batch", "net": 5, "origin": 1, "at": 10**12}, {"level": "batch", "net": 10**12, "origin": 10**12, "cut": True},
    ):  # fmt: skip
        altered(path, "here", lambda here, stride=stride: {**here, "stride": {**here["stride"], **stride}})
        session = Session.open(path)
        here = session.position.number
        assert session.step("batch", -1).number in (here - 1, here)
        assert session.step("batch", 1).number <= here + 1


def test_a_model_that_this_machine_has_no_room_for_is_not_damage(path, monkeypatch):
    monkeypatch.setattr("tui_gru.engine.config.machine_memory", lambda: 10**3)
    with pytest.raises(SessionFileError, match=r"cannot be opened here: this model would take") as raised:
        Session.open(path)
    assert not isinstance(raised.value, DamagedSessionError)


SOMETHING = [None, True, -1, 0, 3, 10**9, 2**63, 0.5, 1e308, "", "main", "h", "Wz", EVIL, [], {}, [0], {"a": 1}]


def changed_somewhere(value, rng):
    """Return a JSON value that is changed, extended or shortened at a random place."""
    if isinstance(value, (dict, list)) and value and rng.random() < 0.85:
        key = rng.choice(list(value) if isinstance(value, dict) else range(len(value)))
        value = value.copy()
        if rng.random() < 0.1:
            value.pop(key)
        else:
            value[key] = changed_somewhere(value[key], rng)
        return value
    if type(value) is int and rng.random() < 0.5:
        return value + rng.choice([-3, -1, 1, 2, 100])
    return rng.choice(SOMETHING)


@pytest.mark.parametrize("seed", range(3))
def test_a_fact_changed_at_random_is_refused_or_makes_a_session_that_works(tmp_path, seed):
    path, rng = tmp_path / "math.tui-gru", random.Random(seed)
    acted(seed, 30).save(path)
    good = path.read_bytes()
    with closing(sqlite3.connect(path)) as connection:
        keys = [key for (key,) in connection.execute("SELECT key FROM facts ORDER BY key")]
    opened = 0
    for _ in range(40):
        path.write_bytes(good)
        altered(path, rng.choice(keys), lambda fact: changed_somewhere(fact, rng))
        try:
            session = Session.open(path)
        except (SessionFileError, DivergedError):
            continue
        opened += 1
        portrait(session)
        for _ in range(5):
            with suppress(DivergedError):
                act(session, rng)
        session.save(path)
    assert 0 < opened < 20


# Among others


def hostile(path, kind):
    if kind == "view":  # its rows have no end
        with closing(sqlite3.connect(path)) as connection, connection:
            connection.execute("DROP TABLE facts")
            endless = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT 'k', '1', i FROM n"
            connection.execute(f"CREATE VIEW facts (key, json, hash) AS {endless}")
    elif kind == "late":
        os.utime(path, (10**12, 10**12))
    elif kind == "gone":
        path.unlink()
        path.symlink_to(path.with_name("nothing"))
    else:
        key, change = FACTS[int(kind)]
        altered(path, key, change)


@pytest.mark.parametrize("kind", ["view", "late", "gone", *range(0, len(FACTS), 5)])
def test_a_hostile_file_among_others_is_one_line_of_the_list(path, capsys, kind):
    Session().save(session_path("good"))
    evil = session_path("evil")
    evil.write_bytes(path.read_bytes())
    hostile(evil, kind)
    begun = time.monotonic()
    assert main(["sessions"]) == 0
    assert time.monotonic() - begun < 120
    said = capsys.readouterr().out
    assert said.replace("\n", "").isprintable()
    rows = [row for row in said.splitlines() if row.startswith("good ")]
    assert len(rows) == 1
    assert "epoch 1, batch 1, t 1" in rows[0]
    assert all(isinstance(each.name, str) for each in library.all_sessions())


def test_a_change_that_cannot_be_made_again_goes_with_the_branch_that_it_was_made_on():
    """The rest could not be undone, and could not be distinguished from a tampered file."""
    session = Session()
    session.step("batch", 3)
    session.step("batch", -2)
    session.edit("Wz", (0, 0), 1.0)  # main to main~1
    session.switch("main")
    session.edit("Wz", (0, 0), 2.0)  # main to main~2
    session.edit("Wr", (0, 0), 2.0)
    session.undo()
    session.undo()
    session.switch("main~1")
    session.delete_branch("main")
    assert session.redo() is False
    with pytest.raises(TuiGruError):
        session.switch("main~2")
