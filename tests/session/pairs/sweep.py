"""One random run of a random model, in the program and in the independent loop."""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch

from tests.session.pairs import oracle
from tests.session.pairs.cells import PROGRAM_CELLS, random_cell
from tests.session.pairs.oracle import Event, Loop, Pass, Setup, Silent, Trained
from tui_gru import Session, TuiGruError

LARGEST = 1e4  # models whose numbers grow beyond it are left out
VOCABULARY = "abcd"
#: A vector of weights as a factor of a part of a longer product. The program differentiates the product as one, with the weights
#: last; PyTorch from its stored parts, in which an earlier batch has the weights of then.
_WEIGHT_IN_PRODUCT = re.compile(r"⊙ b\d+\) ⊙|⊙ \([^()]*⊙ b\d+\)|\(b\d+ ⊙")


class Left(Exception):  # noqa: N818
    """A model that is not examined: it is refused, or its numbers grow too large."""


class Sweep:
    """A session on a random model at the end of a few batches, and the loops that have trained the same.

    `comparisons` counts what was compared. `fork` returns sessions that go on from here and do not change this one.
    """

    def __init__(self, seed: int) -> None:
        oracle.KINKS.nearest = 1.0
        self.computed: dict[tuple[Any, ...], Any] = {}  # by the loop and the question
        self.seed, self.chance, self.comparisons = seed, random.Random(f"sweep {seed}"), 0
        draw = self.chance
        own = draw.random() < 0.6
        cell = random_cell(seed) if own else PROGRAM_CELLS[draw.choice(sorted(PROGRAM_CELLS))]
        both = draw.random() < 0.25
        self.setup = setup = Setup(
            cell,
            layers=draw.choice([1, 1, 2]),
            bidirectional=both,
            embedding=draw.random() < 0.3,
            loss=draw.choice(["cross-entropy", "cross-entropy", "squared-error"]),
            optimizer=draw.choice(["sgd", "sgd", "momentum", "adam"]),
            clip=draw.choice([0.0, 0.0, 0.3]),
            carry=draw.choice(["detach", "reset"] if both else ["detach", "reset", "notebook", "notebook"]),
            dtype=draw.choice(["float32", "float64"]),
        )
        if setup.carry == "notebook" and own and _WEIGHT_IN_PRODUCT.search(cell.equations):
            raise Left("the order of a product decides at which weights an earlier batch is differentiated")
        self.T, self.B, self.H = (draw.randint(2, 3) for _ in range(3))
        self.layout = draw.choice(["tutorial", "contiguous"])
        self.num_batches, count = draw.randint(2, 3), draw.randint(3, 4)
        length = self.num_batches * self.T * self.B + 1 + draw.randrange(self.T)
        self.text = VOCABULARY + "".join(draw.choices(VOCABULARY, k=max(length - len(VOCABULARY), 0)))
        self.num_batches = (len(self.text) - 1) // self.T // self.B
        self.rate = 0.02 if setup.optimizer == "adam" else 0.2
        options: dict[str, Any] = {"cell_text": cell.equations} if cell.equations else {}
        options |= {"hidden_size": self.H, "batch_size": self.B, "seq_length": self.T, "embedding": 2 * setup.embedding}
        options |= {
            name: getattr(setup, name) for name in ("layers", "bidirectional", "loss", "optimizer", "clip", "carry", "dtype")
        }
        try:
            self.session = Session(
                text=self.text,
                cell=cell.name,
                seed=seed,
                layout=self.layout,
                learning_rate=self.rate,
                init=draw.choice(["tutorial", "torch"]),
                **options,
            )
        except TuiGruError as error:
            raise Left(str(error)) from None
        self.first = {name: np.array(self.session.parameter(name)) for name in self.session.parameter_names}
        self.events = dict(self._events(count))
        self._advance(count)
        self.last = self.session.position.number
        self.loops = [self.trained(seed) for seed in (None, *range(oracle.NOISY))]
        for loop in self.loops[:1]:
            for trained in loop.batches:
                arrays = [
                    *trained.gradients.values(),
                    *trained.after.values(),
                    *(v.detach().numpy() for v in trained.batch.values.values()),
                ]
                if not all(np.isfinite(each).all() and np.abs(each).max(initial=0) < LARGEST for each in arrays):
                    raise Left("its numbers grow too large")

    def _events(self, count: int) -> Iterator[tuple[int, Event]]:
        """Choose what happens before some of the batches after the first."""
        draw, pauses = self.chance, False
        for batch in range(1, count):
            if pauses:  # learning goes on within this batch
                pauses = False
                continue
            match draw.choice(["none", "none", "edit", "rate", "pause"]):
                case "edit":
                    name = draw.choice(self.session.parameter_names)
                    index = tuple(map(draw.randrange, self.first[name].shape))
                    yield batch, Event(batch, name, index, self.number(0.37))
                case "rate":
                    yield batch, Event(batch, rate=self.rate / 2)
                case "pause" if batch < count - 1:
                    pauses = True
                    yield batch, Event(batch, learns=False)

    def number(self, value: float) -> float:
        """Return a number as the dtype of the run has it."""
        return float(np.dtype(self.setup.dtype).type(value))

    def _advance(self, count: int) -> None:
        session = self.session
        session.learning = True
        for batch in range(count):
            event = self.events.get(batch, Event(batch))
            if event.parameter:
                session.edit(event.parameter, event.index, event.value)
            if event.rate is not None:
                session.learning_rate = event.rate
            if not event.learns:
                session.learning = False
            session.step("batch")
            if not event.learns:
                session.step("op")  # a change at the end of the batch would still be one of this batch
                session.learning = True

    def batch(self, number: int) -> tuple[list[np.ndarray], list[np.ndarray]]:
        """Return inputs and targets of a batch of the run, one-hot (B, V) by timestep, cut from the text as the manual says."""
        T, B, each = self.T, self.B, self.num_batches
        ids = [VOCABULARY.index(char) for char in self.text]
        number %= each
        sequences = [row * each + number if self.layout == "contiguous" else number * B + row for row in range(B)]
        rows = [[ids[sequence * T + t + ahead] for sequence in sequences] for ahead in (0, 1) for t in range(T)]
        one_hot = [np.eye(len(VOCABULARY))[row] for row in rows]
        return one_hot[:T], one_hot[T:]

    def trained(self, seed: int | None) -> Loop:
        loop = Loop(self.setup, self.first, self.rate, seed)
        for batch in range(self.session.position.number + 1):
            self.advance(loop, batch)
        return loop

    def advance(self, loop: Loop, batch: int, **options: Any) -> Trained:
        """Train a loop on a batch, with what happens before it."""
        learns = self._prepare(loop, batch)
        return loop.train(*self.batch(batch), first=batch % self.num_batches == 0, learns=learns, **options)

    def _prepare(self, loop: Loop, batch: int) -> bool:
        """Do what happens before a batch. Return False if it does not learn."""
        event = self.events.get(batch, Event(batch))
        if event.parameter:
            loop.set(event.parameter, event.index, event.value)
            loop.batches[-1].after[event.parameter][(0, *event.index)[-2:]] = event.value
        if event.rate is not None:
            loop.rate = event.rate
        return event.learns

    def otherwise(self, loop: Loop, *, weight: Event | None = None, **options: Any) -> Trained:
        """Train the last batch of a loop with a change: a weight before it, or options of `Loop.train`."""
        key = id(loop), weight, *sorted(options.items())
        if key not in self.computed:
            self.computed[key] = self._otherwise(loop, weight, options)
        return self.computed[key]

    def _otherwise(self, loop: Loop, weight: Event | None, options: dict[str, Any]) -> Trained:
        last = len(loop.batches) - 1
        if self.setup.carry == "notebook":
            again = Loop(self.setup, self.first, self.rate, loop.seed)
            for batch in range(last):
                self.advance(again, batch)
            self._prepare(again, last)
        else:
            again = loop.before_last()
        if weight is not None:
            again.set(weight.parameter, weight.index, weight.value)
        return again.train(*self.batch(last), first=last % self.num_batches == 0, **options)

    def fork(self) -> Session:
        return Session(state=self.session.state)

    def read(self, loop: Loop, text: str, *, silent: Silent | None = None) -> Pass:
        """Read a text as one row from zero states with the weights of the position; in both directions, in windows of a batch's
        timesteps. The last character has no target; its loss is the one of the first character."""
        key = id(loop), text, silent
        if key not in self.computed:
            self.computed[key] = self._read(loop, text, silent)
        return self.computed[key]

    def _read(self, loop: Loop, text: str, silent: Silent | None) -> Pass:
        ids = [VOCABULARY.index(char) for char in text]
        one_hot = [torch.eye(len(VOCABULARY), dtype=torch.float64)[None, i] for i in (*ids, ids[0])]
        each, result, rows = self.T if self.setup.bidirectional else len(ids), Pass(), []
        with loop.rounding():
            for first in range(0, len(ids), each):
                count = min(each, len(ids) - first)
                x, y = one_hot[first : first + count], one_hot[first + 1 : first + 1 + count]
                part = oracle.run(self.setup, loop.at(-1, "after"), x, y, loop.zeros(1), silent=silent)
                result.values |= {(name, first + t): value for (name, t), value in part.values.items()}
                result.logits += part.logits
                result.states = part.states
                rows.append(part.rows)
            result.rows = torch.cat(rows)
        return result

    # Comparing

    def same(self, words: str, ours: Any, theirs: Callable[[Loop], Any], *, dtype: str = "") -> None:
        """Compare numbers of the program with those of the loop: no further apart than rounding explains."""
        value = np.asarray(ours, np.float64).ravel()
        runs = list(map(theirs, self.loops))
        arrays = [np.asarray(each.detach() if isinstance(each, torch.Tensor) else each, np.float64).ravel() for each in runs]
        assert value.shape == arrays[0].shape, (words, value.shape, arrays[0].shape)
        self.comparisons += 1
        apart, allowed = float(np.abs(value - arrays[0]).max(initial=0.0)), oracle.bound(arrays, self.setup.dtype)
        if apart > allowed and oracle.KINKS.nearest < 1e4 * np.finfo(self.setup.dtype).eps:
            raise Left("a number is so near to a kink that rounding decides about its slope")
        assert apart <= allowed, f"{words}: {value} is not {arrays[0]}: {apart:.3g} apart, rounding explains {allowed:.3g}"

    def compare_batch(self, session: Session, batch: int) -> None:
        """Compare everything that a session at the end of a batch shows of it."""
        names, trained = session.program.names, self.loops[0].batches[batch]
        for name, t in trained.batch.values:
            for each in (name, f"d{name}") if trained.learns else (name,):
                theirs = self.getter(each, batch, t)
                if each in names and theirs is not None:
                    self.same(f"{each} at {t} of batch {batch}", session.value(each, t), theirs)
        for name in ("loss", *self.first, *(f"d{name}" for name in self.first if trained.learns)):
            theirs = self.getter(name, batch, None)
            assert theirs is not None
            self.same(f"{name} of batch {batch}", session.value(name), theirs)
        if trained.learns:
            self.same(f"the norm of batch {batch}", session.value("grad_norm"), lambda loop: loop.batches[batch].norm)

    def getter(self, name: str, batch: int, t: int | None) -> Callable[[Loop], Any] | None:
        """Return a function that gives a number of a loop's batch by the program's name for it; None if the loop has none."""
        trained = self.loops[0].batches[batch]
        if name == "loss":
            return lambda loop: loop.batches[batch].loss
        if name in self.first:
            return lambda loop: loop.batches[batch].after[name]
        if name[1:] in self.first and name[0] == "d":
            return lambda loop: loop.batches[batch].gradients[name[1:]]
        if t is None:
            return None
        if (name, t) in trained.batch.values:
            return lambda loop: loop.batches[batch].batch.value(name, t)
        if name[0] == "d" and (name[1:], t) in trained.batch.values:
            return lambda loop: loop.batches[batch].batch.gradient(name[1:], t)
        return None

    def shown(self, words: str, written: str, theirs: Callable[[Loop], Any]) -> None:
        """Compare a number as it is written, with the half of its last digit."""
        written = written.replace("−", "-").replace(",", "")
        match = re.fullmatch(r"[+-]?\d*\.?(\d*)(?:e([+-]?\d+))?", written)
        assert match is not None, (words, written)
        digit = 10.0 ** (int(match[2] or 0) - len(match[1]))
        runs = [np.asarray(theirs(loop), np.float64) for loop in self.loops]
        apart, allowed = abs(float(written) - float(runs[0])), oracle.bound(runs, self.setup.dtype) + 0.50001 * digit
        self.comparisons += 1
        assert apart <= allowed, f"{words}: {written} is not {runs[0]}"

    def predictions(self, logits: torch.Tensor) -> torch.Tensor:
        """Return what a prediction is: logarithms of probabilities, or the outputs if they are none, (B, V)."""
        return torch.log_softmax(logits, 1) if self.setup.loss == "cross-entropy" else logits

    def row_value(self, session: Session) -> str:
        """Choose a value that each row has for each unit."""
        axes = session.config.model.axes
        values = [name for name, t in self.loops[0].batches[-1].batch.values if t == 0 and axes.get(name, ())[:2] == ("T", "B")]
        return self.chance.choice([name for name in values if len(axes[name]) == 3 and name not in ("x", "y_hat", "e")])
