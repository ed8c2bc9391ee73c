"""Experiments on copies of a script's model: what only a trial can show, with both numbers.

Each trial trains a copy on watched steps and is judged by other ones; the script's training stays as it is. What is tried follows
from a fact, or from a loss that does not fall; what is said follows from the trial alone.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any

from tui_gru.analysis.causes import EXACT, OBSERVED, PROVEN, TRIAL_ALONE, ProvenCause, WatchedSteps
from tui_gru.capture.criterion import REGRESSIONS, Tape
from tui_gru.capture.facts import UpdateFacts
from tui_gru.capture.replay import JUDGED, MOST_TRAINED, Replay, TrialOfSteps
from tui_gru.engine.numbers import counted
from tui_gru.errors import CaptureError

if TYPE_CHECKING:
    from torch import Tensor
    from torch.nn import Module

_SURE = 3.0  # times the standard error of the difference of two trials, judged by the same steps
_WORTH = 0.1  # share of the loss by which a trial must be lower: what a user would call better
MOST_WORK = 16 * 10**9  # products of a weight and an input that the trials of a script may compute forwards: some 2.5 seconds
_STAYS, _RISES = 0.25, 1.05  # a loss that has fallen by less, or risen by more, is worth an experiment
_AS_CONSTANT = 0.93  # of the loss of the best constant prediction
#: What explains a loss that does not fall: no rate is tried beside it.
EXPLAINS = frozenset({
    "changed-outside", "constant-target", "axes-swapped", "time-reversed", "detached-at-every-timestep", "not-registered",
    "constant-input", "smoothing", "no-log", "mask-inverted", "targets-of-other-rows", "state-swapped", "frozen",
    "never-moves", "last-output-of-both-directions", "softmax-twice", "nll-without-log", "relu-before-ce", "negated", "maximize",
    "no-backward", "cleared-before-step", "optimizer-of-other", "broadcast", "nan-input", "zero-input", "rows-mixed",
    "view-not-transpose", "under-no-grad", "detached", "all-gradients-0", "sigmoid-twice", "targets-in-other-order",
    "weights-are-rounded", "accumulation-lost", "equal-weights", "one-timestep", "gradient-not-cleared", "target-out-of-range",
    "optimizer-recreated", "input-not-read", "gradient-turned", "no-context", "tokens-alike", "softmax-over-other-axis",
    "clipped-too-late", "gradient-not-finite", "rows-permuted", "clipped-too-early", "rate-decayed", "steps-are-lost", "rows-alike",
    "inputs-shrink", "softmax-over-one", "over-rows", "nan-target", "losses-lost", "blank-in-targets", "ctc-too-short",
    "target-is-input", "target-in-input", "text-across-rows", "missing-as-number", "state-not-passed", "carried-over-shuffled",
})  # fmt: skip


class NoTrialLeftError(CaptureError):
    """Raised for a trial that would take longer than a user waits."""


@dataclass(eq=False)
class Experiments:
    """The trials for one script. `check` is called between two steps of a trial, and may raise an error; `left` is the work that
    may still be done, some seconds of it at first. It counts products, so that what is tried is the same on every machine."""

    facts: WatchedSteps
    replay: Replay
    check: Callable[[], object] = lambda: None
    left: int = field(default_factory=lambda: MOST_WORK)

    # The steps that are trained on, and those that trials are judged by

    @cached_property
    def tapes(self) -> list[Tape]:
        with_criterion = [tape for tape in self.replay.finite if tape.criterion is not None]
        return with_criterion or self.replay.finite

    @cached_property
    def judged(self) -> list[Tape]:
        return self.tapes[-JUDGED:] if len(self.tapes) > 2 * JUDGED else []

    @cached_property
    def trained(self) -> list[Tape]:
        return self.tapes[: len(self.tapes) - len(self.judged)]

    def trial(self, tapes: Sequence[Tape] = (), steps: int = MOST_TRAINED, **changed: Any) -> TrialOfSteps:
        """Train a copy with something changed, and the clip of the script; or on some steps, which then judge it as well.

        Raises `NoTrialLeftError` if no work is left for it.
        """
        trained, judged = (tapes, ()) if tapes else (self.trained, self.judged)
        work = self.replay.work_of(trained[0]) * self.replay.steps_within_work(trained, steps)
        if work > self.left:
            raise NoTrialLeftError("the model is so large that no other trial is done within three seconds")
        self.left -= work
        changed.setdefault("clip", self.clip)
        return self.replay.train(trained, judged, steps=steps, check=self.check, **changed)

    @cached_property
    def unchanged(self) -> TrialOfSteps:
        """The trial of the script as it is."""
        return self.trial()

    def conditions(self, *, start: bool = True) -> str:
        """Return in words what trials begin with, train on and are judged by."""
        steps = self.replay.steps_within_work(self.trained, MOST_TRAINED)
        judged = f", judged by {len(self.judged)} others" if self.judged else ""
        weights = "the first watched weights" if start else "the present weights"
        return f"on a copy from {weights}, {steps} steps over {counted(len(self.trained), 'kept batch')}{judged}"

    def numbers(self, without: TrialOfSteps, with_it: TrialOfSteps, words: str, **of: Any) -> str:
        return f"{self.conditions(**of)}: loss {_loss(without.loss)} as it is, {_loss(with_it.loss)} {words}"

    # The loss and the gradient of the script

    @cached_property
    def losses(self) -> list[float]:
        recorded = list(self.facts.losses)
        return recorded if len(recorded) > len(self.facts.training) else [s.loss for s in self.facts.training if s.loss is not None]

    @cached_property
    def first(self) -> float:
        finite = [loss for loss in self.losses if math.isfinite(loss)][:3]
        return sum(finite) / len(finite) if finite else math.nan

    @cached_property
    def end(self) -> float:
        last = self.losses[-max(4, len(self.losses) // 12) :]
        return sum(last) / len(last) if last else math.nan

    @cached_property
    def constant(self) -> float | None:
        """The loss of the best constant prediction, where the loss is that of one criterion as it is."""
        criteria = self.facts.criteria
        if not criteria or criteria[-1].factor is None or abs(criteria[-1].factor - 1) > 0.02 or criteria[-1].criteria != 1:
            return None
        recorded = [c.constant for c in criteria if c.constant is not None]
        return sum(recorded) / len(recorded) if recorded else None

    @cached_property
    def diverges(self) -> bool:
        return not math.isfinite(self.end) or (self.end > _RISES * self.first and self.first > 0)

    @cached_property
    def stays(self) -> bool:
        at_constant = self.constant is not None and self.constant > 0 and self.end > _AS_CONSTANT * self.constant
        return not self.end < self.first - _STAYS * abs(self.first) or at_constant

    @cached_property
    def has_stood_still(self) -> bool:
        """True if the loss of the last quarter of all steps is not surely lower than that of the quarter before."""
        n = len(self.losses) // 4
        before, last = self.losses[-2 * n : -n], self.losses[-n:]
        if n < 8 or not all(map(math.isfinite, (*before, *last))):
            return False
        means = sum(before) / n, sum(last) / n
        square = sum((loss - means[0]) ** 2 for loss in before) + sum((loss - means[1]) ** 2 for loss in last)
        return means[0] - means[1] < _SURE * math.sqrt(square / (2 * n - 2) * 2 / n)

    @cached_property
    def updates(self) -> tuple[UpdateFacts, ...]:
        return tuple(update for update in self.facts.own_updates if update.passes > 0 and update.handed > 0)

    @cached_property
    def settings(self) -> Mapping[str, float]:
        return self.facts.own_updates[-1].settings if self.facts.own_updates else {}

    @cached_property
    def rate(self) -> float:
        """The largest learning rate of the first third of the watched updates."""
        rates = [update.settings.get("lr", math.nan) for update in self.facts.own_updates]
        return max(rates[: max(1, len(rates) // 3)], default=math.nan)

    @property
    def kind(self) -> str:
        return self.facts.own_updates[-1].kind if self.facts.own_updates else ""

    @cached_property
    def clip(self) -> float | None:
        """The norm to which the script clips its gradients: p.grad has the direction of what was handed, and one norm in all
        steps."""
        shorter = [u for u in self.updates if u.cosine > 0.999 and u.norm < 0.999 * u.handed]
        if len(shorter) < 2 or len(shorter) <= 0.5 * len(self.updates):
            return None
        norms = sorted(u.norm for u in shorter)
        ratios = sorted(u.norm / u.handed for u in shorter)
        is_one_norm = norms[-1] < 1.01 * norms[0]
        is_one_factor = ratios[-1] < 1.01 * ratios[0]
        return norms[len(norms) // 2] if is_one_norm and not is_one_factor else None

    @cached_property
    def scale(self) -> float | None:
        """The factor of the gradient that the optimizer uses to that of the criterion's plain mean; None if it is not known."""
        factors = sorted(c.factor for c in self.facts.criteria if c.factor is not None)
        ratios = sorted(u.norm / u.handed for u in self.updates if u.cosine > 0.999)
        if not factors or len(factors) < len(self.facts.criteria):
            return None
        left = ratios[len(ratios) // 2] if ratios and self.clip is None else 1.0
        return abs(factors[len(factors) // 2]) * left

    def is_better(self, trial: TrialOfSteps, than: TrialOfSteps) -> bool:
        """Return True if a trial ends surely lower than another one: by `_SURE` times the standard error of the difference over the
        steps that judge both, and by a share of the loss that is worth it."""
        if not math.isfinite(trial.loss):
            return False
        if not math.isfinite(than.loss):
            return trial.loss < self.first
        gain = than.loss - trial.loss
        if gain < _WORTH * abs(than.loss) or gain < 0.02 * abs(self.first):
            return False
        differences = [b - a for a, b in zip(trial.judged, than.judged, strict=False)]
        if len(differences) < 2:
            return True
        mean = sum(differences) / len(differences)
        deviation = math.sqrt(sum((d - mean) ** 2 for d in differences) / (len(differences) - 1))
        return mean >= _SURE * deviation / math.sqrt(len(differences))


def _loss(value: float) -> str:
    return f"{value:.3g}" if math.isfinite(value) else "not finite"


def causes_by_experiment(x: Experiments, causes: Sequence[ProvenCause]) -> Iterator[ProvenCause]:
    """Yield what trials show, after the causes that facts and reading show."""
    names = {cause.name for cause in causes if cause.proof >= EXACT}
    if not x.tapes:
        return
    yield from _of_state_of_rows(x)
    if names & EXPLAINS or not x.facts.own_updates or not math.isfinite(x.first):
        return
    shown, why = list[ProvenCause](), ""
    try:
        for experiment in (_of_settings, _of_clip, _of_scale, _of_schedule):
            shown += experiment(x)
            if shown:
                break
        if not shown and (x.stays or x.diverges):
            for experiment in (_of_inputs, _of_targets, _of_first_weights, _of_rates, _of_axes):
                shown += experiment(x)
                if shown:
                    break
    except NoTrialLeftError as error:
        why = str(error)
    yield from shown
    if not shown and not names and x.stays:
        yield from _undecided(x, why)


# ------------------------------------------------------------------------------
# What the optimizer does.


def _of_settings(x: Experiments) -> Iterator[ProvenCause]:
    decay, momentum, eps = (x.settings.get(name, 0.0) for name in ("weight_decay", "momentum", "eps"))
    slow = x.stays or x.diverges
    if decay > (0 if slow else _USUAL_DECAY):
        trial = x.trial(settings={"weight_decay": 0.0})
        if x.is_better(trial, x.unchanged):
            yield ProvenCause(
                "weight-decay",
                TRIAL_ALONE,
                f"weight_decay={decay:g} holds the weights down",
                f"the setting of {x.kind} in {counted(len(x.updates), 'watched update')}",
                "weight_decay of 0.01 or less",
                x.numbers(x.unchanged, trial, "without it"),
            )
    if momentum > 0.95 and slow:
        trial = x.trial(settings={"momentum": 0.9})
        if x.is_better(trial, x.unchanged):
            yield ProvenCause(
                "momentum",
                TRIAL_ALONE,
                f"momentum={momentum:g} adds up the last {1 / max(1e-9, 1 - momentum):,.0f} gradients: the steps overshoot",
                f"the setting of {x.kind} in {counted(len(x.updates), 'watched update')}",
                "momentum=0.9",
                x.numbers(x.unchanged, trial, "with 0.9"),
            )
    if eps > 1e-4 and slow:
        trial = x.trial(settings={"eps": 1e-8})
        if x.is_better(trial, x.unchanged):
            yield ProvenCause(
                "eps",
                TRIAL_ALONE,
                f"eps={eps:g} of {x.kind} is larger than its averages: the steps are far smaller than the rate says",
                f"the setting in {counted(len(x.updates), 'watched update')}",
                "eps=1e-8",
                x.numbers(x.unchanged, trial, "with 1e-8"),
            )


def _of_clip(x: Experiments) -> Iterator[ProvenCause]:
    ratios = [u.norm / u.handed for u in x.updates if u.norm > 0 and u.cosine > 0.1]
    if len(ratios) < 2 or len(ratios) < 0.8 * len(x.updates) or max(ratios) > 0.05 or not (x.stays or x.kind == "SGD"):
        return
    turned = [u.cosine for u in x.updates if u.cosine <= 0.999]
    if x.clip is None and len(turned) < len(x.updates):
        return  # one factor for all: a scale that is taken out
    norms = sorted(u.norm for u in x.updates)
    limit = x.clip or norms[len(norms) // 2]
    unchanged, trial = x.trial(clip=limit), x.trial(clip=None)
    how = f"clipping to the norm {limit:.2g} leaves" if x.clip else "clipping by value, or a change by hand, leaves"
    direction = f", with the cosine {min(turned):.2f} or more to it" if turned and not x.clip else ""
    if x.is_better(trial, unchanged):
        yield ProvenCause(
            "mostly-clipped",
            PROVEN,
            f"{how} {100 * sum(ratios) / len(ratios):.2g} % of the gradient",
            f"in {len(ratios)} of {counted(len(x.updates), 'watched update')}{direction}; before it the norm was at least "
            f"{min(u.handed for u in x.updates):.2g}",
            "clip_grad_norm_ with 1.0 or more",
            x.numbers(unchanged, trial, "without the clip"),
        )


def _of_scale(x: Experiments) -> Iterator[ProvenCause]:
    """A gradient that is a multiple of that of the mean loss, which matters to SGD: Adam divides it out."""
    if x.scale is None or x.kind != "SGD" or not (x.stays or x.diverges):
        return
    passes = [u.passes for u in x.updates[1:]]
    several = min(passes) if passes and min(passes) == max(passes) else 1  # mean losses that one update adds up
    scale, predictions = x.scale * several, x.facts.criteria[-1].predictions
    if 0.3 < scale < 4:
        return
    unchanged, trial = x.trial(factor=float(several)), x.trial(factor=several / scale)
    if not x.is_better(trial, unchanged):
        return
    if abs(x.scale - predictions) < 0.1 * predictions:
        why, cure = f": the loss is summed over its {predictions:,} predictions", "reduction='mean'"
    elif abs(scale * predictions - 1) < 0.2:
        why, cure = f": the mean is divided by its {predictions:,} predictions again", "divide once"
    elif several > 1 and abs(x.scale - 1) < 0.1:
        why, cure = f": {several} backward passes are added up", f"(loss / {several}).backward()"
    else:
        why, cure = "", "the mean loss; scaler.unscale_(optimizer), if a scale was left in"
    yield ProvenCause(
        "loss-scale",
        PROVEN,
        f"the gradient is {scale:,.3g} times that of the mean loss{why}",
        f"at the criterion's input, to {max(c.misfit for c in x.facts.criteria):.0e}, in "
        f"{counted(len(x.facts.criteria), 'watched step')}",
        cure,
        x.numbers(unchanged, trial, "with the gradient of the mean"),
    )


def _of_schedule(x: Experiments) -> Iterator[ProvenCause]:
    rates = [update.settings.get("lr", math.nan) for update in x.facts.own_updates]
    if len(rates) < 6 or not all(map(math.isfinite, rates)):
        return
    if rates[-1] > 30 * max(rates[:3]) and x.diverges:
        yield ProvenCause(
            "rate-grows",
            EXACT,
            f"the schedule raises the learning rate from {rates[0]:.2g} to {rates[-1]:.2g}, and the loss goes from "
            f"{_loss(x.first)} to "
            f"{_loss(x.end)}",
            f"the rate in {counted(len(rates), 'watched update')}",
            "a schedule that falls",
        )
    initial = max(update.settings.get("initial_lr", 0.0) for update in x.facts.own_updates)
    if max(rates) < 1e-2 * initial and x.has_stood_still:  # a schedule that has ended before
        present, trial = x.trial(start=False, rate=1.0), x.trial(start=False, rate=initial / max(rates[-1], 1e-30))
        if x.is_better(trial, present):
            yield ProvenCause(
                "rate-decayed",
                PROVEN,
                f"the schedule took the learning rate from {initial:g} to {rates[-1]:.2g}, and the loss falls no more",
                f"it is {max(rates):.2g} or less in {counted(len(rates), 'watched update')}; {_course(x)}",
                "step the scheduler once an epoch, or a slower decay",
                x.numbers(present, trial, f"with {initial:g}", start=False),
            )
    elif min(rates[-3:]) < 1e-2 * rates[0] and rates[0] > 0:
        present = x.trial(start=False, rate=1.0)
        trial = x.trial(start=False, rate=rates[0] / max(rates[-1], 1e-30))
        early = next(i for i, rate in enumerate(rates) if rate < 1e-2 * rates[0])
        if early < 0.6 * len(rates) and x.is_better(trial, present):
            yield ProvenCause(
                "rate-decayed",
                PROVEN,
                f"the schedule took the learning rate from {rates[0]:g} to {rates[-1]:.2g} too early",
                f"a hundredth of it was reached by step {x.facts.training[min(early, len(x.facts.training) - 1)].number:,}",
                "step the scheduler once an epoch, or a slower decay",
                x.numbers(present, trial, f"with {rates[0]:g}", start=False),
            )


# ------------------------------------------------------------------------------
# Inputs, targets, first weights, rates.


def _of_inputs(x: Experiments) -> Iterator[ProvenCause]:
    import torch

    sources = {id(tape): next(iter(tape.sources()), None) for tape in x.tapes}
    first = next((source for source in sources.values() if source is not None), None)
    if first is None or not first.dtype.is_floating_point:
        return
    rows = torch.cat([s.reshape(-1, s.shape[-1]) for s in sources.values() if s is not None and s.shape[-1] == first.shape[-1]])
    mean, deviation, size = rows.mean(0), rows.std(0), float(rows.pow(2).mean().sqrt())
    if not (size > 20 or size < 0.02 or float((mean.abs() / (deviation + 1e-9)).max()) > 20):
        return

    def normal(tape: Tape) -> dict[int, Tensor]:
        source = sources[id(tape)]
        return {} if source is None else {id(source): (source - mean) / (deviation + 1e-9)}

    trial = x.trial(inputs=normal)
    if x.is_better(trial, x.unchanged):
        yield ProvenCause(
            "input-scale",
            TRIAL_ALONE,
            f"the inputs are {'large' if size > 1 else 'small'}: their mean is {float(mean.mean()):.3g}, their deviation "
            f"{float(deviation.mean()):.3g}",
            f"over {counted(len(rows), 'timestep')} of watched batches",
            "normalise each feature to mean 0 and deviation 1",
            x.numbers(x.unchanged, trial, "when each feature has mean 0 and deviation 1"),
        )


def _of_targets(x: Experiments) -> Iterator[ProvenCause]:
    import torch

    calls = [tape.criterion for tape in x.tapes if tape.criterion is not None]
    if not calls or calls[-1].kind not in REGRESSIONS:
        return
    targets = torch.cat([call.target.reshape(-1).float() for call in calls])
    mean, deviation = float(targets.mean()), float(targets.std())
    if not ((abs(mean) > 20 or deviation > 20 or deviation < 0.01) and deviation > 0):
        return

    def normal(function: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        if len(args) > 1:
            return (args[0], (args[1] - mean) / deviation, *args[2:]), kwargs
        return args, {**kwargs, "target": (kwargs["target"] - mean) / deviation}

    sources = {id(tape): next(iter(tape.sources()), None) for tape in x.tapes}
    numbers = [s for s in sources.values() if s is not None and s.dtype.is_floating_point]
    rows = torch.cat([s.reshape(-1, s.shape[-1]) for s in numbers if s.shape[-1] == numbers[0].shape[-1]]) if numbers else None
    far = rows is not None and float((rows.mean(0).abs() / (rows.std(0) + 1e-9)).max() + rows.std(0).max()) > _FAR

    def normal_inputs(tape: Tape) -> dict[int, Tensor]:
        source = sources[id(tape)]
        return {} if source is None or rows is None else {id(source): (source - rows.mean(0)) / (rows.std(0) + 1e-9)}

    trial = x.trial(change=normal, inputs=normal_inputs if far else None)
    unit = deviation**2 if calls[-1].kind == "mse" else deviation
    relative = TrialOfSteps(tuple(v / unit for v in x.unchanged.trained), tuple(v / unit for v in x.unchanged.judged))
    if x.is_better(trial, relative):
        yield ProvenCause(
            "target-scale",
            TRIAL_ALONE,
            f"the targets are far from what a fresh network gives: their mean is {mean:.4g}, their deviation {deviation:.3g}",
            f"over {counted(targets.numel(), 'target')} of watched batches",
            "normalise the targets, and scale the predictions back" + ("; normalise the inputs as well" if far else ""),
            f"{x.conditions()}: loss {_loss(relative.loss)} in units of the targets' spread as they are, {_loss(trial.loss)} when "
            f"they{' and the inputs' if far else ''} have mean 0 and deviation 1",
        )


def _of_first_weights(x: Experiments) -> Iterator[ProvenCause]:
    import torch

    odd = list[tuple[str, float, float]]()
    for name, value in x.replay.watch.start_state.items():
        if value.dim() == 2 and value.dtype.is_floating_point and ("weight_hh" in name or "weight_ih" in name):
            deviation, usual = float(value.std()), 1 / math.sqrt(max(1, value.shape[-1]))
            if deviation > 4 * usual or deviation < 0.05 * usual:
                odd.append((name, deviation, usual))

    def drawn(module: Module) -> None:
        torch.manual_seed(5)
        for part in module.modules():
            frozen = isinstance(part, torch.nn.Embedding) and not part.weight.requires_grad
            if hasattr(part, "reset_parameters") and not frozen:
                part.reset_parameters()  # type: ignore[operator]

    if not odd:
        return
    trial = x.trial(prepare=drawn)
    if x.is_better(trial, x.unchanged):
        name, deviation, usual = odd[0]
        yield ProvenCause(
            "first-weights",
            TRIAL_ALONE,
            f"the first weights are too {'large' if deviation > usual else 'small'}: {name} has the deviation {deviation:.2g}",
            f"1 / √ of its inputs is {usual:.2g}",
            "reset_parameters() of the module, or orthogonal_",
            x.numbers(x.unchanged, trial, "from weights that PyTorch draws"),
        )


_CLEARLY = 0.6  # of a loss, below which another arrangement of the same numbers must end
_FAR = 20.0  # deviations that a mean is from 0, or deviations of 1
_USUAL_DECAY = 0.01  # and less is not tried where the loss falls
_USUAL_RATES = {"SGD": 0.1}  # that of others is 1e-3


def _of_rates(x: Experiments) -> Iterator[ProvenCause]:
    """Other learning rates, judged by kept batches that were not trained on: what is learned by heart is no proof."""
    if not math.isfinite(x.rate) or not x.rate > 0 or not x.judged:
        return
    usual = (1e-4, 1e-3, 1e-2) if x.kind != "SGD" else (1e-3, 1e-2, 0.1, 1.0)
    larger = [rate for rate in usual[1:] if rate > 3 * x.rate]
    smaller = [rate for rate in usual if rate < 0.4 * x.rate]
    rates = smaller if x.diverges else [*larger, *smaller] if x.stays else []
    if not rates:
        return
    factor = x.rate / max(1e-30, x.settings.get("lr", x.rate) or x.rate)
    unchanged = x.trial(rate=factor)
    trials = dict[float, TrialOfSteps]()
    try:
        for rate in sorted(rates, key=lambda rate: abs(math.log(rate / _USUAL_RATES.get(x.kind, 1e-3)))):
            trials[rate] = x.trial(rate=factor * rate / x.rate)
    except NoTrialLeftError:
        if not trials:
            raise
    best = min(trials, key=lambda rate: trials[rate].loss)
    trial = trials[best]
    numbers = f"{x.conditions()}: " + ", ".join(f"{rate:g} → {_loss(t.loss)}" for rate, t in sorted(trials.items()))
    results = f"{numbers}; {x.rate:g} → {_loss(unchanged.loss)}"
    learns = x.constant is None or trial.loss < _AS_CONSTANT * x.constant
    falls = trial.loss < x.first - 0.1 * abs(x.first)
    if best < x.rate and learns and falls and x.is_better(trial, unchanged) and unchanged.loss - trial.loss > 0.15 * abs(x.first):
        yield ProvenCause(
            "rate-too-large",
            TRIAL_ALONE,
            f"the learning rate {x.rate:g} is too large",
            f"{_course(x)}",
            f"lr={best:g}",
            results,
        )
        return
    does_not_learn = unchanged.loss > x.first - _WORTH * abs(x.first)  # in as many steps as the trial
    if best > x.rate and learns and does_not_learn and trial.loss < x.first - 0.15 * abs(x.first) and x.is_better(trial, unchanged):
        yield ProvenCause(
            "rate-too-small", TRIAL_ALONE, f"the learning rate {x.rate:g} is too small", _course(x), f"lr={best:g}", results
        )


def _course(x: Experiments) -> str:
    return f"the loss was {_loss(x.first)} at first and is {_loss(x.end)} after {counted(len(x.losses), 'step')} with it"


def _of_axes(x: Experiments) -> Iterator[ProvenCause]:
    """Time and batch exchanged, where both have one size, so that no error shows it."""
    sources = {id(tape): next(iter(tape.sources()), None) for tape in x.tapes}
    first = sources[id(x.tapes[-1])]
    if first is None or first.dim() != 3 or not x.judged:
        return
    yield from _of_view(x, sources, first)
    if first.shape[0] != first.shape[1]:
        return

    def exchanged(tape: Tape) -> dict[int, Tensor]:
        source = sources[id(tape)]
        return {} if source is None else {id(source): source.transpose(0, 1)}

    if (trial := _if_clearly_better(x, exchanged)) is not None:
        yield ProvenCause(
            "axes-swapped",
            TRIAL_ALONE,
            "time and batch are exchanged: the axis that the model takes for time is that of the rows",
            f"both have the size {first.shape[0]}, so no error shows it",
            "batch_first=True, or a transpose of the input",
            x.numbers(x.unchanged, trial, "with both axes exchanged"),
        )


def _if_clearly_better(x: Experiments, exchanged: Callable[[Tape], dict[int, Tensor]]) -> TrialOfSteps | None:
    """Return the trial with the inputs that `exchanged` gives for each tape, if it clearly lowers the loss."""
    trial = x.trial(inputs=exchanged)
    return trial if x.is_better(trial, x.unchanged) and trial.loss < _CLEARLY * min(x.unchanged.loss, x.first) else None


def _of_view(x: Experiments, sources: Mapping[int, Tensor | None], first: Tensor) -> Iterator[ProvenCause]:
    """Numbers (rows, channels, timesteps) that were viewed as (rows, timesteps, channels), which cuts them anew."""
    rows, T, channels = first.shape
    if not first.dtype.is_floating_point or channels < 2 or not _one_target_a_row(x.tapes[-1]):
        return

    def exchanged(tape: Tape) -> dict[int, Tensor]:
        source = sources[id(tape)]
        if source is None or source.shape[1:] != first.shape[1:]:
            return {}
        return {id(source): source.reshape(len(source), channels, T).transpose(1, 2).contiguous()}

    if (trial := _if_clearly_better(x, exchanged)) is not None:
        yield ProvenCause(
            "view-not-transpose",
            TRIAL_ALONE,
            "the inputs were viewed in another shape where two axes were to be exchanged: a timestep has numbers of one channel",
            f"of shape ({rows}, {T}, {channels}); read as ({rows}, {channels}, {T}) and transposed, they can be predicted from",
            "transpose(1, 2) in the place of a view or reshape, where the data are made",
            x.numbers(x.unchanged, trial, "with the axes exchanged"),
        )


def _of_state_of_rows(x: Experiments) -> Iterator[ProvenCause]:
    """A state that is carried on to rows that do not continue: tried with the state of another row, and with none."""
    import torch

    carried = [tape for tape in x.tapes if _is_carried(x, tape)]
    of_rows = [tape for tape in carried if _one_target_a_row(tape)]
    if len(of_rows) < 2 or len(of_rows) != len(carried):
        return

    def states(tape: Tape) -> list[Tensor]:
        return tape.recurrent[0].begins

    unchanged = x.replay.losses(of_rows, lambda tape: {})
    zero = x.replay.losses(of_rows, lambda tape: {id(h): torch.zeros_like(h) for h in states(tape)})
    other = x.replay.losses(of_rows, lambda tape: {id(h): h.detach().roll(1, -2) for h in states(tape)})
    means = [sum(losses) / len(losses) for losses in (unchanged, zero, other)]
    if all(map(math.isfinite, means)) and means[0] > 1.03 * means[1] and means[0] >= 0.97 * means[2]:
        yield ProvenCause(
            "carried-over-rows",
            PROVEN,
            "the last state of a row begins another, independent one",
            f"the state is bit for bit that of the step before in {counted(len(of_rows), 'watched step')}, and each row has one "
            "target "
            "of its own",
            "begin each batch with zeros",
            f"on a copy: loss {means[0]:.4g} with the state of the same row, {means[2]:.4g} with that of another, {means[1]:.4g} "
            "with "
            "zeros",
        )


def _is_carried(x: Experiments, tape: Tape) -> bool:
    facts = next((step for step in x.facts.training if step.number == tape.number), None)
    return facts is not None and any(state.carried for state in facts.states) and bool(tape.recurrent)


def _one_target_a_row(tape: Tape) -> bool:
    source = next(iter(tape.sources()), None)
    if tape.criterion is None or source is None:
        return False
    count = len(tape.criterion.rows(tape.criterion.input))
    return count in source.shape[:2] and count != source.shape[0] * source.shape[1] and min(source.shape[:2]) > 1


# ------------------------------------------------------------------------------
# What nothing decides.


def _undecided(x: Experiments, why: str) -> Iterator[ProvenCause]:
    """One batch by heart, and the way of the gradient: numbers without a judgement. `why`: why not more was tried."""
    import torch

    words, trials = [_course(x)], list[TrialOfSteps]()
    if x.constant is not None:
        words.append(f"a constant prediction has {_loss(x.constant)}")
    try:
        for rate in (1e-2, 1e-3):
            trials.append(x.trial(x.tapes[-1:], steps=90, clip=1.0, optimizer=partial(torch.optim.Adam, lr=rate)))
    except NoTrialLeftError as error:
        why = str(error)
    if trials:
        by_heart = min(trials, key=lambda trial: trial.loss)
        words.append(f"one kept batch alone goes from {_loss(by_heart.trained[0])} to {_loss(by_heart.loss)} with Adam")
    try:
        flow = x.replay.flow(x.tapes[-1])
    except (RuntimeError, CaptureError):
        flow = None
    if flow is not None:
        words.append(f"the gradient at the first of {flow[1]} timesteps is {flow[0]:.1g} of the largest")
    if why:
        words.append(f"not more was tried: {why}")
    yield ProvenCause("not-decided", OBSERVED, "", "; ".join(words), "")


def with_trials(x: Experiments, causes: Sequence[ProvenCause]) -> Iterator[ProvenCause]:
    """Yield causes that facts show, with a trial of those cures that are a change of the loss."""
    for cause in causes:
        trial = _TRIALS.get(cause.name)
        result = ""
        if trial is not None and cause.proof == EXACT and x.facts.own_updates and x.judged:
            with suppress(NoTrialLeftError):
                result = trial(x)
        yield cause._replace(proof=PROVEN, tried=result) if result else cause


def _as_shaped(function: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
    if len(args) > 1 and args[0].numel() == args[1].numel():
        return (args[0], args[1].reshape(args[0].shape), *args[2:]), kwargs
    return args, kwargs


def _try_shapes(x: Experiments) -> str:
    unchanged, trial = x.trial(judged_with=_as_shaped), x.trial(change=_as_shaped)
    return (
        x.numbers(unchanged, trial, "with the target in the shape of the output, both judged so")
        if x.is_better(trial, unchanged)
        else ""
    )


def _try_sign(x: Experiments) -> str:
    unchanged, trial = (
        TrialOfSteps(tuple(-loss for loss in t.trained), tuple(-loss for loss in t.judged))
        for t in (x.unchanged, x.trial(factor=-1.0))
    )
    return f"{x.conditions()}: minus the loss is {_loss(unchanged.loss)} as it is, {_loss(trial.loss)} without the minus" if (
        trial.loss < unchanged.loss
    ) else ""  # fmt: skip


def _plain_targets(function: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
    return args, {**kwargs, "label_smoothing": 0.0}


def _try_plain_targets(x: Experiments) -> str:
    unchanged, trial = x.trial(judged_with=_plain_targets), x.trial(change=_plain_targets)
    return x.numbers(unchanged, trial, "without smoothing, both judged so") if x.is_better(trial, unchanged) else ""


#: The trial of a cure by the name of its cause: returns it in words, "" if it does not help.
_TRIALS: Mapping[str, Callable[[Experiments], str]] = {
    "broadcast": _try_shapes, "negated": _try_sign, "smoothing": _try_plain_targets,
}  # fmt: skip
