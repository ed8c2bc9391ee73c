"""Findings about the course of a training: the first loss, the size of the steps, how the loss goes on, and where it ends."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from tui_gru import arguments
from tui_gru.analysis.examined import Evidence, Finding, RunFacts, is_back
from tui_gru.analysis.findings_of_training import exploding_gradient, of_steps
from tui_gru.analysis.losses import baselines, bigram_of_others, loss_of_rows
from tui_gru.analysis.trials import (
    LEAST_TRIED,
    Cure,
    is_lower,
    larger_rates,
    loss_after,
    losses_with,
    losses_with_first_weights,
    losses_without_learning,
    smaller_rates,
    trial_batches,
)
from tui_gru.analysis.units import values_after_characters
from tui_gru.debugger.derivation import ValueRef
from tui_gru.debugger.history import ScalarRows
from tui_gru.debugger.program import Program, spoken
from tui_gru.debugger.segment import HistorySegment, checkpoint_of
from tui_gru.debugger.trouble import Explosion, is_edited_within
from tui_gru.engine.batch import BatchRecord
from tui_gru.engine.config import INITS, Config, Text, token_word, tokenized
from tui_gru.engine.data import Corpus
from tui_gru.engine.numbers import counted, rounded
from tui_gru.engine.source import Ability
from tui_gru.engine.training import initial_weights
from tui_gru.engine.weights import Float64Array, Weights
from tui_gru.equations import syntax as e
from tui_gru.errors import TuiGruError

# ------------------------------------------------------------------------------
# The first loss.


FAR = 1.0  # nats above log V
_GAIN = 3.0  # of a recurrent matrix
_FEW_CHARACTERS = 8  # with fewer, half of log V can be chance
_WINDOW = 8  # the number of batches of a mean
_BEFORE = (16, 64)  # batches before a trouble at which a trial begins
_SOON_ABOVE = 10.0  # times the first loss
_FAR_FROM = 10.0  # times the usual size of a step, from which on it is worth a remark
_STEPS = 3  # the first updates that are examined
_HUGE, _LARGE, _SLOW, _SMALL = 0.5, 1e-1, 3e-3, 1e-5  # relative changes of the weights by a step
_USUAL, _LEAST = 1e-3, 1e-9  # such a change; the least one that a larger rate is derived from
_HIDDEN = 10  # so many times the change of all weights together, that of a matrix is hidden in it by a weight that is huge
_UP, _DOWN, _ABOVE = 1.2, 0.9, 0.1  # times a loss, times a loss, nats
_HARMFUL = 0.3  # nats that another rate would have saved
_BEGUN = 250  # batches after which a model should know the frequencies of the characters
_CREEP = 60  # batches after which the loss should have moved
_FREQUENT, _SHARE = 0.1, 0.1  # frequency among the targets; probability relative to it
_EPOCHS, _BATCHES = 20, 500  # the least amount of learning after which a loss counts as settled
HELD_OUT = 10_000  # characters of a held-out text that are read
_PLACES = 6  # places of the run at which the held-out text is read
_REFINEMENTS = 4  # times that the places around the lowest loss are examined
_RISEN = 0.1  # nats
_LOW_BIAS = 2.0  # of a logit
_JUMP_AFTER = 2  # windows that are compared with the next one
_NOISE_OF, _NOISY = 64, 4.0  # batches before a jump; times their noise, which healthy runs of tiny batches do not reach


def initial_loss(x: RunFacts) -> Iterator[Finding]:
    """Find a first loss that is far from the loss of guessing."""
    if not x.count or not x.program.model.is_cross_entropy:
        return
    loss, guess = float(x.losses[0]), math.log(x.config.vocab_size)
    above = min(loss, _loss_of_epoch(x)) > guess + FAR
    below = loss < guess / 2 and x.config.vocab_size >= _FEW_CHARACTERS and _has_new_weights(x)
    if not (above or below):
        return
    if above and x.config.init == "torch" and next(exploding_gradient(x), None) is not None:
        return  # the weights are small: the state grows by itself
    step = token_word(x.config.vocabulary) if x.config.source.can(Ability.TEXT) else "timestep"
    yield Finding(
        "initial-loss",
        f"the first loss is far {'above' if above else 'below'} log V",
        f"A model that knows nothing should give every {token_word(x.config.vocabulary)} the same probability, which is a loss of "
        "log V. "
        + (
            "This model begins with confident wrong predictions, and the first steps only undo them."
            if above
            else "It knows something before the first step: its weights are not fresh, or its input gives the target away."
        ),
        x.offer(("smaller initial weights (--init torch)", Cure("init", "torch")))
        if above
        else f"new weights; targets that are one {step} after the input",
        (
            Evidence(f"the loss of the first batch is {rounded(loss)}", x.entry(0, "loss", ()), loss),
            Evidence(f"log {x.config.vocab_size} = {rounded(guess)}"),
        ),
        x.end(0),
        (Cure("init", "torch"),) if above else (),
    )


def recurrent_weights_too_large(x: RunFacts) -> Iterator[Finding]:
    """Find a matrix that multiplies the state by far more than 1 when the run begins, if it was set by hand or an own cell has a
    factor, and the model has not learned more than pairs of characters.

    `_GAIN` is between weights as they are drawn (0.6 for `torch`, 1.0 if orthogonal, 1.4 for a relu) and ten times as large ones.
    """
    if not x.count or x.knows_more_than_pairs or not x.config.source.can(Ability.TRAIN):
        return
    weights = x.record(0).before
    is_drawn = x.config.init not in INITS or np.array_equal(weights.parameters, initial_weights(x.config).parameters)
    gains: dict[str, float] = {}
    for name, factor in _recurrent(x.program):
        matrix = np.asarray(weights[name], np.float64)
        if (factor != 1 or not is_drawn) and np.ptp(matrix):  # with equal numbers, all units are the same one
            gains[name] = abs(factor) * float(np.linalg.norm(matrix)) / math.sqrt(len(matrix))
    name = max(gains, key=lambda matrix_name: gains[matrix_name], default="")
    if not name or not _GAIN < gains[name] < math.inf:
        return
    index = np.unravel_index(int(np.argmax(np.abs(weights[name]))), weights[name].shape)
    place, value = (int(index[0]), int(index[1])), float(x.record(0).after[name][index])
    yield Finding(
        "recurrent-weights-too-large",
        f"{x.written(name)} multiplies the state by {rounded(gains[name])}, which is far more than 1",
        "A small difference of the state grows from timestep to timestep, until its units and gates are at their limits: what was "
        "read before is lost in it, and the gradients are those of chance.",
        x.offer(("smaller initial weights (--init torch)", Cure("init", "torch"))),
        (
            Evidence(f"the root mean square of what it makes of a unit is {rounded(gains[name])}; 0.6 to 1.4 is usual"),
            Evidence(f"{spoken(x.program, name, place)} is {rounded(value)}", x.entry(0, name, place), value),
        ),
        x.end(0),
        (Cure("init", "torch"), Cure("clip", 1.0)),
    )


def _recurrent(program: Program) -> Iterator[tuple[str, float]]:
    """Yield the matrices that multiply a state, or what is made of one line above, with the numbers that multiply the product."""
    page = program.model.page
    states = {page.before(state) for state in page.states}
    states |= {line.target for line in page.lines if states.intersection(line.formula.names()) and line.target not in page.states}
    for line in page.lines:
        for node in line.formula.walk():
            parts = node.parts if isinstance(node, e.Times) else (node,)
            factor = math.prod(float(part.value) for part in parts if isinstance(part, e.Number))
            for part in parts:
                name = part.right.name if isinstance(part, e.Product) and isinstance(part.right, e.Name) else ""
                if name and states.intersection(part.children[0].names()) and program.names[name].axes == ("H", "H"):
                    yield name, factor


def _loss_of_epoch(x: RunFacts) -> float:
    """Return the loss of the first predictions if their targets were those of a whole epoch of text: that of few targets can be far
    from it by chance."""
    if not isinstance(x.corpus, Corpus):
        return math.inf
    frequencies = np.bincount(x.corpus.targets.ravel(), minlength=x.config.vocab_size) / x.corpus.targets.size
    chances = x.record(0).array(x.program.loss_names.prediction).reshape(-1, x.config.vocab_size)
    return float(-np.log(np.maximum(chances, np.finfo(chances.dtype).tiny)).mean(axis=0) @ frequencies)


def _has_new_weights(x: RunFacts) -> bool:
    """Return True if the run begins with the weights that its options draw, or with others that were set by hand."""
    drawn = x.config.init in INITS and x.timeline.beginning.checkpoints.at(0)
    return drawn == checkpoint_of(initial_weights(x.config), x.timeline.beginning.trainer.initial_state())


# ------------------------------------------------------------------------------
# The size of the steps. Whether another rate is better is not guessed: it is tried on a copy of the run.


def _step_ratio(x: RunFacts, batches: Iterable[int]) -> float:
    """Return the median of ‖ΔW‖ / ‖W‖ of the updates of some batches, over all weights together; NaN if there are none.

    A batch within which a number was set by hand is left out.
    """
    ratios = []
    with np.errstate(all="ignore"):
        for batch in batches:
            if not is_edited_within(x.timeline, batch):
                record = x.record(batch)
                before, after = (np.asarray(w.parameters, np.float64) for w in (record.before, record.after))
                ratios.append(float(np.linalg.norm(after - before) / np.linalg.norm(before)))
    return float(np.median(ratios)) if ratios else math.nan


def _largest_ratio(x: RunFacts) -> float:
    """Return the median of ‖ΔW‖ / ‖W‖ of the last updates, each of the matrix that it moves most; 0 without a matrix.

    The ratio over all weights together says nothing of them if one weight is huge. A vector does not count: a bias that began at 0
    is small for long, and its updates are large for it.
    """
    largest = []
    with np.errstate(all="ignore"):
        for _, record in x.recently_learned:
            matrices = [name for name in x.program.parameters if record.before[name].ndim > 1]
            pairs = [(record.before[name].astype(float), record.after[name].astype(float)) for name in matrices]
            ratios = (float(np.linalg.norm(after - before) / np.linalg.norm(before)) for before, after in pairs)
            largest.append(max(ratios, default=0.0))
    return float(np.median(largest)) if largest else 0.0


def _windows(losses: ScalarRows) -> Float64Array:
    """Return the mean loss of consecutive windows of `_WINDOW` batches, ending with the last batch."""
    windows: Float64Array = losses[len(losses) % _WINDOW :].reshape(-1, _WINDOW).mean(axis=1)
    return windows


def _noise(losses: ScalarRows) -> float:
    """Return the standard deviation of losses from the differences of neighbouring batches, to which a slow fall adds little."""
    steps = np.diff(losses)
    steps = steps[np.isfinite(steps)]
    return math.sqrt(float(np.square(steps).mean()) / 2) if len(steps) else 0.0


def _with_same_rate(x: RunFacts) -> NDArray[np.intp]:
    """Return the last batches that have learned, all with the same learning rate."""
    learned = x.learned
    if not len(learned) or "learning_rate" not in x.moment.record.settings:
        return learned[:0]
    rates = x.timeline.setting("learning_rate", learned)
    other = np.flatnonzero(rates != rates[-1])
    return learned[other[-1] + 1 if len(other) else 0 :]


class _Saving(NamedTuple):
    """An option with which a trial ends at a loss that is surely lower, both losses, and the batch where the trial begins."""

    cure: Cure
    loss: float
    without: float
    since: int
    batches: int

    def evidence(self, x: RunFacts) -> Evidence:
        """Return the trial in words."""
        batches = counted(self.batches, "batch")
        batches = f"{batches} from {x.at(self.since)} on" if self.since else f"the first {batches}"
        without = "without it, the loss is not finite" if math.isinf(self.without) else f"not {rounded(self.without)}"
        return Evidence(f"tried on a copy: with {self.cure.typed} {batches} end at {rounded(self.loss)}, {without}")


def _savings(x: RunFacts, cures: Iterable[Cure], since: int, count: int) -> Iterator[_Saving]:
    """Yield each of some options with which `count` batches from `since` on surely end at a loss lower by `_HARMFUL`."""
    if count < LEAST_TRIED or not x.config.source.can(Ability.TRAIN):
        return
    # Not the losses of the run, which other changes may have raised.
    losses_as_run = losses_with(x.timeline, x.moment, None, count, since=since, check=x.check)
    for cure in cures if losses_as_run is not None else ():
        losses = losses_with(x.timeline, x.moment, cure, count, since=since, check=x.check)
        if losses is not None and losses_as_run is not None and is_lower(losses, losses_as_run, _HARMFUL):
            yield _Saving(cure, loss_after(losses), loss_after(losses_as_run), since, count)


def _saves(x: RunFacts, cures: tuple[Cure, ...], *, also_from_rise: bool = False) -> _Saving | None:
    """Return the first of some options with which the run so far would surely have a loss lower by `_HARMFUL`.

    With `also_from_rise` they are also tried from the last change of the learning rate on, if that made it larger.
    """
    before, since_rise = len(x.learned) - len(_with_same_rate(x)), 0
    if also_from_rise and 0 < before < len(x.learned):
        old, new = x.timeline.setting("learning_rate", x.learned[before - 1 : before + 1])
        if new > old:
            change = x.timeline.segment_at(x.end(int(x.learned[before]))).start
            since_rise = x.timeline.completed(x.timeline.position(change))
    for since in dict.fromkeys((0, since_rise)):
        count = min(int((x.learned >= since).sum()), trial_batches(x.config))
        if (saving := next(_savings(x, cures, since, count), None)) is not None:
            return saving
    return None


def _saves_before(x: RunFacts, batch: int, cures: tuple[Cure, ...]) -> _Saving | None:
    """Return the best of some options with which the trouble that a batch shows would not be: tried from a few batches before it
    on, and if none helps there, from more."""
    for since in dict.fromkeys(max(batch - before, 0) for before in _BEFORE):
        # Where the run has ended in trouble, the trial goes on until it can be told from what comes by chance.
        count = min(max(x.count, batch + LEAST_TRIED) - since, trial_batches(x.config))
        if savings := list(_savings(x, cures, since, count)):
            least = min(saving.loss for saving in savings)
            return next(
                saving for saving in savings if saving.loss <= least + _ABOVE
            )  # the smallest change that does about as much
    return None


def _rates_for(x: RunFacts, ratio: float) -> tuple[Cure, ...]:
    """Return smaller learning rates as options: a tenth, and those with which a step of this size would be a usual one."""
    settings = x.moment.record.settings
    rate = settings.get("learning_rate", 0.0)
    usual = [times * rate / ratio for times in (100 * _USUAL, 10 * _USUAL, _USUAL)] if _USUAL < ratio < math.inf else []
    rates = [float(f"{smaller:.1g}") for smaller in usual if 0 < smaller < rate]
    return tuple(dict.fromkeys((*smaller_rates(settings)[:1], *(Cure("learning_rate", smaller) for smaller in rates))))


def of_explosion(explosion: Explosion, x: RunFacts, *, titled: bool = False) -> Evidence:
    """Return where the growth of a number began, and the number; with what has grown, unless the title of the finding says it."""
    batch = x.timeline.position(explosion.tick).number
    words = explosion.began if titled else f"{explosion.growth} in {x.at(batch)}; {explosion.began}"
    if explosion.column == "loss":
        return Evidence(words, ValueRef("loss", (), None, explosion.tick), explosion.now)
    after = x.record(batch).after if batch < x.count else x.moment.record.before
    name = max(x.program.parameters, key=lambda parameter: float(np.abs(after[parameter]).max(initial=0)))
    index = tuple(map(int, np.unravel_index(int(np.argmax(np.abs(after[name]))), after[name].shape)))
    value = float(after[name][index])
    largest = f"{spoken(x.program, name, index)} is {rounded(value)} after it"
    return Evidence(f"{words}; {largest}", ValueRef(name, index, None, explosion.tick), value)


def _rate_that_explodes(x: RunFacts) -> Iterator[Finding]:
    """Find an update that makes a run explode, if that does not begin within a batch, and a smaller rate prevents it."""
    explosion, settings = x.explosion, x.moment.record.settings
    if explosion is None or explosion.within or not settings.get("learning_rate"):
        return
    batch = x.timeline.position(explosion.tick).number
    step = batch if explosion.column == "max_weight" else batch - 1  # the update before the growth
    if step < 0 or not x.timeline.learns(step):
        return
    ratio = _step_ratio(x, [step])
    saving = _saves_before(x, batch, _rates_for(x, ratio))
    if saving is None:
        return
    yield Finding(
        "rate-too-large",
        f"the learning rate is too large: {explosion.growth} in {x.at(batch)}",
        "Such large steps overshoot the minimum, and numbers that grow like this soon are not finite.",
        saving.cure.typed,
        (
            of_explosion(explosion, x, titled=True),
            saving.evidence(x),
            Evidence(f"‖ΔW‖ / ‖W‖ over all weights is {rounded(ratio)} in {x.at(step)}{_usual(ratio)}"),
            *_grad_norm_beside(explosion, x, step),
        ),
        explosion.tick,
        tuple(dict.fromkeys((saving.cure, *smaller_rates(settings), Cure("clip", 1.0)))),
        saving.since,
        is_tried=True,
    )


def _usual(ratio: float) -> str:
    """Return which size of a step is usual, in words, if one is far from it."""
    return "; about 1e-3 is usual" if not _USUAL / _FAR_FROM <= ratio <= _FAR_FROM * _USUAL else ""


def explodes(x: RunFacts) -> Iterator[Finding]:
    """Find where a number of the run grows a thousandfold, at which the run stops, if the loss has not come back since."""
    if (explosion := x.explosion) is None:
        return
    yield Finding(
        "explodes",
        f"the run explodes: {explosion.growth} in {x.at(x.timeline.position(explosion.tick).number)}",
        "Numbers that grow a thousandfold in a batch take with them what was learned, and soon are not finite.",
        of_steps(x),
        (of_explosion(explosion, x, titled=True),),
        explosion.tick,
        (*smaller_rates(x.moment.record.settings), Cure("clip", 1.0), Cure("init", "torch")),
    )


def with_tried_cure(finding: Finding, x: RunFacts) -> Finding:
    """Return a finding of a place in the run with the option first that surely prevents it, tried from shortly before it on."""
    if finding.name not in ("explodes", "loss-jumps", "loss-rises", "saturated-gate") or finding.tick is None or not finding.cures:
        return finding
    batch = 0 if finding.name == "saturated-gate" else x.timeline.position(finding.tick).number
    if finding.name == "loss-rises":
        windows = _windows(x.losses[x.learned])
        batch = _leaves(x.learned, windows, float(x.losses[x.learned[0]]))
    if (saving := _saves_before(x, batch, finding.cures)) is None:
        if finding.name == "saturated-gate" and trial_batches(x.config) >= LEAST_TRIED:
            # Gates that are at a limit may belong to what is learned: an option that does not lower the loss is not offered.
            return replace(
                finding, cure="no option that was tried lowers the loss; look at the weights and biases of the gate", cures=()
            )
        return finding
    return replace(
        finding,
        cure=saving.cure.typed,
        evidence=(*finding.evidence, saving.evidence(x)),
        cures=tuple(dict.fromkeys((saving.cure, *finding.cures))),
        since=saving.since,
        is_tried=True,
    )


def rate_too_large(x: RunFacts) -> Iterator[Finding]:
    """Find steps that change the weights by more than a tenth while the loss rises; or at the beginning, or by more than a half, or
    after which the loss rises again, if a smaller rate is better.

    Where numbers are not finite any more, the steps before that are examined, and where the run explodes, those before it.
    """
    if explosions := list(_rate_that_explodes(x)):
        yield from explosions
        return
    finite = x.learned[np.isfinite(x.losses[x.learned])]
    windows = _windows(x.losses[finite])
    short = len(windows) < 2
    if short and len(finite) == len(x.learned) and not _has_soon_risen(x.losses[finite]):
        return
    if not len(finite) or "learning_rate" not in x.moment.record.settings:
        return
    first, last = int(finite[0]), int(finite[-1])
    began, at_first, at_last = float(x.losses[first]), _step_ratio(x, [first]), _last_ratio(x, last)
    batch, ratio = (last, at_last) if at_last > _LARGE else (first, at_first)
    soon = short and len(finite) == len(x.learned)
    now, best = (float(windows[-1]), min(began, *windows[:-1])) if not short else (math.inf, began)
    if soon:
        now = float(x.losses[finite][-(len(finite) // 2) :].mean())
    elif last != x.learned[-1]:
        now = math.inf
    risen = now > _UP * (best if batch == last or ratio <= _LARGE else began) + _ABOVE
    saving, place = None, -1
    # The first step of Adam is large by itself: where only that is, a smaller rate has to be better, as soon as one can be tried.
    if soon or not (risen and (at_last > _LARGE or (ratio > _LARGE and len(x.learned) < LEAST_TRIED))):
        if not (max(at_first, at_last) > _HUGE or now > _UP * best + _ABOVE):
            return
        # A rate that was raised may do harm only to what was learned before that.
        if soon:
            saving = _saves_before(x, last, _rates_for(x, max(at_first, at_last)))
        else:
            rates = smaller_rates(x.moment.record.settings)[:3]
            saving = _saves(x, rates, also_from_rise=True)
            rises_at = _leaves(finite, windows, best)
            if saving is None and now > _UP * best + _ABOVE and len(x.learned) >= LEAST_TRIED:
                place = rises_at
                saving = _saves_before(x, place, rates)
            if saving is not None and max(at_first, at_last) <= _HUGE:
                start = int(np.searchsorted(x.learned, rises_at))
                if _loss_unchanged(x, start) > float(x.losses[x.learned][start : start + _WINDOW].mean()) - _HARMFUL:
                    return  # a passage of the text that is as hard without these steps
        if saving is None:
            return
        batch, ratio = (last, at_last) if at_last > at_first else (first, at_first)
        if place >= 0:
            batch, ratio = place, _step_ratio(x, [place])
    settings = x.record(batch).settings
    last_few = len(finite) // 2 if soon else _WINDOW
    step = f"a step changes the weights by {rounded(100 * ratio)} %"
    yield Finding(
        "rate-too-large",
        f"the learning rate is too large: {step if place < 0 else f'from {x.at(place)} on the loss rises'}",
        "Such large steps overshoot the minimum" + (", and the loss rises." if risen else ", and the loss stays high."),
        f"{Cure('learning_rate', settings['learning_rate'] / 10).typed} or less" if saving is None else saving.cure.typed,
        (
            Evidence(f"the last {counted(last_few, 'batch')} lose {rounded(now)} on average; it has been {rounded(best)}")
            if math.isfinite(now)
            else Evidence(f"after {counted(len(finite), 'batch')} the loss is not finite; it was {rounded(began)}"),
            *([of_explosion(x.explosion, x)] if x.explosion else []),
            *([saving.evidence(x)] if saving else []),
            Evidence(f"‖ΔW‖ / ‖W‖ over all weights is {rounded(ratio)} in {x.at(batch)}{_usual(ratio)}"),
            *_grad_norm_beside(x.explosion, x, batch),
        ),
        x.end(batch),
        tuple(dict.fromkeys((*((saving.cure,) if saving else ()), *smaller_rates(settings), Cure("clip", 1.0)))),
        saving.since if saving else 0,
        is_tried=saving is not None,
    )


def _leaves(batches: NDArray[np.intp], windows: Float64Array, best: float) -> int:
    """Return the batch from which on the windows of losses are above the best one; the last batch if they are not."""
    low = [i for i, loss in enumerate(windows.tolist()) if is_back(loss, best)]
    after = len(batches) % _WINDOW + _WINDOW * (low[-1] + 1 if low else 0)
    return int(batches[min(after, len(batches) - 1)])


def _has_soon_risen(losses: ScalarRows) -> bool:
    """Return True if the later half of a few losses is more than ten times the first one: too far above it for chance."""
    half = len(losses) // 2
    return half > 0 and bool(losses[-half:].mean() > _SOON_ABOVE * losses[0] + FAR)


def _last_ratio(x: RunFacts, last: int) -> float:
    """Return the median of ‖ΔW‖ / ‖W‖ of the last updates up to a batch."""
    if len(x.learned) and last == x.learned[-1]:
        return _step_ratio(x, (batch for batch, _ in x.recently_learned))
    return _step_ratio(x, [last])


def rate_too_small(x: RunFacts) -> Iterator[Finding]:
    """Find steps that hardly change the weights while the loss has hardly fallen, or small steps where a larger rate is better and
    the model does not even know the frequencies of the characters."""
    if not x.program.update:  # in a recording, each step has its weights before the update only
        return
    learned = _with_same_rate(x)
    windows, ratio = _windows(x.losses[learned]), _step_ratio(x, (batch for batch, _ in x.recently_learned))
    largest = _largest_ratio(x)
    if not len(windows) or not ratio < _SLOW or not largest < _SLOW:
        return
    batch, record = x.recently_learned[-1]
    norm, settings = x.column("grad_norm", batch, batch)[0], record.settings
    flat = len(windows) > 1 and windows[-1] > _DOWN * windows[0] and windows[-1] > _DOWN * x.losses[learned[0]]
    rate = settings["learning_rate"]
    still = rate == 0 or (bool(norm > 0) and flat and max(ratio, largest) < _SMALL)
    saving = None
    if not still:
        if not _hardly_begun(x):
            return
        saving = _saves(x, larger_rates(settings)[:3])
        if saving is None:
            return
    # With a rate in proportion, a step has the usual size.
    first = saving.cure if saving else Cure("learning_rate", float(f"{rate * _USUAL / max(ratio, largest, _LEAST):.1g}"))
    hides = largest > _HIDDEN * ratio
    yield Finding(
        "rate-too-small",
        f"the learning rate is too small: a step changes {'each matrix' if hides else 'the weights'} by "
        f"{f'at most {rounded(largest)} of its' if hides else f'{rounded(ratio)} of their'} size"
        if rate
        else "the learning rate is 0: the weights do not change",
        "At this rate it takes very many steps to change the weights noticeably."
        if rate
        else "Each update is multiplied by the rate, so it is 0.",
        first.typed if rate else "a --learning-rate that is not 0",
        (
            Evidence(
                f"‖ΔW‖ / ‖W‖ of the matrix that moves most is {rounded(largest)}, the median of the last steps{_usual(largest)}"
                if hides
                else f"‖ΔW‖ / ‖W‖ over all weights is {rounded(ratio)}, the median of the last steps{_usual(ratio)}"
            ),
            Evidence(_in_windows(windows) if rate else f"{counted(len(learned), 'batch')} have been computed with the rate 0"),
            *([saving.evidence(x)] if saving else []),
            _grad_norm(x, batch),
        ),
        x.end(int(learned[0])),
        (*((first,) if rate else ()), *(cure for cure in larger_rates(settings) if cure != first)),
        is_tried=saving is not None,
    )


def _in_windows(windows: Float64Array) -> str:
    if len(windows) == 1:
        return f"the loss is {rounded(windows[0])} on average in the last {_WINDOW} batches"
    return f"the loss was {rounded(windows[0])} in the first {_WINDOW} batches, and is {rounded(windows[-1])} in the last"


def _predicts_text(x: RunFacts) -> bool:
    """Return True if the loss is the cross-entropy of the characters of a text, so that tables can be compared with it."""
    return x.config.source.can(Ability.TEXT) and x.program.model.is_cross_entropy


def _hardly_begun(x: RunFacts) -> bool:
    """Return True if the loss is above that of the frequencies of the characters after an epoch, or has hardly moved towards it."""
    if not _predicts_text(x):
        return False
    losses = x.losses[x.learned]
    goal, began = baselines(x.corpus.text, x.config.vocab_size).unigram, float(losses[0])
    epoch = x.program.num_batches
    if len(losses) >= max(_BEGUN, epoch):
        return bool(losses[-epoch:].mean() > goal + _ABOVE)
    return len(losses) >= _CREEP and began > goal + _HARMFUL and bool(losses[-_WINDOW:].mean() > began - (began - goal) / 10)


def _grad_norm_beside(explosion: Explosion | None, x: RunFacts, batch: int) -> Iterator[Evidence]:
    """Yield the norm of the gradient of a batch, unless the evidence of the explosion is that norm."""
    if explosion is None or not explosion.is_of_update or x.timeline.position(explosion.tick).number != batch:
        yield _grad_norm(x, batch)


def _grad_norm(x: RunFacts, batch: int) -> Evidence:
    norm = float(x.column("grad_norm", batch, batch)[0])
    rate = x.record(batch).settings["learning_rate"]
    parameter = x.program.parameters[0]
    index = (0,) * len(x.program.names[parameter].axes)
    value = float(x.record(batch).after[parameter][index])
    words = (
        f"the gradient of {x.at(batch)} has the norm {rounded(norm)}, the learning rate is {rounded(rate)}; "
        f"{spoken(x.program, parameter, index)} is {rounded(value)} after it"
    )
    return Evidence(words, x.entry(batch, parameter, index), value)


# ------------------------------------------------------------------------------
# How the loss goes on: it rises, it jumps, or nothing is learned.


def gradient_ascent(x: RunFacts) -> Iterator[Finding]:
    """Find updates that go in the direction of the gradient, in the first batches that learned and in the last ones."""
    if not x.program.update or not len(x.learned):
        return
    first = [(batch, x.record(batch)) for batch in x.learned[:_STEPS].tolist()]
    slopes = [_slope(record) for _, record in (*first, *x.recently_learned)]
    if not all(slope >= 0 for slope in slopes) or not all(slope > 0 for slope in slopes[: len(first)]):
        return
    batch, slope = first[0][0], slopes[0]
    yield Finding(
        "gradient-ascent",
        "the weights move along the gradient, not against it",
        "Each step makes the loss of its own batch larger: this is gradient ascent.",
        "subtract the gradient in the update rule",
        (
            Evidence(
                f"the step of {x.at(batch)} changes its loss by ΔW · dW = {rounded(slope)}, to first order; it should be negative"
            ),
            _grad_norm(x, batch),
        ),
        x.end(batch),
    )


def _slope(record: BatchRecord) -> float:
    """Return the product of an update and the gradient: the change of the loss to first order."""
    count = record.before.layout.count
    step = np.asarray(record.after.parameters, np.float64) - record.before.parameters
    return float(step @ np.asarray(record.own_gradients.flat[:count], np.float64))


def has_risen(x: RunFacts) -> bool:
    """Return True if the loss is above the first one in the last batches."""
    windows = _windows(x.losses[x.learned])
    return len(windows) > 1 and bool(windows[-1] > _UP * x.losses[x.learned[0]] + _ABOVE)


def loss_rises(x: RunFacts) -> Iterator[Finding]:
    """Find last batches that lose more than they would with the weights of the beginning: the first batch can be an easy one."""
    if not has_risen(x) or not x.config.source.can(Ability.TRAIN):
        return
    batches, batch = x.learned[-_WINDOW:], int(x.learned[-1])
    first = int(batches[0])
    losses = losses_with_first_weights(x.timeline, first, batch + 1 - first, x.check)
    at_first = float(np.mean([losses[at - first] for at in batches.tolist() if at - first < len(losses)] or [math.nan]))
    now = float(x.losses[batches].mean())
    if not now > at_first + _ABOVE:
        return
    yield Finding(
        "loss-rises",
        "the loss is higher than with the weights of the beginning",
        "A step should lower the loss of its batch; these steps lead away from the minimum.",
        f"look where it begins to rise; {of_steps(x)}",
        (
            Evidence(f"the last {_WINDOW} batches lose {rounded(now)} on average; with the first weights, {rounded(at_first)}"),
            _grad_norm(x, batch) if x.program.update else x.loss_of(batch),
        ),
        x.end(batch),
        smaller_rates(x.moment.record.settings),
    )


class _Jump(NamedTuple):
    """A place where the loss jumps up and from which it has not come back: the batch, its place among those that have learned, the
    mean losses before and from there on, and the loss of the same batches with the weights of shortly before, NaN if unknown."""

    batch: int
    place: int
    before: float
    after: float
    unchanged: float


def _jump_places(losses: ScalarRows) -> Iterator[tuple[int, float]]:
    """Yield each place, among batches that have learned, where a window of losses begins that is far above those before, with the
    largest of these."""
    windows = _windows(losses)
    if len(windows) < _JUMP_AFTER + 1:
        return
    before = np.maximum.reduce([windows[i : len(windows) - _JUMP_AFTER + i] for i in range(_JUMP_AFTER)])
    first = len(losses) % _WINDOW + _JUMP_AFTER * _WINDOW  # the first batch of the windows, among those that have learned
    for jump in np.flatnonzero(windows[_JUMP_AFTER:] > 1.5 * before + 5 * _ABOVE).tolist():
        start = first + jump * _WINDOW
        if windows[_JUMP_AFTER + jump] - before[jump] > _NOISY * _noise(losses[:start][-_NOISE_OF:]):
            yield start, float(before[jump])


def after_jumps(x: RunFacts) -> list[int]:
    """Return after how many batches the loss of a run has jumped, the last places first, whether it has come back or not."""
    places = [start for start, _ in _jump_places(x.losses[x.learned])]
    return [int(x.learned[min(start + _WINDOW, len(x.learned)) - 1]) + 1 for start in reversed(places)]


def _jump(x: RunFacts) -> _Jump | None:
    """Return the first jump of the loss from which it has not come back, and which is not that of a hard passage of the text."""
    losses = x.losses[x.learned]
    places = dict(_jump_places(losses))
    if (at_edit := _jump_at_edit(x, losses)) is not None:
        places.setdefault(at_edit, float(losses[at_edit - _WINDOW : at_edit].mean()))
    for start, level in sorted(places.items()):
        if is_back(float(losses[-_WINDOW:].mean()), level) and start != at_edit:
            continue
        place = start
        if start != at_edit:  # the first loss that is nearer to those of the jump
            between = (level + float(losses[start : start + _WINDOW].mean())) / 2
            place += int(np.argmax(losses[start - _WINDOW : start + _WINDOW] > between)) - _WINDOW
        before, after = float(losses[:place][-_WINDOW:].mean()), float(losses[place : place + _WINDOW].mean())
        unchanged = _loss_unchanged(x, place)
        if unchanged <= (before + after) / 2 or (start == at_edit and math.isnan(unchanged)):
            return _Jump(int(x.learned[place]), place, before, after, unchanged)
    return None


def _loss_unchanged(x: RunFacts, place: int) -> float:
    """Return the loss of the batches of a jump with the weights of shortly before it and of any change there; NaN in the first."""
    batches = x.learned[place : place + _WINDOW]
    since = int(x.learned[max(place - _WINDOW, 0)])
    changed = [segment.start for segment in _changes(x, place)]
    since = min([since, *(x.timeline.completed(x.timeline.position(start)) for start in changed)])
    if since < 1 or not x.config.source.can(Ability.TRAIN):
        return math.nan
    losses = losses_without_learning(x.timeline, since, int(batches[-1]) + 1 - since, x.check)
    return float(np.mean([losses[batch - since] for batch in batches.tolist() if batch - since < len(losses)] or [math.nan]))


def _changes(x: RunFacts, place: int) -> list[HistorySegment]:
    """Return the changes that were made by hand shortly before a batch, which has this place among those that have learned."""
    low, high = int(x.learned[max(place - _WINDOW, 0)]) - _WINDOW, int(x.learned[place])
    return [segment for segment in x.timeline.segments[1:] if low <= segment.first_batch <= high]


def loss_jumps(x: RunFacts) -> Iterator[Finding]:
    """Find the first place in the whole run where the loss jumps up, and what was changed there; a jump that is back is none, nor
    are batches that are as hard for the weights of before."""
    if (jump := _jump(x)) is None:
        return
    batch, then, now = jump.batch, rounded(jump.before), rounded(jump.after)
    changes = [segment.action for segment in _changes(x, jump.place)]
    change = f": {changes[-1].name or changes[-1].kind.replace('_', ' ')} was changed there" if changes else ""
    ratio = _step_ratio(x, [batch]) if x.program.update else math.nan
    losses = x.losses[x.learned][jump.place : jump.place + _WINDOW]
    few = f"{counted(len(losses), 'batch')} from there on"
    yield Finding(
        "loss-jumps",
        f"the loss jumps from {then} to {now} at {x.at(batch)}{change}",
        "What was learned before is lost there.",
        "go there, and look at what was changed and at what is read" if changes else f"go there; {of_steps(x)}",
        (
            Evidence(f"the {few} lose {now} on average, those before {then}"),
            *(
                [Evidence(f"with the weights of {x.at(batch - _WINDOW)}, they would lose {rounded(jump.unchanged)}")]
                if math.isfinite(jump.unchanged)
                else []
            ),
            *([Evidence(f"‖ΔW‖ / ‖W‖ over all weights is {rounded(ratio)} in {x.at(batch)}")] if math.isfinite(ratio) else []),
            x.loss_of(batch),
        ),
        x.end(batch),
        () if changes else (*smaller_rates(x.moment.record.settings), Cure("clip", 1.0)),
    )


def _jump_at_edit(x: RunFacts, losses: ScalarRows) -> int | None:
    """Return the first batch, counted among those that have learned, after a number was edited by hand if the loss is surely larger
    from there on, and still is. Where nothing was edited, a healthy run may show that."""
    for segment in x.timeline.segments[1:]:
        start = int(np.searchsorted(x.learned, x.timeline.completed(x.timeline.position(segment.start))))
        if not segment.edited or not _WINDOW <= start <= len(losses) - _WINDOW:
            continue
        then, now = float(losses[start - _WINDOW : start].mean()), float(losses[start : start + _WINDOW].mean())
        lost = min(now, float(losses[-_WINDOW:].mean()))
        if lost > 1.1 * then + _ABOVE and now - then > _NOISY * _noise(losses[:start][-_NOISE_OF:]):
            return start
    return None


def learning_is_off(x: RunFacts) -> Iterator[Finding]:
    """Find a run whose last batches do not learn, although batches before them did."""
    idle = x.count - 1 - int(x.learned[-1]) if len(x.learned) else 0
    if idle < 2 * _WINDOW or not x.config.source.can(Ability.TRAIN):
        return
    batch = int(x.learned[-1]) + 1
    yield Finding(
        "learning-is-off",
        f"learning is off: the last {counted(idle, 'batch')} did not change the weights",
        "A batch that does not learn ends after its loss, without a backward pass and an update.",
        "turn learning on (l)",
        (
            Evidence(f"the last batch that learned is {x.at(batch - 1)}"),
            x.loss_of(batch),
        ),
        x.end(batch),
    )


def target_is_read(x: RunFacts) -> Iterator[Finding]:
    """Find a model that predicts all characters but the last of a row, because it reads them from the other direction."""
    name, backwards = x.program.loss_names.row, [s for s, state in x.program.model.page.states.items() if state.backwards]
    if not backwards or not name or not x.program.model.is_cross_entropy or x.program.seq_length < 2 or not x.recent:
        return
    losses = np.mean([loss_of_rows(x.program, record.array(name)).mean(axis=1) for _, record in x.recent], axis=0)
    inside, last = float(losses[:-1].mean()), float(losses[-1])
    if not inside < 0.6 * last - 1e-3:
        return
    batch, record = x.recent[-1]
    T = x.program.seq_length
    values = record.array(backwards[-1])[0, 0]
    unit = int(np.argmax(np.abs(values)))
    yield Finding(
        "target-is-read",
        f"the model reads what it predicts: {x.written(backwards[-1])} comes from the next character",
        "A state that is read backwards knows the characters after it, so the loss says nothing about prediction.",
        "--no-bidirectional; a model of both directions needs targets that are not in its input",
        (
            Evidence(f"the loss is {rounded(inside)} at t 1 to {T - 1}, where the next character is read too"),
            Evidence(f"it is {rounded(last)} at t {T}, after which nothing is read"),
            Evidence(
                f"{x.written(backwards[-1])}[row 1, unit {unit + 1}] = {rounded(values[unit])} at t 1 of {x.at(batch)}",
                x.entry(batch, backwards[-1], (0, unit), 0),
                float(values[unit]),
            ),
        ),
        x.end(batch),
        (Cure("bidirectional", False),),
    )


# ------------------------------------------------------------------------------
# Where the loss ends: above a table, with a character that is never predicted, or by heart.


class _Settled(NamedTuple):
    """A loss that has settled above that of a table: the mean of the last epochs, `quarter` of them, and of as many before."""

    table: str
    of_table: float
    now: float
    before: float
    quarter: int


def _settled(x: RunFacts) -> _Settled | None:
    """Return a loss that has settled above that of a unigram or bigram table; None if it has not."""
    N = x.program.num_batches
    epochs = len(x.learned) // N
    if epochs < _EPOCHS or len(x.learned) < _BATCHES or not _predicts_text(x):
        return None
    losses = x.losses[x.learned][-epochs * N :].reshape(epochs, N).mean(axis=1)
    quarter = epochs // 4
    now, before = float(losses[-quarter:].mean()), float(losses[-2 * quarter : -quarter].mean())
    if not (now > 0.99 * before and np.isfinite(now)):
        return None
    text, V = x.corpus.text, x.config.vocab_size
    tables = ("single characters", baselines(text, V).unigram), ("pairs", bigram_of_others(text, V))
    return next((_Settled(words, value, now, before, quarter) for words, value in tables if now > 1.05 * value), None)


def is_worse_than_a_table(x: RunFacts) -> bool:
    """Return True if the loss has settled above that of a table."""
    return _settled(x) is not None


def worse_than_a_table(x: RunFacts) -> Iterator[Finding]:
    """Find a loss that has settled above that of a unigram or bigram table."""
    if (settled := _settled(x)) is None:
        return
    words, value, now, before, quarter = settled
    batch = int(x.learned[-1])
    yield Finding(
        "worse-than-a-table",
        f"the loss has settled above that of a table of {words}",
        f"Counting the {words} of this text and predicting by their frequencies would do better, so the model makes little use of "
        "what it has read.",
        "more units (--hidden-size), another --learning-rate, or longer rows (--seq-length)",
        (
            Evidence(f"the last {counted(quarter, 'epoch')} lose {rounded(now)} on average, those before {rounded(before)}"),
            Evidence(f"a table of {words} loses {rounded(value)} on this text"),
            x.loss_of(batch),
        ),
        x.end(batch),
        (
            Cure("hidden_size", 4 * x.config.hidden_size),
            *larger_rates(x.moment.record.settings)[:2],
            *smaller_rates(x.moment.record.settings)[:2],
            Cure("seq_length", 4 * x.config.seq_length),
            Cure("optimizer", "adam"),
            Cure("cell", "gru"),
        ),
    )


def never_predicted(x: RunFacts) -> Iterator[Finding]:
    """Find a frequent character that the model never predicts after an epoch of learning."""
    name = x.program.loss_names.prediction
    if not x.program.model.classifies or name not in x.values or len(x.learned) < max(x.program.num_batches, 50):
        return
    learned = x.recently_learned
    targets = np.concatenate([record.ids(x.program.target).ravel() for _, record in learned]) if learned else np.empty(0, np.intp)
    if len(targets) < 32:
        return
    predicted = np.concatenate([record.array(name).reshape(len(targets) // len(learned), -1) for _, record in learned])
    frequency = np.bincount(targets, minlength=x.config.vocab_size) / len(targets)
    mean, ever = predicted.mean(axis=0), np.bincount(predicted.argmax(axis=1), minlength=x.config.vocab_size) > 0
    characters = np.flatnonzero((frequency >= _FREQUENT) & (mean < _SHARE * frequency) & ~ever & _has_low_bias(x))
    for char in characters.tolist():
        batch, record = learned[-1]
        t, row = 0, 0
        value = float(record.array(name)[t, row, char])
        shown = x.quoted(x.config.vocabulary[char])
        yield Finding(
            "never-predicted",
            f"{shown} is never predicted, although it is frequent",
            f"A trained model predicts each {token_word(x.config.vocabulary)} about as often as it occurs.",
            f"check its entry of the last bias ({', '.join(map(x.written, x.program.of_head))}), and what was edited",
            (
                Evidence(f"{shown} is {rounded(100 * frequency[char])} % of what was to be predicted in the last batches"),
                Evidence(f"its probability was {rounded(mean[char])} on average, and never the largest"),
                Evidence(
                    f"{x.written(name)}[row 1, {shown}] = {rounded(value)} at t 1 of {x.at(batch)}",
                    x.entry(batch, name, (row, char), t),
                    value,
                ),
            ),
            x.end(batch),
        )


def _has_low_bias(x: RunFacts) -> NDArray[np.bool_]:
    """Return for which characters a bias of the head is far below the others, (V). Training alone seldom moves it so far."""
    V, low = x.config.vocab_size, np.zeros(x.config.vocab_size, bool)
    weights = x.recently_learned[-1][1].after
    for name in x.program.of_head:
        if weights[name].shape == (V,):
            low |= weights[name] < np.median(weights[name]) - _LOW_BIAS
    return low


def overfitting(x: RunFacts) -> Iterator[Finding]:
    """Find a loss on a held-out text that has risen again while the training loss fell."""
    if len(x.held_out) < 2 or len(x.learned) < _PLACES or not x.program.loss_names.row:
        return
    read: dict[int, float] = {}  # the loss of the held-out text after each of some batches
    low, high = 0, len(x.learned) - 1
    for _ in range(_REFINEMENTS):
        for batch in x.learned[np.linspace(low, high, _PLACES).astype(int)].tolist():
            if batch not in read:
                read[batch] = held_out_loss(x.program, x.held_out, x.record(batch).after)
        places = sorted(read)
        held_out_losses = [read[batch] for batch in places]
        best = int(np.argmin(held_out_losses))
        low, high = (int(np.searchsorted(x.learned, places[k])) for k in (max(best - 1, 0), min(best + 1, len(places) - 1)))
        if high - low < _PLACES or not held_out_losses[-1] > held_out_losses[best] + _RISEN:
            break
    span = x.losses[x.learned]
    if best == len(held_out_losses) - 1 or not held_out_losses[-1] > held_out_losses[best] + _RISEN:
        return
    then, now = (
        float(span[max(0, at - _WINDOW) : at + 1].mean()) for at in (np.searchsorted(x.learned, places[best]), len(span) - 1)
    )
    if not now < then:
        return
    batch = places[-1]
    yield Finding(
        "overfitting",
        "the loss on the held-out text has risen again",
        "The model memorises this text: what it learns now does not apply to other texts.",
        f"go back to {x.at(places[best])}; then more text, or fewer units (--hidden-size)",
        (
            Evidence(f"held out: {rounded(held_out_losses[best])} at {x.at(places[best])}, {rounded(held_out_losses[-1])} now"),
            Evidence(f"training: {rounded(then)} then, {rounded(now)} now"),
            x.loss_of(batch),
        ),
        x.end(places[best]),
    )


def held_out_text(config: Config, text: str) -> Text:
    """Return the first 10,000 tokens of a held-out text. Raises `TuiGruError` if it does not fit the vocabulary."""
    text = arguments.string("the text that was held out", text, option="held_out")
    if text and not config.source.can(Ability.TEXT):
        raise TuiGruError("a run without a text has no held-out text; remove the option", option="held_out")
    tokens, allowed = tokenized(text, config.vocabulary, "held_out"), frozenset(config.vocabulary)
    strange = next((token for token in tokens if token not in allowed), "")
    if strange:
        vocabulary = config.shown_vocabulary
        raise TuiGruError(
            f"the text that was held out has {strange!r}, which is not in the vocabulary {vocabulary}", option="held_out"
        )
    return tokens[:HELD_OUT]


def held_out_loss(program: Program, text: Text, weights: Weights) -> float:
    """Return the mean loss on a held-out text, in nats. Raises `TuiGruError`."""
    name = program.loss_names.row
    values = loss_of_rows(program, values_after_characters(program.config, weights, text, [name])[name])
    return float(values[:-1].mean())
