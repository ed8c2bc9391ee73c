"""What was learned when: the loss of each class of characters over the run, and sentences made from it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tui_gru.analysis.losses import loss_of_rows
from tui_gru.analysis.story import batches_spaced, end_of_batch, jumps_of
from tui_gru.analysis.trials import Interruption
from tui_gru.analysis.units import CLASSES, values_after_characters
from tui_gru.debugger.history import ScalarRows
from tui_gru.debugger.position import batch_in_words
from tui_gru.debugger.timeline import Timeline
from tui_gru.engine.config import Text
from tui_gru.engine.numbers import counted, rounded
from tui_gru.engine.weights import NUMPY_SETTINGS, Weights
from tui_gru.errors import TuiGruError

POINTS = 22  # moments of a map
MOST_READ = 2000  # characters that are read at each
FEWEST = 10  # targets of a class
HALF = 0.5  # of the loss of guessing by frequency, below which a class counts as learned
LAST_EPOCHS = 10  # of which it is said what they gained
SMALL = 0.005  # nats, less than which is said to be nothing: it is shown as 0.00


@dataclass(frozen=True, eq=False)
class ClassCourse:
    """The loss of a class of characters at each moment, (n), in nats. `guess` is that of guessing by the frequencies of the
    characters; `learned` is the batch (0-based) from which on the loss is below half of it at all moments, None if it never is."""

    name: str
    words: str
    count: int
    guess: float
    losses: ScalarRows
    learned: int | None


@dataclass(frozen=True, eq=False)
class LearningMap:
    """The losses of classes of characters over a run. `batches` are the moments (n), 0-based; `mean` is the loss of all characters
    that are read, (n), in nats; `unseen` says that they were not trained on."""

    batches: NDArray[np.intp]
    mean: ScalarRows
    classes: tuple[ClassCourse, ...]
    read: int
    unseen: bool
    sentences: tuple[str, ...]

    def __repr__(self) -> str:
        return f"<what was learned when: {'; '.join(self.sentences)}>"


def learning_map(
    timeline: Timeline,
    upto: int,
    text: Text,
    *,
    unseen: bool,
    points: int = POINTS,
    check: Interruption | None = None,
    progress: Callable[[str], object] | None = None,
) -> LearningMap:
    """Return the map of the first `upto` batches, by reading `text` with the weights of each moment.

    Raises `TuiGruError` for a model without a loss of characters, or a run without a batch, and what `check` raises.
    """
    program, text = timeline.program, text[:MOST_READ]
    if not program.loss_names.row:
        raise TuiGruError("this model has no loss per character, so it cannot be said which were learned when")
    if upto < 1 or len(text) < 2:
        raise TuiGruError("no batch has been finished yet; learned tells what happened in those that are")
    losses = timeline.column("loss", 0, upto - 1)
    jump = _largest_jump(losses)
    batches = sorted({*batches_spaced(timeline, upto, points).tolist(), upto - 1, *(() if jump is None else (_before(jump),))})
    rows = list[NDArray[np.float64]]()
    with NUMPY_SETTINGS:
        for batch in batches:
            if check is not None:
                check()
            if progress is not None:
                progress(f"reading the text after batch {batch + 1:,}")
            rows.append(_losses_of(timeline, end_of_batch(timeline, batch).weights, text))
    table = np.array(rows)
    moments = np.array(batches, np.intp)
    classes = tuple(_courses(table, moments, text))
    mean = table.mean(axis=1)
    return LearningMap(
        moments, mean, classes, len(text) - 1, unseen, tuple(_sentences(timeline, moments, mean, classes, jump, unseen=unseen))
    )


def _losses_of(timeline: Timeline, weights: Weights, text: Text) -> NDArray[np.float64]:
    """Return the loss of each character but the first, (n); NaN where the weights are not finite."""
    if not np.isfinite(weights.parameters).all():
        return np.full(len(text) - 1, np.nan)
    program = timeline.program
    name = program.loss_names.row
    return loss_of_rows(program, values_after_characters(program.config, weights, text, [name])[name])[:-1]


def _largest_jump(losses: ScalarRows) -> int | None:
    """Return the batch at which the loss rises most, of those where it jumps; None if it does not."""
    finite = np.isfinite(losses)
    rises = [b for b in jumps_of(losses, finite) if b > 0 and finite[b] and finite[b - 1] and losses[b] > losses[b - 1]]
    return max(rises, key=lambda b: losses[b] - losses[b - 1], default=None)


def _before(jump: int) -> int:
    """Return the last batch before a jump whose end no change made by hand can have."""
    return max(jump - 2, 0)


def _courses(table: NDArray[np.float64], batches: NDArray[np.intp], text: Text) -> Iterator[ClassCourse]:
    counts, places = Counter(text), np.arange(1, len(text))
    guesses = np.array([-np.log(counts[char] / len(text)) for char in text])[1:]
    for feature in CLASSES.values():
        chosen = feature.values(text)[places].astype(bool)
        if FEWEST <= chosen.sum() < len(places):
            losses, guess = table[:, chosen].mean(axis=1), float(guesses[chosen].mean())
            yield ClassCourse(feature.name, feature.words, int(chosen.sum()), guess, losses, _learned(losses, batches, guess))


def _learned(losses: ScalarRows, batches: NDArray[np.intp], guess: float) -> int | None:
    above = np.flatnonzero(~(losses < HALF * guess))
    first = int(above[-1]) + 1 if len(above) else 0
    return int(batches[first]) if first < len(batches) else None


def _sentences(
    timeline: Timeline,
    batches: NDArray[np.intp],
    mean: ScalarRows,
    classes: tuple[ClassCourse, ...],
    jump: int | None,
    *,
    unseen: bool,
) -> Iterator[str]:
    learned = sorted((c for c in classes if c.learned is not None), key=lambda c: c.learned or 0)
    words = [f"{c.words} by batch {(c.learned or 0) + 1:,}" for c in learned]
    words += [f"{c.words} never" for c in classes if c.learned is None]
    if words:
        yield f"{', '.join(words)}"
    text = "unseen text" if unseen else "the text"
    if jump is not None:
        before, end = float(mean[np.searchsorted(batches, _before(jump))]), float(mean[-1])
        place = batch_in_words(*divmod(jump, timeline.program.num_batches))
        cost = end - before
        if not np.isfinite(cost):
            yield f"since the jump of the loss at {place}, the loss on {text} is not finite"
        elif cost > SMALL:
            yield f"the jump of the loss at {place} cost {rounded(cost)} nats on {text}, and that has not come back"
        else:
            yield f"the jump of the loss at {place} has come back: the loss on {text} was {rounded(before)}, and is {rounded(end)}"
    per_epoch = timeline.program.num_batches
    epochs = (int(batches[-1]) + 1) // per_epoch
    earlier = np.flatnonzero(batches <= int(batches[-1]) - LAST_EPOCHS * per_epoch)
    if epochs > 2 * LAST_EPOCHS and len(earlier):
        at = int(earlier[-1])
        gain = float(mean[at] - mean[-1])
        last = counted(round((int(batches[-1]) - int(batches[at])) / per_epoch), "epoch")
        if np.isfinite(gain):
            gained = f"gained {rounded(gain)} nats" if gain > SMALL else "lost " + f"{rounded(-gain)} nats" if gain < -SMALL else (
                f"gained nothing ({gain:+.3f} nats)"
            )  # fmt: skip
            yield f"the last {last} {gained} on {text}"
