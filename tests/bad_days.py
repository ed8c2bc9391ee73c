"""Bad days: runs of the program and recordings of scripts that explode, turn NaN, are stopped, or are changed into nonsense; and
healthy ones beside them.

A row of `RUNS` or a `Training` is a bad day. What is true about it comes from the row, and from numbers that were noted while it
was made: `Facts`. Nothing in them is a sentence or a finding of the program.

As a program, this module trains: it reads a `Training` for each line of standard input, and answers with the status of the process.
"""

from __future__ import annotations

import json
import math
import os
import signal
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import product
from pathlib import Path
from subprocess import PIPE, Popen
from typing import Any

import numpy as np
import pytest

from tui_gru import Session

ROOT = Path(__file__).parents[1]

# ------------------------------------------------------------------------------
# Facts about a day, and its name.


@dataclass(frozen=True)
class Facts:
    """What is true about a run.

    `losses` are those of its steps: None for one that ended before its loss was handed over. `bad_step` is the first
    step with a number that is not finite, and `bad_part` the first that is not: a line of the program, or weights, input, output,
    loss or gradient of a script. `causes` are the names of
    findings of which one must be the first; empty if there must be none. `ended` has words that must be said about the end, and
    `stopped` is True for a run that stopped itself. `recorded` is False if the process ended before anybody could know of the
    number that is not finite, None if that is as it may be. `stable` is False for a model whose numbers grow over a longer text.
    """

    losses: tuple[float | None, ...]
    bad_step: int | None = None
    bad_part: str = ""
    causes: frozenset[str] = frozenset()
    ended: tuple[str, ...] = ()
    stopped: bool = False
    recorded: bool | None = True
    stable: bool = True

    @property
    def finite(self) -> bool:
        """True if every number that the program can know is finite, of the run and of what it computes for an answer."""
        return self.stable and (self.bad_step is None or self.recorded is False)


@dataclass(frozen=True)
class BadDay:
    """A run in a file or folder, and what is true about it."""

    name: str
    path: Path
    facts: Facts
    records: bool

    def open(self, place: str = "last") -> Session:
        """Open it at its first, middle or last step. Nothing that is done then changes the file."""
        session = Session.open(self.path)
        session.recorder.stay_in_memory()
        number = len(session.steps) if self.records else len(self.facts.losses)
        batch = {"first": 1, "middle": (number + 1) // 2, "last": number}[place]
        session.seek(0)
        if batch and not self.records:
            session.stop_on_nan = False
        session.step("batch", batch)
        return session


# ------------------------------------------------------------------------------
# Runs of the program itself.

TEXT = "the cat sat on the mat. the dog sat on the log. a cat and a dog sat. " * 6
TEXT_RUN: dict[str, Any] = {"text": TEXT, "hidden_size": 8, "batch_size": 4, "seq_length": 8, "seed": 3}
SGD: dict[str, Any] = TEXT_RUN | {"optimizer": "sgd", "clip": 0.0}
GROWING = "reads x\nstate h : H\nparameters Wh Uh bh\nh = 3 ⊙ h_prev + x Wh + h_prev Uh + bh"
LONG_GROWING: dict[str, Any] = SGD | {"cell_text": GROWING, "seq_length": 96, "batch_size": 2}
RATE = frozenset({"rate-too-large"})
GROWTH = frozenset({"explodes", "exploding-gradient", "not-finite", "recurrent-weights-too-large"})
HAND = frozenset({*RATE, *GROWTH, "initial-loss", "loss-jumps"})  # of a weight that was set to something absurd
#: Of the tutorial's text: the rows of its batches do not continue, which is true, and harms less than all that stops a run.
CLIPPED = frozenset({"mostly-clipped"})
LAYOUT = frozenset({"rows-do-not-continue"})


@dataclass(frozen=True, eq=False)
class Run:
    """A run of the program: its options, and what is done with it. `edits` are (batches before, name, index, value).

    `batches` is how many it would run; with `stops`, it stops itself before. `causes` as in `Facts`.
    """

    name: str
    options: dict[str, Any]
    batches: int = 12
    edits: tuple[tuple[int, str, Any, float], ...] = ()
    stops: bool = True
    causes: frozenset[str] = frozenset()
    stable: bool = True

    def make(self, folder: Path) -> BadDay:
        """Run it, save it in a folder, and note its numbers."""
        session = Session(**self.options)
        session.learning = True
        session.stop_on_nan = self.stops
        done = 0
        for batch, name, index, value in (*self.edits, (self.batches, "", (), 0.0)):
            session.step("batch", batch - done)
            done = batch
            if name and _ended(session) >= batch:
                session.edit(name, index, value)
        path = folder / f"{self.name.replace(' ', '-').replace('.', '_')}.tui-gru"
        session.save(path)
        count = _ended(session)
        facts = replace(facts_of_run(path, count, self.causes), stopped=count < self.batches, stable=self.stable)
        return BadDay(self.name, path, facts, records=False)


def _ended(session: Session) -> int:
    """Return the number of batches that have a loss."""
    return session.position.number + (session.loss is not None)


def facts_of_run(path: Path, count: int, causes: frozenset[str] = frozenset()) -> Facts:
    """Note the losses of the batches of a run, and scan it for the first number that is not finite, line by line."""
    session = Session.open(path)
    session.recorder.stay_in_memory()
    session.stop_on_nan = False
    losses: list[float | None] = []
    bad: int | None = None
    session.seek(0)
    for batch in range(count):
        session.step("batch")
        losses.append(session.loss)
        weights = [session.parameter(name) for name in session.parameter_names]
        numbers = [*weights, session.value("loss"), session.value("grad_norm")]
        if bad is None and not all(np.isfinite(number).all() for number in numbers):
            bad = batch
    return Facts(tuple(losses), bad, first_bad_line(session, bad), causes)


def first_bad_line(session: Session, batch: int | None) -> str:
    """Return the name of the first value of a batch that is not finite, computing it line by line; empty if there is none."""
    if batch is None:
        return ""
    session.seek(0)
    session.step("batch", batch)
    if any(not np.isfinite(session.parameter(name)).all() for name in session.parameter_names):
        return "weights"
    while session.position.number <= batch:
        session.step("line")
        line, t = session.position.line, session.position.t
        if line is not None:
            value = session.value(line.target) if line.target in session.parameter_names else session.value(line.target, t)
            if value is not None and not np.isfinite(value).all():
                return str(line.target)
    return ""


RUNS = (
    Run("healthy tutorial", {"learning_rate": 0.1}, causes=LAYOUT),
    Run("healthy text", TEXT_RUN, 30),
    Run("healthy text, one batch", TEXT_RUN, 1),
    Run("tutorial, rate 1e4", {"learning_rate": 1e4}, causes=RATE),
    Run("tutorial, rate 1e8", {"learning_rate": 1e8}, causes=RATE),
    Run("tutorial, rate 1e8, going on", {"learning_rate": 1e8}, stops=False, causes=RATE),
    Run("tutorial, rate 1e30", {"learning_rate": 1e30}, causes=RATE),
    Run("tutorial, rate 1e30, going on", {"learning_rate": 1e30}, 4, stops=False, causes=RATE),
    Run("tutorial, rate 3000, many epochs", {"learning_rate": 3000.0}, 60, stops=False, causes=RATE),
    Run("text, rate 300", TEXT_RUN | {"learning_rate": 300.0}, 60, causes=RATE),
    Run("text, rate 1", TEXT_RUN | {"learning_rate": 1.0}, 60, causes=RATE),
    Run("text, SGD at 1e12", SGD | {"learning_rate": 1e12}, 20, causes=RATE),
    Run("text, SGD at 1e38, going on", SGD | {"learning_rate": 1e38}, 6, stops=False, causes=RATE),
    Run("growing cell", SGD | {"cell_text": GROWING, "seq_length": 32}, 20, causes=GROWTH, stable=False),
    Run("growing cell, going on", LONG_GROWING, 4, stops=False, causes=GROWTH),
    Run("a weight set to 1e30", TEXT_RUN, 12, ((4, "Uh", (0, 0), 1e30),)),
    Run("a weight set to 1e38, going on", TEXT_RUN, 8, ((4, "Wy", (0, 0), 1e38),), stops=False, causes=HAND),
    Run("the rate set to 1e30", TEXT_RUN, 8, ((4, "learning_rate", (), 1e30),), causes=RATE),
    Run("the rate set to 1e30, going on", TEXT_RUN, 8, ((4, "learning_rate", (), 1e30),), stops=False, causes=RATE),
    Run("clip set to 1e-6", SGD | {"learning_rate": 0.3, "clip": 1.0}, 40, ((4, "limit", (), 1e-6),), causes=CLIPPED),
)


# ------------------------------------------------------------------------------
# Recordings of scripts.

#: Where a step can end: before and after its forward pass, in its backward pass, after it, after the update and after its end.
PARTS = ("input", "output", "backward", "gradient", "update", "step")
ENDS = ("nothing", "exception", "sys.exit", "ctrl+c", "SIGTERM", "os._exit", "kill -9")
TROUBLES = (
    "", "NaN in the input", "inf in the weights", "NaN in the weights", "overflow in the output", "NaN in the loss",
    "NaN in the gradient",    "rate nan", "rate inf", "rate 1e30", "clip 0", "explodes slowly",
)  # fmt: skip
EVERY = (1, 10, 100)
MESSAGE = "the reader of the data has no more"  # of the exception
_CAUSES = {
    "NaN in the input": {"not-finite"},
    "inf in the weights": {"not-finite"},
    "NaN in the weights": {"not-finite"},
    "overflow in the output": {"not-finite", "loss-not-finite"},
    "NaN in the loss": {"loss-not-finite", "not-finite"},
    "NaN in the gradient": {"not-finite"},
    "rate nan": {"not-finite"},
    "rate inf": {"not-finite"},
    "rate 1e30": {"not-finite", "rate-too-large"},
    "clip 0": set(),
    "explodes slowly": {"not-finite", "rate-too-large", "exploding-gradient", "loss-not-finite"},
}  # fmt: skip
_STATUS = {
    "nothing": 0, "exception": 1, "sys.exit": 3, "ctrl+c": -signal.SIGINT, "SIGTERM": -signal.SIGTERM, "os._exit": 4,
    "kill -9": -9,
}  # fmt: skip


@dataclass(frozen=True)
class Training:
    """A script that trains while it is recorded: what goes wrong with it in step `fatal`, and how and in which part of it it ends.

    It ends `after` steps after the fatal one. `closing` is True if the recorder is a context manager.
    """

    trouble: str = ""
    end: str = "nothing"
    part: str = "step"
    every: int = 1
    after: int = 0
    closing: bool = False
    fatal: int = 13
    module: str = "GRU"

    @property
    def name(self) -> str:
        """What is particular about it, in words."""
        words = [self.trouble or "healthy", f"ends by {self.end} in {self.part}" if self.end != "nothing" else "ends"]
        return ", ".join(
            [*words, f"every={self.every}", *(["after more steps"] if self.after else []), *(["with"] if self.closing else [])]
        )

    def facts(self, noted: Sequence[dict[str, Any]]) -> Facts:
        """Return what is true, from the lines that the script has written."""
        losses: dict[int, float | None] = {}
        bad: tuple[int, str] | None = None
        for each in noted:
            losses.setdefault(each["step"], None)
            if each["part"] == "step":
                losses[each["step"]] = each["loss"] if each["loss"] is None else float(each["loss"])
            if bad is None and not each["finite"]:
                bad = each["step"], each["part"]
        step, part = bad or (None, "")
        recorded = True if step != len(losses) - 1 or losses[step] is not None else self._is_recorded(part)
        causes = frozenset(_CAUSES[self.trouble]) if bad and recorded is not False else frozenset[str]()
        ended = {"exception": ("RuntimeError", MESSAGE)}.get(self.end, ())
        return Facts(tuple(losses[each] for each in sorted(losses)), step, part, causes, ended, recorded=recorded)

    def _is_recorded(self, part: str) -> bool | None:
        """Return whether the recorder can know of a number in the step in which the process ends; None if it need not."""
        reached, hard = PARTS.index(self.part), self.end in ("os._exit", "kill -9")
        if part in ("weights", "input", "output"):
            return reached >= PARTS.index("output")
        if reached < PARTS.index("gradient"):  # of the loss and the gradients, nothing is known before the backward pass is over
            return False if part == "loss" and reached < PARTS.index("backward") else None
        return None if hard else True


def trainings() -> Iterator[Training]:
    """Yield all: each trouble with each end in each part, and how often steps are recorded."""
    for trouble, end, part, every in product(TROUBLES, ENDS, PARTS, EVERY):
        if end != "nothing" or part == "step":
            for after in (0, 2):
                yield Training(trouble, end, part, every, after, closing=len(trouble + end + part) % 2 > 0, fatal=every + 12)


class Trainer:
    """A process that trains. It imports PyTorch once, and forks for each training."""

    def __init__(self) -> None:
        self._process = Popen([sys.executable, "-m", "tests.bad_days"], cwd=ROOT, stdin=PIPE, stdout=PIPE, text=True, bufsize=1)

    def record(self, training: Training, folder: Path) -> BadDay:
        """Run a training, and return its recording with what is true about it."""
        folder.mkdir(parents=True, exist_ok=True)
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps({"folder": str(folder), **asdict(training)}) + "\n")
        status = int(self._process.stdout.readline())
        assert status == _STATUS[training.end], (training, status)
        noted = [json.loads(line) for line in (folder / "noted").read_text().splitlines()]
        return BadDay(training.name, folder / "run.gru", training.facts(noted), records=True)

    def close(self) -> None:
        """End the process."""
        with self._process:  # closes its input, at the end of which it ends
            pass


#: What the suite asks of the recordings; the soak has them all.
TRAININGS = (
    Training(),
    Training(every=10, fatal=33, closing=True),
    Training("", "ctrl+c", "output"),
    Training("", "exception", "backward", every=10, fatal=22, closing=True),
    Training("", "SIGTERM", "gradient", every=100, fatal=103),
    Training("", "sys.exit", "update"),
    Training("", "os._exit", "output"),
    Training("", "kill -9", "input", every=10, after=2),
    Training("NaN in the weights", after=2),
    Training("inf in the weights", "kill -9", "gradient", every=10),
    Training("NaN in the input", "exception", "gradient", every=10, fatal=22),
    Training("NaN in the gradient", "ctrl+c", "update"),
    Training("NaN in the loss", "sys.exit", "step", every=10, after=2),
    Training("overflow in the output", "SIGTERM", "update"),
    Training("rate nan", after=3),
    Training("rate 1e30", "os._exit", "input", every=100, after=3, fatal=103),
    Training("explodes slowly", every=10, fatal=22),
    Training("clip 0", after=2),
)


class BadDays:
    """Bad days by their rows, each made when it is first asked for, in a folder that is deleted in the end."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._days: dict[Run | Training, BadDay] = {}
        self._trainer: Trainer | None = None

    def __getitem__(self, row: Run | Training) -> BadDay:
        if row not in self._days:
            folder = self._folder / str(len(self._days))
            folder.mkdir()
            if isinstance(row, Training):
                self._trainer = self._trainer or Trainer()
                self._days[row] = self._trainer.record(row, folder)
            else:
                self._days[row] = row.make(folder)
        return self._days[row]

    def close(self) -> None:
        """End the process that trains, if there is one."""
        if self._trainer is not None:
            self._trainer.close()


@pytest.fixture(scope="session")
def bad_days(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BadDays]:
    """The bad days of this session of tests."""
    days = BadDays(tmp_path_factory.mktemp("bad-days"))
    yield days
    days.close()


def _train(folder: Path, training: Training) -> None:
    """Train; the process may end in it."""
    import torch
    from torch import nn

    import tui_gru

    torch.manual_seed(4)
    slow, large = training.trouble == "explodes slowly", training.trouble == "overflow in the output"
    rnn: Any = nn.RNN(3, 4, nonlinearity="relu") if slow or large else getattr(nn, training.module)(3, 4)
    head = nn.Linear(4, 2)
    parameters = [*rnn.parameters(), *head.parameters()]
    optimizer = torch.optim.SGD(parameters, 0.6 if slow else 0.002 if large else 0.05)
    noted = os.open(folder / "noted", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    recorder = tui_gru.record(folder / "run.gru", nn.ModuleList([rnn, head]), optimizer, every=training.every, last=3)
    last = training.fatal + training.after

    def reach(step: int, part: str, *tensors: Any, loss: float | None = None) -> None:
        finite = all(bool(torch.isfinite(tensor).all()) for tensor in tensors)
        line = {"step": step, "part": part, "finite": finite, "loss": None if loss is None else repr(loss)}
        os.write(noted, json.dumps(line).encode() + b"\n")
        if (step, part) == (last, training.part):
            _end(training.end)

    def all_steps() -> None:
        for step in range(last + 1):
            fatal = step == training.fatal and training.trouble
            if fatal:
                _spoil(training.trouble, rnn, optimizer)
            reach(step, "weights", *parameters)
            optimizer.zero_grad()
            x = torch.randn(5, 2, 3)
            if fatal == "NaN in the input":
                x[2, 1, 0] = math.nan
            reach(step, "input", x)
            out, _ = rnn(x)
            reach(step, "output", out)
            loss = (head(out).sum(-1) - x.sum(-1).cumsum(0)).pow(2).mean()
            if fatal == "NaN in the loss":
                loss = loss * math.nan
            if fatal == "NaN in the gradient":
                loss = loss + (out - out).sqrt().sum()
            reach(step, "loss", loss)
            if step == last and training.part == "backward":
                loss.register_hook(lambda _: _end(training.end))
            loss.backward()
            reach(step, "gradient", *(parameter.grad for parameter in parameters))
            if training.trouble == "clip 0" and step >= training.fatal:
                nn.utils.clip_grad_norm_(parameters, 0.0)
            optimizer.step()
            reach(step, "update")
            recorder.step(loss)
            reach(step, "step", loss=float(loss))

    if training.closing:
        with recorder:
            all_steps()
    else:
        all_steps()


def _spoil(trouble: str, rnn: Any, optimizer: Any) -> None:
    """Do to the weights or to a setting what goes wrong."""
    import torch

    with torch.no_grad():
        if trouble == "inf in the weights":
            rnn.weight_hh_l0[0, 0] = math.inf
        elif trouble == "NaN in the weights":
            rnn.bias_ih_l0[1] = math.nan
        elif trouble == "overflow in the output":
            rnn.weight_ih_l0.mul_(1e30)
            rnn.weight_hh_l0.fill_(1e30)
    if trouble.startswith("rate "):
        optimizer.param_groups[0]["lr"] = float(trouble.removeprefix("rate "))


def _end(end: str) -> None:
    """End the process in one of its ways."""
    if end == "exception":
        raise RuntimeError(MESSAGE)
    if end == "sys.exit":
        sys.exit(3)
    if end == "os._exit":
        os._exit(4)
    if end in ("ctrl+c", "SIGTERM", "kill -9"):
        os.kill(os.getpid(), {"ctrl+c": signal.SIGINT, "SIGTERM": signal.SIGTERM, "kill -9": signal.SIGKILL}[end])


def _serve() -> None:
    import gc
    import warnings

    import torch

    import tui_gru

    torch.set_num_threads(1)
    torch.optim.SGD([torch.zeros(1, requires_grad=True)], 0.1)  # imports what an optimizer needs, once for every fork
    _ = tui_gru.record
    gc.collect()
    gc.freeze()  # so that what is imported is not collected at the end of each fork
    for line in sys.stdin:
        row = json.loads(line)
        child = os.fork()
        if not child:
            warnings.simplefilter("ignore")
            signal.signal(signal.SIGINT, signal.default_int_handler)
            sys.stderr.flush()
            os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
            _train(Path(row.pop("folder")), Training(**row))
            break
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)


if __name__ == "__main__":
    _serve()
