"""Whatever happens in a trial, the script goes on as if nothing had been tried, and nothing of the trial is left outside."""

import gc
import itertools
import os
import random
import signal
import socket
import subprocess
import sys
import textwrap
import threading
import time
import weakref

import numpy as np
import pytest
import torch

import tui_gru
from tests.rewind.loops import LOOPS, Net, batches
from tests.rewind.test_rewind import is_same, outcome
from tui_gru.errors import TuiGruError
from tui_gru.rewind import run as runs
from tui_gru.rewind.losses import _watches
from tui_gru.rewind.states import Generators


def counted_calls(action):
    """Return the number of calls of functions of Python while an action runs."""
    counts = itertools.count()
    sys.setprofile(lambda frame, event, argument: event == "call" and next(counts) < 0)
    try:
        action()
    finally:
        sys.setprofile(None)
    return next(counts)


def interrupted_at(number, action):
    """Run an action, with ctrl+c at the call of this number. Returns True if it was interrupted."""
    counts = itertools.count()

    def press(frame, event, argument):
        if event == "call" and next(counts) == number:
            signal.raise_signal(signal.SIGINT)

    sys.setprofile(press)
    try:
        action()
    except KeyboardInterrupt:
        return True
    finally:
        sys.setprofile(None)
    return False


@pytest.mark.skipif(threading.current_thread() is not threading.main_thread(), reason="signals are of the main thread")
def test_ctrl_c_at_any_call_of_a_trial_leaves_the_script_as_it_was():
    loop = LOOPS["carried_state_and_dropout"]
    draw, interrupted = random.Random(3), []

    def attempt(run):
        calls = counted_calls(lambda: run.again(lr=0.3))
        for number in sorted(draw.sample(range(calls), 50)):
            interrupted.append(interrupted_at(number, lambda: run.again(lr=0.3)))
            assert len(_watches) == 1  # that of the loop itself
            assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
        assert run.again().is_equal

    def use(run):
        # Without the handler that pauses, so that ctrl+c ends what runs at once.
        handler = signal.signal(signal.SIGINT, signal.default_int_handler)
        try:
            attempt(run)
        finally:
            signal.signal(signal.SIGINT, handler)

    plain = outcome(loop, lambda loader, *stateful: loader)
    tried = outcome(loop, lambda loader, *stateful: tui_gru.steps(loader, *stateful, pause=9, keep=3, screen=use))
    assert is_same(plain, tried)
    assert True in interrupted


@pytest.mark.skipif(threading.current_thread() is not threading.main_thread(), reason="signals are of the main thread")
def test_ctrl_c_while_a_trial_is_adopted_is_all_of_it_or_nothing():
    def weights_after(number):
        torch.manual_seed(0)
        seen = []

        def adopt(run):
            handler = signal.signal(signal.SIGINT, signal.default_int_handler)
            try:
                trial = run.again(since=7, lr=0.3)
                seen.append(
                    counted_calls(lambda: run.adopt(trial)) if number is None else interrupted_at(number, lambda: run.adopt(trial))
                )
            finally:
                signal.signal(signal.SIGINT, handler)

        model = Net()
        optimizer = torch.optim.Adam(model.parameters(), 1e-2)
        losses = []
        for x, y in tui_gru.steps(batches(9), model, optimizer, pause=9, keep=4, screen=adopt):
            optimizer.zero_grad()
            loss = (model(x)[0] - y).pow(2).mean()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
        return losses, model.state_dict(), seen[0]

    adopted, changed, calls = weights_after(None)
    torch.manual_seed(0)
    own, unchanged, _ = weights_after(0)  # interrupted before anything was computed
    for number in random.Random(5).sample(range(calls), 12):
        losses, weights, _ = weights_after(number)
        assert losses in (adopted, own), number
        expected = changed if losses == adopted else unchanged
        assert all(torch.equal(weights[name], expected[name]) for name in weights), number


WRITES = {
    "open": "open(path, 'w').write('x')",
    "append": "open(path, 'a').write('x')",
    "torch.save": "torch.save(model.state_dict(), path)",
    "np.save": "np.save(path, np.zeros(2))",
    "to file": "np.zeros(2).tofile(path)",
    "replace": "os.replace(other, path)",
    "remove": "os.remove(other)",
    "makedirs": "os.makedirs(path)",
    "subprocess": "subprocess.run(['touch', path])",
    "system": "os.system(f'touch {path}')",
    "fork": "os.fork()",
    "thread": "threading.Thread(target=open, args=(path, 'w')).start()",
    "socket": "socket.create_connection(('127.0.0.1', 9))",
    "environment": "os.environ.update(TUI_GRU_WRITTEN='x')",
    "symlink": "os.symlink(other, path)",
}


@pytest.mark.parametrize("name", WRITES)
@pytest.mark.parametrize("form", ["{}", "value = {}", "try:\n        {}\n    except BaseException: pass"])
def test_what_would_leave_a_trial_does_not_happen(name, form, tmp_path):
    path, other = tmp_path / "written", tmp_path / "other"
    other.write_text("there before", encoding="utf-8")
    source = (
        f"for x, y in wrap(batches(), model, optimizer):\n    if step(x, y) == at:\n        {form.format(WRITES[name])}\n".replace(
            "\n    except", "\n        except"
        ).replace("        try:\n        ", "        try:\n            ")
    )
    script = tmp_path / "train.py"
    script.write_text(source, encoding="utf-8")
    torch.manual_seed(0)
    model = Net()
    optimizer = torch.optim.Adam(model.parameters(), 1e-2)
    counted = [0]

    def step(x, y):
        counted[0] += 1
        optimizer.zero_grad()
        (model(x)[0] - y).pow(2).mean().backward()
        optimizer.step()
        return counted[0]

    trials = []

    def attempt(run):
        # Only the trial gets there: what a script does itself is its own.
        trials.append(run.again(edit=lambda names: names.update(at=5)))

    names = {
        "wrap": lambda loader, *stateful: tui_gru.steps(loader, *stateful, pause=6, screen=attempt),
        "batches": batches, "model": model, "optimizer": optimizer, "step": step, "at": 99, "path": str(path), "other": str(other),
        "torch": torch, "np": np, "os": os, "subprocess": subprocess, "socket": socket, "threading": threading, "__name__": "train",
    }  # fmt: skip
    processes = threading.active_count()
    exec(compile(source, str(script), "exec"), names)
    (trial,) = trials
    assert not path.exists()
    assert other.read_text(encoding="utf-8") == "there before"
    assert "TUI_GRU_WRITTEN" not in os.environ
    assert threading.active_count() == processes
    assert counted == [14]
    if form == "{}":
        assert len(trial.left_out) == 1, trial
        assert trial.left_out[0].startswith("line 3, ")
    else:
        assert "which nothing could put back" in trial.why


def test_a_file_that_was_written_since_is_not_read_in_its_place(tmp_path):
    path, trials = tmp_path / "count.txt", []
    path.write_text("", encoding="utf-8")
    model = Net()
    optimizer = torch.optim.SGD(model.parameters(), 1e-2)
    attempts = lambda run: trials.append(run.again())  # noqa: E731
    for x, y in tui_gru.steps(batches(), model, optimizer, pause=6, screen=attempts):
        factor = 1 + len(path.read_text(encoding="utf-8"))
        optimizer.zero_grad()
        ((model(x)[0] - y).pow(2).mean() * factor).backward()
        optimizer.step()
        path.write_text("x" * factor, encoding="utf-8")
    assert "count.txt, which has other contents by now; read it before the loop" in trials[0].why
    assert path.read_text(encoding="utf-8") == "x" * 14
    old = tmp_path / "old.txt"
    old.write_text("3", encoding="utf-8")
    os.utime(old, (1, 1))
    for x, y in tui_gru.steps(batches(), model, optimizer, pause=6, screen=attempts):
        optimizer.zero_grad()
        ((model(x)[0] - y).pow(2).mean() * int(old.read_text(encoding="utf-8"))).backward()
        optimizer.step()
    assert trials[1].is_equal


PLACES = {
    "decorated": """
        def decorate(f):
            return lambda: f()
        @decorate
        def main():
            total = 0.0
            LOOP
        main()
    """,
    "nested": """
        def outer():
            total = 0.0
            def inner():
                nonlocal total
                LOOP
            inner()
        outer()
    """,
    "class-private": """
        class Trainer:
            __total = 0.0
            def run(self):
                total = self.__total
                LOOP
        Trainer().run()
    """,
    "async": """
        import asyncio
        async def main():
            total = 0.0
            LOOP
        asyncio.run(main())
    """,
    "generator": """
        def main():
            total = 0.0
            LOOP
            yield total
        list(main())
    """,
}


@pytest.mark.parametrize("place", PLACES)
def test_a_loop_is_rewound_wherever_it_stands(place, tmp_path):
    body = """
        for x, y in wrap(batches(), model, optimizer):
            optimizer.zero_grad()
            scale = (lambda v: v * (1 + total))(0.5)
            loss = (model(x)[0] - y).pow(2).mean() * scale
            loss.backward()
            optimizer.step()
            total += loss.item()
    """
    text = textwrap.dedent(PLACES[place])
    indent = next(line for line in text.splitlines() if line.strip() == "LOOP").replace("LOOP", "")
    source = text.replace(indent + "LOOP", textwrap.indent(textwrap.dedent(body).strip("\n"), indent))
    script, trials = tmp_path / "train.py", []
    script.write_text(source, encoding="utf-8")

    def trained(wrap):
        torch.manual_seed(0)
        model = Net()
        names = {"wrap": wrap, "batches": batches, "model": model, "optimizer": torch.optim.Adam(model.parameters(), 1e-2)}
        exec(compile(source, str(script), "exec"), names)
        return list(model.state_dict().values())

    def attempt(run):
        trials.extend([run.again(), run.again(lr=0.3)])

    plain = trained(lambda loader, *stateful: loader)
    tried = trained(lambda loader, *stateful: tui_gru.steps(loader, *stateful, pause=9, screen=attempt))
    assert trials[0].is_equal, trials[0]
    assert not trials[1].is_equal
    assert all(torch.equal(a, b) for a, b in zip(plain, tried, strict=True))


@pytest.mark.parametrize(
    ("new", "why"),
    [
        ("for x, y in wrap(batches()):\n    count += 2\n    model(x)\n", "was changed since it was started; start it again"),
        ("for x, y in wrap(batches()\n", "was changed since it was started, and cannot be read now"),
        ("", "cannot be read; give body="),
    ],
)
def test_a_file_that_was_edited_since_it_was_started_is_refused(new, why, tmp_path):
    script, said = tmp_path / "train.py", []
    source = "for x, y in wrap(batches()):\n    count += 1\n    model(x)\n"
    code = compile(source, str(script), "exec")
    script.write_text(new, encoding="utf-8")

    def ask(run):
        try:
            run.again()
        except TuiGruError as error:
            said.append(str(error))

    names = {"wrap": lambda loader: tui_gru.steps(loader, pause=3, screen=ask), "batches": batches, "model": Net(), "count": 0}
    exec(code, names)
    assert why in said[0]
    assert names["count"] == 14


def test_the_memory_of_a_thousand_steps_is_that_of_the_kept_ones():
    model = torch.nn.Linear(200, 50)  # copies of 40 KB, and of 80 KB with the optimizer's
    optimizer = torch.optim.Adam(model.parameters(), 1e-3)
    run = tui_gru.steps((torch.randn(2, 200) for _ in range(1000)), model, optimizer, keep=32, screen=False)
    most_states, most_steps, most_bytes = 0, 0, 0
    for x in run:
        optimizer.zero_grad()
        model(x).square().mean().backward()
        optimizer.step()
        loop = run._loop  # noqa: SLF001
        most_states, most_steps = max(most_states, len(loop.states)), max(most_steps, len(loop.steps))
        buffers = [each for free in loop._memory.buffers._free.values() for each in free]  # noqa: SLF001
        kept = [entry.copy for state in loop.states.values() for entry in state.tensors.values() if entry.copy is not None]
        most_bytes = max(most_bytes, sum(each.nbytes for each in {id(each): each for each in (*buffers, *kept)}.values()))
    state = 3 * sum(parameter.nbytes for parameter in model.parameters())
    assert most_states <= 6
    assert most_steps <= 32 + 32  # up to the state before them, since states are the further apart the quicker a step is
    assert most_bytes <= 8 * state + 100_000


def test_a_loop_that_others_have_followed_is_freed():
    models = []

    def train():
        model = Net()
        models.append(weakref.ref(model))
        optimizer = torch.optim.SGD(model.parameters(), 0.1)
        for x, y in tui_gru.steps(batches(4), model, optimizer, screen=False):
            optimizer.zero_grad()
            (model(x)[0] - y).pow(2).mean().backward()
            optimizer.step()

    for _ in range(4):
        train()
    gc.collect()
    assert [model() is None for model in models[:2]] == [True, True]
    assert len(runs.last_loops) <= 2


def test_a_script_without_functions_goes_on_from_a_trial_as_if_it_had_been_written_so(tmp_path):
    source = textwrap.dedent("""
        import torch
        from tests.rewind.loops import Net, batches
        torch.manual_seed(0)
        model, total, seen = Net(), 0.0, []
        optimizer = torch.optim.Adam(model.parameters(), 1e-2)
        for i, (x, y) in wrap(enumerate(batches()), model, optimizer):
            CHANGE
            optimizer.zero_grad()
            loss = (model(x)[0] - y).pow(2).mean() * (1 + total)
            loss.backward()
            optimizer.step()
            total += loss.item()
            seen.append(total)
    """)

    def trained(name, change, wrap):
        script = tmp_path / name
        script.write_text(source.replace("CHANGE", change), encoding="utf-8")
        names = {"wrap": wrap, "__name__": "train"}
        exec(compile(source.replace("CHANGE", change), str(script), "exec"), names)
        return names["seen"], names["total"], list(names["model"].state_dict().values())

    other = trained("other.py", "if i == 6: optimizer.param_groups[0]['lr'] = 0.3", lambda loader, *stateful: loader)
    adopted = trained(
        "own.py",
        "pass",
        lambda loader, *stateful: tui_gru.steps(
            loader, *stateful, pause=14, screen=lambda run: run.adopt(run.again(since=7, lr=0.3))
        ),
    )
    assert adopted[:2] == other[:2]
    assert all(torch.equal(a, b) for a, b in zip(adopted[2], other[2], strict=True))


def test_a_number_that_waits_in_the_generator_of_numpy_is_kept():
    np.random.seed(3)
    states, before = [], None
    for _ in range(5):
        before = Generators.now((), before)
        states.append(before)
        np.random.randn()  # draws two at a time, and keeps the second one beside the memory of the generator
    drawn = []
    for state in states:
        state.put()
        drawn.append(np.random.randn())
    np.random.seed(3)
    assert drawn == [np.random.randn() for _ in range(5)]


def test_no_trial_is_shown_where_the_steps_are_not_those_of_the_run():
    model, said = Net(), []
    optimizer = torch.optim.SGD(model.parameters(), 1e-2)

    def attempt(run):
        for change in ({"lr": 0.3}, {}):
            with pytest.raises(TuiGruError, match=r"the loss of step 3 is .* and was .*; line \d+ reads the clock") as refusal:
                run.again(since=3, **change)
            said.append(str(refusal.value))
        assert run.trials == ()

    for x, y in tui_gru.steps(batches(), model, optimizer, pause=6, screen=attempt):
        optimizer.zero_grad()
        ((model(x)[0] - y).pow(2).mean() * (1 + time.perf_counter_ns() % 1_000_003)).backward()
        optimizer.step()
    assert len(said) == 2
    assert "from here on the script may differ from an untouched run" in said[0]
