"""Where a loop pauses, what is refused and left out, the end of the script, and a trial that the script goes on from."""

import csv
import gzip
import hashlib
import queue
import signal
import subprocess
import sys
import weakref
from pathlib import Path

import pytest
import torch

import tui_gru
from tests.rewind.loops import LOOPS, Net, batches
from tui_gru.errors import TuiGruError

ROOT = Path(__file__).parents[2]


def train(wrap, before=lambda i: None, middle=lambda i: None, rate=1e-2):
    """Train a plain loop; `before` and `middle` are called in each step."""
    torch.manual_seed(0)
    model = Net()
    optimizer = torch.optim.Adam(model.parameters(), rate)
    losses = []
    for i, (x, y) in wrap(enumerate(batches()), model, optimizer):
        before(i)
        optimizer.zero_grad()
        loss = (model(x)[0] - y).pow(2).mean()
        middle(i)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses, [value.clone() for value in model.state_dict().values()]


@pytest.mark.parametrize(
    ("pause", "places"), [(3, [3]), ([2, 5], [2, 5]), ("step > 11", [12]), ("loss > 1e9", []), ("nan", [])], ids=str
)
def test_a_loop_pauses_after_steps_and_at_conditions(pause, places):
    seen = []
    train(lambda loader, *stateful: tui_gru.steps(loader, *stateful, pause=pause, screen=lambda run: seen.append(run.step)))
    assert seen == places


def test_the_environment_and_ctrl_c_pause(monkeypatch):
    seen = []
    monkeypatch.setenv("TUI_GRU_PAUSE", "4, 6")
    train(lambda loader, *stateful: tui_gru.steps(loader, *stateful, screen=lambda run: seen.append(run.step)))
    monkeypatch.delenv("TUI_GRU_PAUSE")

    def press(i):
        if i == 7:
            signal.raise_signal(signal.SIGINT)

    train(lambda loader, *stateful: tui_gru.steps(loader, *stateful, screen=lambda run: seen.append(run.step)), press)
    assert seen == [4, 6, 8]
    with pytest.raises(KeyboardInterrupt):
        train(lambda loader, *stateful: tui_gru.steps(loader, *stateful, screen=lambda run: None), press, lambda i: press(i))
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_the_functions_of_torch_are_as_they_were_after_a_break_and_an_error():
    backward = torch.autograd.backward

    def fail(i):
        assert torch.autograd.backward is not backward
        if i == 3:
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        train(lambda loader, *stateful: tui_gru.steps(loader, *stateful, screen=False), fail)
    assert torch.autograd.backward is backward


def refusal(wrap_and_use):
    said = []

    def ask(run):
        try:
            run.again()
        except TuiGruError as error:
            said.append(str(error))

    wrap_and_use(lambda loader, *stateful, **more: tui_gru.steps(loader, *stateful, pause=3, screen=ask, **more))
    return said[0] if said else ""


class Owner:
    pass


def test_what_cannot_be_put_back_is_refused_by_its_name_before_anything_runs(tmp_path):
    def with_iterator(wrap):
        it = iter(range(100))
        train(wrap, lambda i: next(it))

    assert "the body uses the iterator it, which cannot be put back: write it = tui_gru.kept(it)" in refusal(with_iterator)

    def with_hash(wrap):
        env = hashlib.md5()
        train(wrap, lambda i: env.update(b"x"))

    assert "a _hashlib.HASH, whose state cannot be kept" in refusal(with_hash)

    def with_queue(wrap):
        waiting = queue.Queue()
        train(wrap, lambda i: waiting.put(i))

    assert "waiting, a queue.Queue, which other threads may change; use a collections.deque" in refusal(with_queue)

    def with_weak_reference(wrap):
        model = Net()
        model.owner = Owner()
        reference = weakref.ref(model.owner)
        train(wrap, lambda i: setattr(reference(), "count", i))

    assert "Owner only by a weak reference, reference, so its state cannot be kept" in refusal(with_weak_reference)

    def with_packed_file(wrap):
        with gzip.open(tmp_path / "log.gz", "wt") as packed:
            train(wrap, lambda i: packed.write("x"))

    assert "the body writes into packed, a _io.TextIOWrapper that packs what is written" in refusal(with_packed_file)

    def with_kept(wrap):
        it = tui_gru.kept(range(100))
        train(wrap, lambda i: next(it))

    assert refusal(with_kept) == ""
    names = {"steps": tui_gru.steps, "batches": batches}
    said = []

    def ask(run):
        try:
            run.again()
        except TuiGruError as error:
            said.append(str(error))

    exec("for x, y in steps(batches(), pause=2, screen=ask): pass", {**names, "ask": ask})
    assert "cannot be read; give body=" in said[0]


def test_nothing_leaves_a_trial(tmp_path):
    path, left_out = tmp_path / "written.txt", []

    def write(i):
        path.write_text(str(i))

    def attempt(run):
        path.unlink()
        left_out.extend(run.again().left_out)
        left_out.append(path.exists())

    train(lambda loader, *stateful: tui_gru.steps(loader, *stateful, pause=5, screen=attempt), write)
    assert left_out[1:] == [False]
    assert "writes" in left_out[0]
    assert path.read_text() == "13"  # the script goes on writing

    rows = tmp_path / "rows.csv"
    with open(rows, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        train(
            lambda loader, *stateful: tui_gru.steps(loader, *stateful, pause=5, screen=lambda run: run.again()),
            lambda i: writer.writerow([i]),
        )
    assert rows.read_text(encoding="utf-8").split() == [str(i) for i in range(14)]

    def start(i):
        return subprocess.run([sys.executable, "-c", ""], check=True).returncode

    seen = []
    train(lambda loader, *stateful: tui_gru.steps(loader, *stateful, pause=2, screen=lambda run: seen.append(run.again())), start)
    assert "starts the process" in (seen[0].why or seen[0].left_out[0])


def test_a_trial_that_is_interrupted_or_damages_what_it_reaches_leaves_the_script_as_it_was():
    plain = train(lambda loader, *stateful: loader)
    interrupted = []

    def interrupt(at):
        def report(number):
            if number == at:
                raise KeyboardInterrupt

        return report

    def damage(names):
        model, optimizer = names["model"], names["optimizer"]
        model.rnn.weight_hh_l0.data = torch.zeros(2, 2)
        model.head.requires_grad_(False)
        model.head.weight.grad = None
        del model.rnn, optimizer.param_groups[0]["betas"]
        optimizer.state.clear()
        names["losses"][:] = []

    def attempt(run):
        for at in range(run.step - 3, run.step + 1):
            try:
                run.again(lr=0.3, progress=interrupt(at))
            except KeyboardInterrupt:
                interrupted.append(at)
        assert run.again(edit=damage).why
        assert run.again().is_equal

    tried = train(lambda loader, *stateful: tui_gru.steps(loader, *stateful, pause=9, screen=attempt))
    assert interrupted == [6, 7, 8, 9]
    assert tried[0] == plain[0]
    assert all(torch.equal(a, b) for a, b in zip(tried[1], plain[1], strict=True))


def test_batches_and_states_that_are_no_longer_kept_are_freed():
    model = torch.nn.Linear(3, 1)
    alive, counts = weakref.WeakSet(), []

    class Batch:
        def __init__(self):
            self.x = torch.randn(2, 3)

    def stream():
        for _ in range(60):
            batch = Batch()
            alive.add(batch.x)
            yield batch

    run = tui_gru.steps(stream(), model, keep=8, screen=False)
    for batch in run:
        model.zero_grad()
        model(batch.x).sum().backward()
        counts.append(len(alive))
    assert max(counts[20:]) <= 8 + 8 + 2  # those of the kept steps, up to a state before them, and of this step
    assert len(run.again().losses) == 8


def test_a_notebook_shows_both_curves_of_a_trial_and_why_it_ended():
    shown = []

    def attempt(run):
        shown.extend(run.again(**change)._repr_html_() for change in ({}, {"lr": 0.3}, {"edit": lambda names: 1 / 0}))

    train(lambda loader, *stateful: tui_gru.steps(loader, *stateful, pause=6, screen=attempt))
    unchanged, faster, failed = shown
    assert "all losses and weights are equal bit for bit" in unchanged
    assert all(f">{name} " in faster for name in ("as it was", "lr=0.3"))  # what the lines end with
    assert "ZeroDivisionError in step 1: division by zero" in failed


def test_a_changed_line_replaces_all_statements_of_the_line():
    def several(wrap):
        torch.manual_seed(0)
        model = Net()
        optimizer = torch.optim.SGD(model.parameters(), 0.1)
        for x, y in wrap(batches(), model, optimizer):
            optimizer.zero_grad(); loss = (model(x)[0] - y).pow(2).mean(); loss.backward(); optimizer.step()  # fmt: skip # noqa: E702

    trials = []
    line = several.__code__.co_firstlineno + 5
    text = "optimizer.zero_grad(); loss = 2 * (model(x)[0] - y).pow(2).mean(); loss.backward()"
    several(
        lambda loader, *stateful: tui_gru.steps(
            loader, *stateful, pause=4, screen=lambda run: trials.append(run.again(since=4, lines={line: text}))
        )
    )
    assert trials[0].why == ""
    assert trials[0].losses == (2 * trials[0].own[0],)


def test_a_script_goes_on_from_a_trial_as_if_it_had_been_written_so():
    def changed(loader, model, optimizer):
        for i, batch in loader:
            if i == 6:
                optimizer.param_groups[0]["lr"] = 0.3
            yield i, batch

    other = train(changed)

    def adopt(run):
        run.adopt(run.again(since=7, lr=0.3))

    torch.manual_seed(0)
    losses, weights = train(lambda loader, *stateful: tui_gru.steps(loader, *stateful, pause=14, screen=adopt))
    assert losses == other[0]
    assert all(torch.equal(a, b) for a, b in zip(weights, other[1], strict=True))


def test_arguments_are_checked_before_anything_runs():
    runs = []

    def wrap(loader, *stateful):
        runs.append(tui_gru.steps(loader, *stateful, screen=False))
        return runs[0]

    LOOPS["plain"](wrap)
    (run,) = runs
    for arguments, reason in [
        ({"since": 99}, "step 99 is not kept; the steps 1 to 14 are"),
        ({"lr": -1}, "lr must be a number, 0 or more"),
        ({"clip": 0}, "clip must be a number above 0"),
        ({"lr": 1, "rate": 2}, "lr and rate are both given"),
        ({"lines": {1: "x = 1"}}, "line 1: no statement of the body begins there"),
        ({"edit": 3}, "edit must be a function"),
    ]:
        with pytest.raises(TuiGruError, match=reason):
            run.again(**arguments)
    for arguments, reason in [
        ({"pause": 0}, "pause must be"),
        ({"pause": "los > 1"}, "did you mean loss"),
        ({"keep": 0}, "keep must"),
    ]:
        with pytest.raises(TuiGruError, match=reason):
            tui_gru.steps([], **arguments)


DYING = """
import sys, torch, tui_gru
from torch import nn
torch.manual_seed(0)
model = nn.ModuleDict({"gru": nn.GRU(3, 4), "head": nn.Linear(4, 1)})
optimizer = torch.optim.Adam(model.parameters(), 1e-2)
for step in tui_gru.steps(range(16), model, optimizer, record="run.gru", every=10, keep=4, screen=False):
    x = torch.randn(5, 2, 3)
    optimizer.zero_grad()
    loss = model["head"](model["gru"](x)[0]).pow(2).mean()
    if step == 13 and sys.argv[1] == "error":
        raise RuntimeError("no more")
    if step == 13:
        loss = loss * float("nan")
    loss.backward()
    optimizer.step()
"""


@pytest.mark.parametrize("how", ["error", "nan"])
def test_the_last_steps_are_recorded_when_the_script_ends(how, tmp_path):
    (tmp_path / "train.py").write_text(DYING, encoding="utf-8")
    subprocess.run([sys.executable, "train.py", how], cwd=tmp_path, env=None, capture_output=True, timeout=120, check=False)
    session = tui_gru.Session.open(tmp_path / "run.gru")
    assert set(session.steps) >= {10, 11, 12, 13, 14}
    assert min(session.steps) == 10
    session.seek(session.end)
    titles = " ".join(finding.title for finding in session.findings())
    assert ("RuntimeError: no more, train.py:12" if how == "error" else "NaN") in titles


def test_a_body_that_asks_for_its_step_is_computed_again():
    torch.manual_seed(0)
    model = torch.nn.Linear(3, 1)
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    run = tui_gru.steps([torch.randn(4, 3) for _ in range(6)], model, optimizer, keep=4, screen=False)
    for x in run:
        optimizer.zero_grad()
        loss = (1 + run.step) * model(x).square().mean()
        loss.backward()
        optimizer.step()
    trial = run.again()
    assert trial.losses == trial.own
    assert run.step == 6
