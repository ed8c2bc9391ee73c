"""Another machine: a process with the kernels of another processor, and the sessions that it records and works on.

Where these kernels cannot be had, as on arm64 or on an old processor, the process computes what this one computes. The file then
gets the name of another machine, and a last digit of each checkpoint is changed.
"""

import atexit
import json
import os
import random
import subprocess
import sys
import traceback
from contextlib import closing
from functools import cache
from pathlib import Path

import numpy as np

import tui_gru
from tests.session.acting import ROOT, pack_record, portrait, timeline_of
from tui_gru import Session
from tui_gru.debugger.history import this_machine
from tui_gru.engine.config import Config
from tui_gru.engine.training import initial_weights
from tui_gru.engine.weights import COUNT_BYTES
from tui_gru.storage import file as session_file
from tui_gru.storage.file import SessionFile, pack, unpack

#: The kernels of an old processor: of OpenBLAS and of NumPy. They are chosen when a process starts.
OLD_KERNELS = {"OPENBLAS_CORETYPE": "Prescott", "NPY_DISABLE_CPU_FEATURES": "X86_V3 X86_V4 AVX512_ICL AVX512_SPR"}
MARS = "NumPy 9.9 on Mars"
TEXT = "the quick brown fox jumps over the lazy dog; " * 12
SMALL = {"text": TEXT, "hidden_size": 16, "batch_size": 2, "seq_length": 8}
SGD = {"optimizer": "sgd", "clip": 0.0}
RELU = "reads x\nstate h : H\nparameters Wh Uh bh\nh = relu(x Wh + h_prev Uh + bh)\n"
#: Options by kind of run. The spacing of the checkpoints is 4 to 64 batches.
KINDS = {
    "tutorial": {"history_memory": 20_000},
    "float64": {"dtype": "float64", "history_memory": 20_000},
    "adam": {"text": TEXT, "hidden_size": 64, "batch_size": 4, "seq_length": 16, "history_memory": 2**22},
    "lstm": {**SMALL, "cell": "lstm", "layers": 2, "history_memory": 2**19},
    "notebook": {"carry": "notebook", "history_memory": 20_000},
    "amplifying": {**SMALL, **SGD, "seq_length": 32, "learning_rate": 0.01, "history_memory": 2**19},
    "exploding": {**SMALL, **SGD, "cell_text": RELU, "learning_rate": 2.0, "seed": 5, "history_memory": 2**19},
}
TAME = {"tutorial": 1e-4, "float64": 1e-12, "adam": 1e-4, "lstm": 1e-4, "notebook": 1e-4}
BATCHES = 100
ONLY_THERE = " (a hit on the machine that recorded it; here it does not hold)"
CONDITION = "h[0, 0] >= {!r}"


def run_of(kind, folder):
    """Return a session with some of everything: batches that learn and that do not, an edit, a branch, stops, marks, a sample."""
    options = dict(KINDS[kind])
    if "cell_text" in options:
        path = Path(folder) / "relu.cell"
        path.write_text(options.pop("cell_text"))
        options["cell"] = str(path)
    memory = options.pop("history_memory")
    config = Config.of(**options)
    weights = initial_weights(config)
    if kind == "amplifying":
        weights = weights.copy()
        for name in ("Uz", "Ur", "Uh"):
            weights[name][...] *= 24
    session = Session.on(config, weights=weights, history_memory=memory)
    session.learning = False
    session.step("batch", 3)
    session.sample(config.vocabulary[:2], 5, seed=1)
    session.learning = True
    session.step("batch", BATCHES)
    state = next(iter(session.program.model.page.states))
    if state == "h":
        # Each threshold is a value that h takes, so that the last digit decides on a hit there.
        for batch in (7, 20, 33, 46, 61):
            session.seek((batch + 1) * session.program.ticks)
            threshold = float(session.value("h")[0, 0])
            if np.isfinite(threshold):
                session.break_at("h", condition=CONDITION.format(threshold), hits="%37")
    session.seek(session.newest)
    session.mark("a", "the end")
    stops_of(session)  # counts all hits
    session.seek(40 * session.program.ticks + 5)
    session.edit(session.parameter_names[0], (0, 0), 0.25)
    session.step("batch", 30)
    session.switch("main")
    return session


def stops_of(session):
    """Return the ticks and messages of all stops on the way back from the newest place."""
    session.seek(session.newest)
    found = []
    while session.reverse_continue():
        found.append((session.position.tick, session.notice.replace(ONLY_THERE, "")))
    session.seek(session.newest)
    return found


def columns_of(session):
    timeline = timeline_of(session)
    return [timeline.column(name, 0, 10**9).tobytes().hex() for name in ("loss", "grad_norm", "max_weight")]


def facts_of(session):
    """Return what must be the same on every machine, as JSON can hold it."""
    found = {}
    for name in session.branches:
        session.switch(name)
        found[name] = columns_of(session), stops_of(session), session.newest.tick
    session.switch("main")
    samples = [sample.text for sample in session.samples]
    return json.loads(json.dumps([found, samples, [(mark.letter, mark.tick, mark.text) for mark in session.marks]]))


def check_places(session, seed=0):
    """Visit places in random order and on different ways: each has one set of numbers, and the recorded loss."""
    random_, seen = random.Random(seed), {}
    for branch in session.branches:
        session.switch(branch)
        timeline, last = timeline_of(session), session.newest.tick
        losses = timeline.column("loss", 0, 10**9)
        places = [timeline.place(random_.randint(1, last)) for _ in range(5)]
        for tick in random_.sample(places * 3, 15):
            if random_.random() < 0.3:
                timeline.memory.records.clear()
            if random_.random() < 0.5 and tick + session.program.ticks < last:
                session.seek(tick + session.program.ticks)
                session.step("op", -1)
            session.seek(tick)
            record = session.snapshot().record
            assert seen.setdefault((branch, tick), pack_record(record)) == pack_record(record), (branch, tick)
            loss = session.loss
            assert loss is None or np.array_equal(loss, losses[session.position.number], equal_nan=True)
    session.switch("main")


def check_boundaries(session):
    """From one batch to the next, no weight changes."""
    for batch in range(5, 60, 2):
        session.seek(batch * session.program.ticks)
        before = [session.parameter(name).copy() for name in session.parameter_names]
        session.step("op")
        assert all(map(np.array_equal, before, map(session.parameter, session.parameter_names), [True] * len(before))), batch


def check_searches(session):
    """A search finds the same places forwards and backwards, and those that the recorded losses say."""
    losses = timeline_of(session).column("loss", 0, 10**9)
    finite = losses[np.isfinite(losses)]
    low = float(np.sort(finite)[len(finite) // 10])
    ahead, newest = [], session.newest
    session.epochs = newest.epoch + 1  # so that a search for what never comes ends
    session.seek(0)
    while session.run_until(f"loss <= {low!r} and t >= 0"):
        ahead.append(session.position.number)
    session.epochs = None
    session.seek(newest)
    back = []
    while session.run_back_until(f"loss <= {low!r}"):
        back.append(session.position.number)
    wanted = np.flatnonzero(losses <= low).tolist()
    assert sorted(set(back)) == wanted
    assert [batch for batch in dict.fromkeys(ahead) if batch < len(losses)] == wanted


def check_answers(session):
    """Derivations add up, and a what-if of the number that is there changes nothing."""
    session.seek(30 * session.program.ticks)
    name = session.parameter_names[0]
    number = float(session.value(name)[0, 0])
    assert np.isfinite(number)
    for root in (session.explain("loss"), session.explain(name, (0, 0)), session.explain("grad_norm")):
        assert root.terms or root.derivation.kind == "given"
    here = timeline_of(session).moment(session.position.tick).record.before[name][0, 0]
    assert session.what_if(name, (0, 0), float(here)).differences == ()


def worked_on(session, path):
    """Train on, change the past, save, and return the session opened again, which must be as it was."""
    session.seek(session.newest)
    session.step("batch", 12)
    session.seek(50 * session.program.ticks + 3)
    session.edit(session.parameter_names[0], (0, 1), -0.5)
    session.step("batch", 9)
    session.undo()
    session.redo()
    session.switch("main")
    session.save(path)
    again = Session.open(path)
    mine, theirs = portrait(session), portrait(again)
    for key in mine.keys() - {"values", "record"}:
        assert repr(mine[key]) == repr(theirs[key]), key  # a loss may be NaN
    return again


# Files


def renamed(path, names):
    """Give machines in a session file other names."""
    with closing(session_file.connect(path, "rw")) as connection:
        file = SessionFile(path, connection)
        run = json.loads(file.fact("run"))
        run["machine"] = names.get(run["machine"], run["machine"])
        if "machines" in run:
            run["machines"] = [[names.get(name, name), first] for name, first in run["machines"]]
        file.put_fact("run", json.dumps(run))


def perturbed(path):
    """Change the last digit of one number in each checkpoint, as another machine might compute it, and half of the losses."""
    with closing(session_file.connect(path, "rw")) as connection:
        file = SessionFile(path, connection)
        keys = [key for (key,) in connection.execute("SELECT DISTINCT key FROM arrays WHERE key LIKE 'checkpoints/%'").fetchall()]
        for key in keys:
            changed = []
            for batch, data in file.arrays(key):
                row = unpack(data)["row"].copy()
                if batch:
                    numbers = row[COUNT_BYTES // row.itemsize :]
                    numbers[batch % 8] = np.nextafter(numbers[batch % 8], np.asarray(np.inf, row.dtype))
                changed.append((batch, pack({"row": row})))
            file.put_arrays(key, changed)


def machines_in(path):
    with session_file.open_for_reading(Path(path)) as file:
        run = json.loads(file.fact("run"))
    return [name for name, _ in run.get("machines", [[run["machine"], ""]])]


# In the other process


@cache
def another_machine():
    """Return a process on another machine that calls a function of this module for each line it gets; it ends with this one."""
    command, kernels = [sys.executable, "-m", "tests.storage.machines"], {**os.environ, **OLD_KERNELS}
    process = subprocess.Popen(command, cwd=ROOT, env=kernels, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def end():
        process.stdin.close()
        process.wait()
        process.stdout.close()

    atexit.register(end)
    return process


def elsewhere(verb, *arguments):
    """Call a function of this module on another machine. Returns its result."""
    process = another_machine()
    process.stdin.write(json.dumps([verb, *map(str, arguments)]) + "\n")
    process.stdin.flush()
    answer = json.loads(process.stdout.readline())
    assert "problem" not in answer, answer["problem"]
    return answer["result"]


def serve():
    """Call the functions that standard input names, and print the result of each, or the traceback of its error."""
    answers, sys.stdout = sys.stdout, sys.stderr
    for line in sys.stdin:
        verb, *arguments = json.loads(line)
        try:
            answer = {"result": globals()[verb](*arguments)}
        except Exception:
            answer = {"problem": traceback.format_exc()}
        print(json.dumps(answer), file=answers, flush=True)


def machine():
    """Return the name of the machine."""
    return this_machine()


def record_all(folder):
    """Record a session of each kind. Returns the facts of each."""
    found = {}
    for kind in KINDS:
        session = run_of(kind, folder)
        found[kind] = facts_of(session)
        session.save(Path(folder) / f"{kind}.tui-gru")
    return found


def work_on_all(folder):
    """Open each session in the folder, check it, train on and save. Returns what was found of each."""
    found = {}
    for kind in KINDS:
        path = Path(folder) / f"{kind}.tui-gru"
        session = Session.open(path)
        notice, facts = session.notice, facts_of(session)
        check_places(session)
        again = worked_on(session, path)
        found[kind] = {"notice": notice, "facts": facts, "difference": session.machine_difference, "more": facts_of(again)}
    return found


def record_a_module(folder):
    """Record a module of PyTorch, save a session on the recording with an edit, and one on the weights of a file."""
    import torch

    from tests.capture.runs import IN, H, trained

    run = Path(folder) / "run.gru"
    model = torch.nn.GRU(IN, H)
    trained(run, steps=12, every=3, last=0, model=model)
    session = Session.open(run)
    session.edit("Wz", (0, 0), 0.5)
    session.step("timestep", 2)
    session.save(Path(folder) / "run.tui-gru")
    found = {"machine": this_machine(), "tick": session.position.tick, "losses": np.asarray(session.snapshot().losses).tolist()}
    torch.save(model.state_dict(), Path(folder) / "model.pt")
    loaded = tui_gru.load(Path(folder) / "model.pt", inputs=np.ones((4, 2, IN), np.float32))
    loaded.edit("Wz", (0, 0), 0.25)
    loaded.step("timestep", 3)
    loaded.save(Path(folder) / "model.tui-gru")
    return {**found, "h": loaded.value("h").tolist()}


if __name__ == "__main__":
    serve()
