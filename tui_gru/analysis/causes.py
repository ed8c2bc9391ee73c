"""What the facts of watched steps mean: causes, each with how often and how exactly it was seen, and its cure in PyTorch's words.

Each rule reads facts that were measured in a script (`capture/facts.py`) and accuses only by what they show: the title is the fact.
Nothing is concluded from the course of a loss; what only an experiment can show is in `analysis/diagnosis.py`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import islice, pairwise
from typing import NamedTuple

from tui_gru.capture.criterion import REGRESSIONS, CriterionFacts
from tui_gru.capture.facts import MOST_PASSED, ParameterFacts, StateFacts, StepFacts, UpdateFacts
from tui_gru.capture.relations import FLAT_FROM, AxisFacts
from tui_gru.engine.numbers import counted, rounded

OBSERVED, TRIAL_ALONE, EXACT, PROVEN = 0, 1, 2, 3  # levels of proof: none; an experiment; an exact fact; a fact and an experiment
_FEWEST = 3  # watched steps that show a fact that could be chance in one
_MOSTLY = 0.8  # of the watched steps
_MANY_ALIKE = 0.1  # of the tokens that are read
_RESCALED = 1e-3  # from 1: far more than rounding
_REPLACED = 0.5  # of the norm of the weights: a projection or an average moves them by less
_ALL = 0.98  # of the targets are those of a rule
_EQUAL = 1e-5  # of a norm: rounding of float32 sums
_FALLEN = 1e-3  # of the first rate, or deviation
_EARLY = 2 / 3  # of a run, in which a schedule has ended too early
_SURE, _MORE = 10.0, 1.25  # times the deviation of chance; times what neighbours in time tell
_FAR, _AS_LONG = 20.0, 10.0  # of what a fresh network gives; times the steps of the run
_FEW_ROWS = 8
_NOT_CONTINUED, _HARDLY_CONTINUED = 0.6, 0.4  # shares of rows that continue by chance, in one step and on average


class ProvenCause(NamedTuple):
    """A cause: `title` is the fact in the user's terms, `seen` how often and how exactly, `tried` the experiment with both numbers,
    or "". `is_effect`: it follows from other causes where there are any of equal proof."""

    name: str
    proof: int
    title: str
    seen: str
    cure: str
    tried: str = ""
    is_effect: bool = False
    meaning: str = ""


@dataclass(frozen=True)
class WatchedSteps:
    """The facts of the watched steps of a script, in order, and the losses of all its steps as far as they are known."""

    steps: tuple[StepFacts, ...]
    losses: tuple[float, ...] = ()

    @cached_property
    def training(self) -> tuple[StepFacts, ...]:
        """The steps in which a gradient arrived, or an optimizer ran."""
        return tuple(step for step in self.steps if step.backward or step.updates)

    @cached_property
    def updates(self) -> tuple[UpdateFacts, ...]:
        return tuple(update for step in self.training for update in step.updates if not update.closure)

    @cached_property
    def own_updates(self) -> tuple[UpdateFacts, ...]:
        """The updates of optimizers that have parameters of the model."""
        return tuple(update for update in self.updates if update.parameters)

    @cached_property
    def criteria(self) -> tuple[CriterionFacts, ...]:
        return tuple(step.criterion for step in self.training if step.criterion is not None)

    @cached_property
    def parameters(self) -> ParameterFacts | None:
        return next((step.parameters for step in reversed(self.training) if step.parameters is not None), None)

    @cached_property
    def passes(self) -> bool:
        """True if a gradient arrived at parameters of the model."""
        return any(step.backward for step in self.training) and any(update.passes > 0 for update in self.updates)

    @property
    def watched(self) -> str:
        return f"{len(self.training)} of {counted(len(self.training), 'watched step')}"

    def of_steps(self, holds: Callable[[StepFacts], bool]) -> str:
        """Return in how many watched steps something holds, in words."""
        return f"{sum(map(holds, self.training))} of {counted(len(self.training), 'watched step')}"


def _named(names: Sequence[str], count: int) -> str:
    """Return the first names of a list that has `count`."""
    listed = ", ".join(names[:4])
    return f"{listed} and {count - len(names[:4])} others" if count > len(names[:4]) + 1 else listed


def _shape(shape: Sequence[int]) -> str:
    return f"({', '.join(map(str, shape))}{',' if len(shape) == 1 else ''})"


# ------------------------------------------------------------------------------
# The optimizer: whose parameters it has, what it uses, what becomes of the gradient before.


def _of_optimizer(x: WatchedSteps) -> Iterator[ProvenCause]:
    updates, total = x.updates, x.parameters.total if x.parameters is not None else 0
    if not updates:
        return
    if not x.own_updates:
        yield ProvenCause(
            "optimizer-of-other",
            EXACT,
            "the optimizer has no parameter of this model: its step() changes something else",
            f"0 of the model's {counted(total, 'parameter')} are in its groups, in {counted(len(updates), 'watched update')}",
            "build the optimizer from model.parameters(), after the model is final",
        )
        return
    updates = x.own_updates
    without = [update for update in updates if update.passes == 0]
    if len(without) == len(updates):
        yield ProvenCause(
            "no-backward",
            EXACT,
            "step() runs, but no gradient has come to the model: backward() is not called, or on something else",
            f"{len(without)} of {counted(len(updates), 'watched update')} had no backward pass before",
            "call loss.backward() before optimizer.step()",
        )
        return
    with_pass = [update for update in updates if update.passes > 0]
    cleared = [update for update in with_pass if update.norm == 0 and update.handed > 0]
    if cleared and len(cleared) >= 0.9 * len(with_pass):
        yield ProvenCause(
            "cleared-before-step",
            EXACT,
            "the gradient is cleared between backward() and step()",
            f"backward() brought a gradient of norm {rounded(cleared[-1].handed)} and step() used 0, in {len(cleared)} of "
            f"{counted(len(with_pass), 'watched update')}",
            "zero_grad() before backward(), not between backward() and step()",
        )
    stale = [update for update in updates if update.stale]
    if len(stale) >= 2 and len(stale) >= 0.5 * max(1, len(updates) - 2):
        yield ProvenCause(
            "gradient-not-cleared",
            EXACT,
            "zero_grad() is missing: the gradients of earlier steps add up",
            f"in {len(stale)} of {counted(len(updates), 'watched update')} p.grad is the gradient of this step plus exactly the "
            "p.grad "
            "that the step before has used",
            "call optimizer.zero_grad() before each loss.backward()",
            meaning="backward() adds to p.grad. The optimizer has used these gradients before, and uses them again in each step.",
        )
    several = [update for update in updates if update.passes > 1]
    several = several if len({update.optimizer for update in updates}) == 1 else []  # of several, each has passes of its own
    lost = [u for u in several if u.cosine_of_last > 0.99999 and u.norm <= 1.001 * u.last and u.cosine < 0.9999]
    if lost and len(lost) >= _MOSTLY * len(several):
        yield ProvenCause(
            "accumulation-lost",
            EXACT,
            f"of the {lost[-1].passes} backward passes before a step() only the last one is in p.grad",
            f"in {len(lost)} of {counted(len(several), 'watched update')} p.grad is that of the last pass (cosine "
            f"{lost[-1].cosine_of_last:.6f}); with the sum of all it has the cosine {lost[-1].cosine:.2f}",
            "zero_grad() only after step()",
        )
    turned = [update for update in with_pass if update.cosine < -0.999]
    if len(turned) >= _FEWEST and len(turned) >= _MOSTLY * len(with_pass):
        yield ProvenCause(
            "gradient-turned",
            EXACT,
            "p.grad is turned round between backward() and step(): the update raises the loss",
            f"its cosine with what backward() brought is {turned[-1].cosine:.4f} in {len(turned)} of "
            f"{counted(len(with_pass), 'watched update')}",
            "leave the sign of p.grad as it is",
        )
    # Cleared after it, since step() uses exactly what backward() has brought: it is no average of gradients of one's own.
    rescaled = [u for u in with_pass if u.rescaled is not None and abs(u.rescaled - 1) > _RESCALED and u.cosine > 0.9999]
    if len(rescaled) >= _FEWEST and len(rescaled) >= 0.5 * len(with_pass):
        least, most = min(u.rescaled or 0 for u in rescaled), max(u.rescaled or 0 for u in rescaled)
        by = f"by {rounded(least)}" if rounded(least) == rounded(most) else f"by {rounded(least)} … {rounded(most)}"
        yield ProvenCause(
            "clipped-too-late",
            EXACT,
            "p.grad is scaled after step(), where nothing uses it any more: a clip there has no effect",
            f"{by} in {len(rescaled)} of {counted(len(with_pass), 'watched update')}; step() has used the whole gradient, and the "
            "next one uses what the next backward() brings",
            "clip_grad_norm_ between loss.backward() and optimizer.step()",
        )
    else:
        yield from _of_clip_in_source(with_pass)
    yield from _of_steps(with_pass)
    yield from _of_course(x)
    last = updates[-1]
    has_memory = last.kind != "SGD" or last.settings.get("momentum", 0) > 0
    if len(updates) > _FEWEST and all(update.begins for update in updates) and has_memory and any(u.norm > 0 for u in updates):
        yield ProvenCause(
            "optimizer-recreated",
            EXACT,
            f"every step() is the first one of a new {last.kind}: its averages begin at 0 each time",
            f"{len(updates)} of {counted(len(updates), 'watched update')} began without a state of the optimizer",
            "build the optimizer once, before the loop",
        )
    if all(update.settings.get("lr") == 0 for update in updates):
        yield ProvenCause(
            "rate-is-0",
            EXACT,
            "the learning rate is 0: step() moves no weight",
            f"the setting lr of {last.kind} in {len(updates)} of {counted(len(updates), 'watched update')}",
            "a rate such as lr=0.001; look at the first value of the scheduler",
        )
    if last.settings.get("maximize"):
        yield ProvenCause(
            "maximize",
            EXACT,
            "the optimizer climbs: maximize=True",
            f"the setting maximize of {last.kind} is True in {len(updates)} of {counted(len(updates), 'watched update')}",
            "maximize=False, the default of every optimizer",
        )
    emptied = [update for update in with_pass if update.emptied and update.norm > 0]
    if len(emptied) >= _FEWEST and len(emptied) >= _MOSTLY * len(with_pass):
        yield ProvenCause(
            "cleared-before-step",
            EXACT,
            f"the gradient of {_named(emptied[-1].emptied, len(emptied[-1].emptied))} is taken away between backward() and step()",
            f"backward() brought one, and p.grad is None at {len(emptied)} of {counted(len(with_pass), 'watched update')}",
            "leave p.grad as backward() leaves it",
        )


def _of_clip_in_source(updates: Sequence[UpdateFacts]) -> Iterator[ProvenCause]:
    """A clip that stands where no step() uses what it has done: what step() uses is what backward() has brought."""
    finite = [u for u in updates if math.isfinite(u.norm) and math.isfinite(u.handed) and u.handed > 0]
    same = [u for u in finite if u.clip and abs(u.norm - u.handed) <= _EQUAL * u.handed and u.cosine > 0.9999]
    same = same or [u for u in updates if u.clip and not finite]
    if not same or len(same) < len(finite):
        return
    seen = f"step() has used exactly what backward() has brought in {len(same)} of {counted(len(finite), 'watched update')}, with "
    seen += f"a norm of up to {rounded(max(u.norm for u in same))}" if finite else ""
    seen = seen if finite else f"by the order of the calls; the gradient is not finite any more in {counted(len(same), 'update')}"
    where, line = same[-1].clip, same[-1].line
    early = where.startswith("before")
    yield ProvenCause(
        "clipped-too-early" if early else "clipped-too-late",
        EXACT,
        f"the gradient is clipped {where}, in line {line}: {'there is none yet' if early else 'nothing uses it any more'}",
        seen,
        "clip_grad_norm_ between loss.backward() and optimizer.step()",
    )


def _of_course(x: WatchedSteps) -> Iterator[ProvenCause]:
    """A schedule that has all but ended in the first two thirds of the run."""
    rates = [(step.number, update.settings.get("lr", math.nan)) for step in x.training for update in step.updates[-1:]]
    largest = max((rate for _, rate in rates), default=0.0)
    if len(rates) < 2 * _FEWEST or not largest > 0 or not all(math.isfinite(rate) for _, rate in rates):
        return
    late = next((i for i in range(len(rates)) if all(0 < rate < _FALLEN * largest for _, rate in rates[i:])), len(rates))
    if 0 < late < len(rates) - _FEWEST and rates[late][0] < _EARLY * rates[-1][0]:
        steps = len({rate for _, rate in rates})
        yield ProvenCause(
            "rate-decayed",
            EXACT,
            f"the schedule has taken the learning rate from {largest:g} to {rates[-1][1]:.2g}, less than a thousandth",
            f"by step {rates[late][0]:,} of {rates[-1][0]:,}; {steps} different rates in {counted(len(rates), 'watched update')}",
            "scheduler.step() once an epoch, not once a batch; mode='min' for a loss on a plateau; a least rate (min_lr)",
        )


def _of_steps(updates: Sequence[UpdateFacts]) -> Iterator[ProvenCause]:
    """Steps that are smaller than the rounding of the weights."""
    measured = [u for u in updates if u.still is not None and u.norm > 0]
    if len(measured) < _FEWEST:
        return
    last = measured[-_FEWEST:]
    rate = last[-1].settings.get("lr", math.nan)
    largest = max(max(u.settings.get("lr", 0.0), u.settings.get("initial_lr", 0.0)) for u in measured)
    unmoved = [u for u in measured if u.still is not None and u.still > _ALL]
    if any(u not in unmoved for u in last) or rate == 0:
        return
    seen = (
        f"step() has left {100 * min(u.still or 0 for u in unmoved):.4g} % of the weights with a gradient bit for bit as they were "
        f"in {len(unmoved)} of {counted(len(measured), 'watched update')}"
    )
    if rate < _FALLEN * largest:
        yield ProvenCause(
            "rate-decayed",
            EXACT,
            f"the schedule has taken the learning rate from {largest:g} to {rate:.2g}: no step changes a weight any more",
            seen,
            "scheduler.step() once an epoch, not once a batch; a slower decay, or a least rate (eta_min, min_lr)",
        )
    elif len(unmoved) == len(measured):
        yield ProvenCause(
            "steps-are-lost",
            EXACT,
            "step() changes no weight: the steps are smaller than the rounding of the weights",
            f"{seen}; the learning rate is {rate:g}, the norm of the gradient {rounded(last[-1].norm)}",
            "a larger learning rate; look at what makes the gradient so small",
            is_effect=True,
        )


# ------------------------------------------------------------------------------
# The parameters: which get a gradient, which are in an optimizer, which move.


def _of_parameters(x: WatchedSteps) -> Iterator[ProvenCause]:
    table = x.parameters
    if table is None or not x.training:
        return
    steps = counted(len(x.training), "watched step")
    if x.own_updates and table.in_no_optimizer_count:
        count = table.in_no_optimizer_count
        others = (
            f"; it has {counted(count, 'tensor')} of these shapes that the model does not have, as where a part was replaced later"
        )
        yield ProvenCause(
            "not-in-optimizer",
            EXACT,
            f"{count} of {counted(table.total, 'parameter')} belong to no optimizer that steps: they never change",
            f"{_named(table.in_no_optimizer, count)}: in no group of an optimizer that ran in {steps}"
            f"{others if table.replaced else ''}",
            "pass all of model.parameters() to the optimizer, after the whole model is made; call step() of every optimizer",
        )
    if table.unmoved_count and table.unmoved_count < table.total and not _says(x, "cleared-before-step"):
        count = table.unmoved_count
        rate = "" if table.unmoved_rate is None else f"; the learning rate of their group is {table.unmoved_rate:g}"
        yield ProvenCause(
            "never-moves",
            EXACT,
            f"{counted(count, 'parameter')} of an optimizer {'has' if count == 1 else 'have'} a gradient and never "
            f"{'moves' if count == 1 else 'move'}",
            f"{_named(table.unmoved, count)}: bit for bit as at the start after step {x.training[-1].number:,}{rate}",
            "give their group a learning rate, and leave their gradient and their values to the optimizer",
        )
    if table.frozen:
        yield ProvenCause(
            "frozen",
            OBSERVED,  # of a model that has learned before, a part is often frozen on purpose
            f"{_named(table.frozen, len(table.frozen))} is frozen: no weight of it has requires_grad",
            f"requires_grad is False for all of its parameters in {steps}",
            "p.requires_grad_(True) for its parameters, if it is to learn",
        )
    if table.strange:
        yield ProvenCause(
            "not-registered",
            EXACT,
            f"{counted(len(table.strange), 'tensor')} that the loss depends on {'is' if len(table.strange) == 1 else 'are'} not "
            "among "
            "model.parameters(), and no optimizer has them",
            f"of shape {', '.join(map(_shape, table.strange[:4]))}: leaves of the graph of the loss that ask for a gradient",
            "nn.ModuleList in the place of a list, nn.Parameter in that of a tensor; or pass them to the optimizer",
        )
    if not x.passes:
        return
    for name, in_graph in table.cut.items():
        if not in_graph:
            yield ProvenCause(
                "under-no-grad",
                EXACT,
                f"{name} runs without a graph: none of its parameters ever gets a gradient",
                f"its output has requires_grad False in {steps}: it is called under no_grad, or on detached weights",
                "take no_grad() off the training pass",
            )
        elif table.reached:
            yield ProvenCause(
                "detached",
                EXACT,
                f"the gradient ends behind {name}: the loss does not reach its output",
                f"0 of its parameters ever had a gradient in {steps}; {table.reached} of {table.total} others had",
                "read its output without detach(), .data, .item() or a new tensor",
            )
    if table.always_zero_count and table.reached:
        cause = _without_gradient(table, steps)
        if cause.name != "detached" or not table.cut:  # else the gradient ends behind the embedding, as was said
            yield cause
    elif not table.reached and any(update.passes for update in x.own_updates):
        yield ProvenCause(
            "all-gradients-0",
            EXACT,
            "every gradient is exactly 0",
            f"that of {counted(table.total, 'parameter')} in {steps}",
            "look at what the loss reads, and at what comes last before it",
            is_effect=True,
        )
    if table.equal:
        yield ProvenCause(
            "equal-weights",
            EXACT,
            f"all entries of {_named(table.equal, len(table.equal))} are {table.equal_value:g} at the start: its units are copies "
            "of "
            "each other",
            "they get equal gradients, so they stay equal",
            "reset_parameters() of the module, or orthogonal_",
        )
    elif table.copies:
        yield ProvenCause(
            "equal-weights",
            EXACT,
            f"all units of {_named(table.copies, len(table.copies))} have the same weights: they are copies of each other",
            f"equal to rounding after step {x.training[-1].number:,}; they get equal gradients, so they stay equal",
            "reset_parameters() of the module, or orthogonal_",
        )
    alike, different = table.alike_tokens
    if alike >= _FEWEST and alike >= _MANY_ALIKE * different:  # a few words without a vector are no cause
        yield ProvenCause(
            "tokens-alike",
            EXACT,
            f"{alike} of {different} different tokens that are read have one and the same vector: the model cannot tell them apart",
            f"their rows of the embedding are bit for bit equal, in step {x.training[-1].number:,}",
            "look at how the vectors of words are looked up (capitals, unknown words), and at the first weights of the embedding",
        )
    drops = [(name, share) for name, share in table.dropout.items() if share > 0.8]
    if drops:
        name, share = drops[0]
        yield ProvenCause(
            "dropout",
            EXACT,
            f"dropout {share:g} in {name} leaves {100 * (1 - share):.3g} % of the units",
            "p is the share that is dropped, not the one that is left",
            "p between 0.1 and 0.5",
        )


def _without_gradient(table: ParameterFacts, steps: str) -> ProvenCause:
    names, count = table.always_zero, table.always_zero_count
    listed = _named(names, count)
    if all("_reverse" in name for name in names):
        return ProvenCause(
            "last-output-of-both-directions",
            EXACT,
            "the backward direction has read one timestep where the loss reads it: it learns nothing from the others",
            f"{listed} never gets a gradient that is not 0, in {steps}: output[:, -1] holds the first step of that direction",
            "torch.cat([hn[-2], hn[-1]], 1), or a mean over the timesteps",
        )
    if count == table.embedded_count:
        return ProvenCause(
            "detached",
            EXACT,
            f"the gradient ends before {listed}",
            f"it never gets a gradient that is not 0, in {steps}; {table.reached} other parameters do",
            "no .data, detach() or no_grad behind the embedding",
        )
    return ProvenCause(
        "no-gradient",
        EXACT,
        f"{counted(count, 'parameter')} never get{'s' if count == 1 else ''} a gradient that is not 0: {listed}",
        f"in {steps}: what the loss reads does not depend on {'it' if count == 1 else 'them'}",
        "read the state of the last layer (hn[-1]), or leave the part out",
        is_effect=True,
    )


def _says(x: WatchedSteps, name: str) -> bool:
    return any(cause.name == name for cause in _of_optimizer(x))


# ------------------------------------------------------------------------------
# Modes, and weights that change outside of step().


def _of_modes(x: WatchedSteps) -> Iterator[ProvenCause]:
    taped = [step for step in x.training if step.taped]
    evaluating = [step for step in taped if step.evaluating]
    if evaluating and len(evaluating) == len(taped):
        yield ProvenCause(
            "evaluating",
            EXACT,
            "the model is trained in evaluation mode: dropout and batch norm are off",
            f"{evaluating[0].evaluating[0]}.training is False in {x.of_steps(lambda step: bool(step.evaluating))}",
            "model.train() before training, and after each validation",
        )
    elif len(taped) > 5 and all(step.evaluating for step in taped[-4:]):
        first = next(step for i, step in enumerate(taped) if all(later.evaluating for later in taped[i:]))
        yield ProvenCause(
            "evaluating",
            EXACT,
            f"the model trains in evaluation mode since step {first.number:,} or before: dropout and batch norm are off",
            f"{first.evaluating[0]}.training was True at first, and False in the last "
            f"{counted(sum(step.number >= first.number for step in taped), 'watched step')}",
            "model.train() after each validation",
        )
    modes = [update.training for step in x.training for update in step.updates if update.parameters]
    returns = [i for i in range(1, len(modes)) if modes[i] and not modes[i - 1]]
    if returns and not all(modes[: returns[0]]) and modes.count(False) >= _FEWEST <= modes.count(True):
        yield ProvenCause(
            "learns-in-evaluation",
            EXACT,
            "the optimizer also steps while the model is in evaluation mode: it learns from the batches of the validation",
            f"model.training is False at {modes.count(False)} of {counted(len(modes), 'watched update')}, and True in between",
            "no backward() and no step() in the validation",
        )
    compared = [step.outside for step in x.training if step.outside is not None]
    changed = [outside for outside in compared if outside.changed > 0.2 * outside.total]
    if len(changed) < 2 or len(changed) < 0.5 * len(compared):
        return
    entries = sum(outside.changed for outside in changed)
    sixteen = sum(outside.sixteen_bits * outside.changed for outside in changed) / entries
    back = sum(outside.back * outside.changed for outside in changed) / entries
    share = entries / sum(outside.total for outside in changed)
    times = f"before {len(changed)} of {counted(len(compared), 'watched step')}"
    if sixteen > 0.95:
        yield ProvenCause(
            "weights-are-rounded",
            EXACT,
            "the weights are rounded to 16 bits after each step(): small updates are lost",
            f"{times}, {100 * sixteen:.0f} % of the weights that changed outside of step() are numbers of 16 bits; "
            f"{100 * back:.0f} % of them are back at their value before the update",
            "keep the weights in float32 (autocast, or a master copy)",
        )
    elif all(outside.at_start for outside in changed) or (share > 0.9 and min(o.distance for o in changed) > _REPLACED):
        where = "set back to those of the start" if all(outside.at_start for outside in changed) else "replaced"
        yield ProvenCause(
            "changed-outside",
            EXACT,
            f"the weights are {where} between two steps: what was learned is lost",
            f"{times}, {100 * share:.0f} % of them differ from what step() has left",
            "load or make the model once, before the loop",
        )


# ------------------------------------------------------------------------------
# Inputs and targets.


def _of_inputs(x: WatchedSteps) -> Iterator[ProvenCause]:
    first = [step.inputs[0] for step in x.training if step.inputs]
    if not first:
        return
    batches = counted(len(first), "watched batch")
    bad = [batch for batch in first if batch.not_finite]
    if bad:
        where = (
            f", in feature {', '.join(str(i + 1) for i in bad[0].features_not_finite[:6])}" if bad[0].features_not_finite else ""
        )
        size = math.prod(bad[0].shape)
        updates = [update for update in x.own_updates if update.passes]
        replaced = bool(updates) and all(math.isfinite(update.handed) for update in updates)  # as a model of missing values does
        note = f"; the gradient is finite in {counted(len(updates), 'update')}, so the model replaces them" if replaced else ""
        yield ProvenCause(
            "nan-input",
            OBSERVED if replaced else EXACT,
            "the inputs contain NaN or inf",
            f"{bad[0].not_finite:,} of {size:,} numbers of a batch{where}; in {len(bad)} of {batches}{note}",
            "look where the data are read, and where a column is divided by its standard deviation",
        )
    elif any(state.begins and state.size > 0 for step in x.training for state in step.states):
        return  # a model that is told what to do by its first state may read nothing else
    elif all(batch.zero for batch in first) and not first[0].tokens:
        yield ProvenCause(
            "zero-input", EXACT, "all inputs are 0", f"in {batches}", "look at a cast to int, a wrong slice, a division"
        )
    elif all(batch.constant for batch in first) and all(batch.first == first[0].first for batch in first):
        yield ProvenCause(
            "constant-input",
            EXACT,
            f"all inputs are the same: {first[0].first:g} everywhere" if first[0].tokens else "all inputs are the same everywhere",
            f"in {batches}, at each timestep of each row",
            "look at the vocabulary (unknown tokens), a cast, a slice",
        )
    elif all(batch.rows_alike for batch in first) and x.criteria and all(c.target_high > c.target_low for c in x.criteria):
        yield ProvenCause(
            "rows-alike",
            EXACT,
            "all rows of a batch have the same inputs, and other targets",
            f"bit for bit, in {batches} of shape {_shape(first[-1].shape)}",
            "look at how the windows are cut, and at what a loop appends: an array that is written again must be copied",
        )
    elif not first[0].tokens and first[0].deviation > 0 and _shrinks([batch.deviation for batch in first]):
        yield ProvenCause(
            "inputs-shrink",
            EXACT,
            f"the inputs change from epoch to epoch: their deviation was {rounded(first[0].deviation)} at first and is "
            f"{rounded(first[-1].deviation)} now",
            f"in {batches}: the stored data are changed in place",
            "x = (x - mean) / std in the place of x -= mean and x /= std; scale the data once, before the loop",
        )
    elif (
        len(first) > 4
        and all(batch.same for batch in first[1:])
        and first[-1].share < 0.3
        and all(len(step.updates) == 1 for step in x.training)  # an epoch as a step begins with the same rows each time
    ):
        yield ProvenCause(
            "same-batch",
            EXACT,
            "every step trains on the same rows",
            f"{len(first)} watched steps have bit for bit the same inputs, {100 * first[-1].share:.0f} % of the tensor that they "
            "are a "
            "part of",
            "take the next batch in the loop",
        )


def _shrinks(deviations: Sequence[float]) -> bool:
    """Return True if deviations become ever smaller, to less than a thousandth."""
    later = deviations[len(deviations) // 2 :]
    return len(later) > 2 and max(later) < _FALLEN * deviations[0] and all(a >= b for a, b in pairwise(later))


# ------------------------------------------------------------------------------
# The criterion.


_ROUNDING = 1e-2  # of the sum of the probabilities of a row: those of half precision, and many classes
_LOGITS = "give cross_entropy the logits"


def _of_criterion(x: WatchedSteps) -> Iterator[ProvenCause]:
    yield from _of_shapes(x)
    yield from _of_axes(x)
    yield from _of_nan(x)
    linear = [step.linear for step in x.training if step.linear is not None]
    if not x.criteria:
        if len(linear) >= _FEWEST and len(linear) >= _MOSTLY * len(x.training) and len({kind for kind, _ in linear}) == 1:
            yield _of_linear(linear[0][0], max(rest for _, rest in linear), len(linear), x)
        return
    criteria, last = x.criteria, x.criteria[-1]
    if any(c.kind != last.kind for c in criteria):
        return
    steps = counted(len(criteria), "watched step")
    if all(c.feeds == last.feeds for c in criteria):
        yield from _of_feed(last, steps)
    outside = sum(c.outside for c in criteria) / len(criteria)
    low, high = min(c.target_low for c in criteria), max(c.target_high for c in criteria)
    if last.kind in REGRESSIONS and outside > 0.1 and all(c.feeds == last.feeds for c in criteria):
        yield ProvenCause(
            "target-out-of-range",
            EXACT,
            f"{100 * outside:.0f} % of the targets lie outside of {last.reach[0]:g} … {last.reach[1]:g}, which the output cannot "
            "leave",
            f"the output is the result of {last.feeds.lower()}; the targets of {steps} are {low:.3g} … {high:.3g}",
            f"no {last.feeds.lower()} on the last layer, or targets scaled to its range",
        )
    elif last.kind in ("bce", "bcel") and outside > 0:
        yield ProvenCause(
            "target-out-of-range",
            EXACT,
            f"binary cross-entropy gets targets outside of 0 … 1: {low:g} … {high:g}",
            f"{100 * outside:.0f} % of the targets in {steps}",
            "class numbers belong to cross_entropy",
        )
    if last.kind == "ce" and last.smoothing > 0.5:
        yield ProvenCause(
            "smoothing",
            EXACT,
            f"label_smoothing={last.smoothing:g}: the right class gets {100 * (1 - last.smoothing):.0f} % of the target, and all "
            "classes "
            "share the rest",
            f"the argument of cross_entropy in {steps}",
            "label_smoothing=0.1 or less",
        )
    if last.classes_without_weight and last.share_without_weight > 0.05:
        yield ProvenCause(
            "class-weight-0",
            OBSERVED,  # padding is often left out so
            f"the class weight of {', '.join(map(str, last.classes_without_weight[:5]))} is 0: these targets teach nothing",
            f"{100 * last.share_without_weight:.0f} % of the targets of a watched batch are of these classes",
            "weights of floats, none of them 0",
        )
    count = sum(math.prod(c.target_shape) for c in criteria)
    alone = all(c.criteria == 1 for c in criteria)  # a generator's target is always the same, beside others
    if alone and low == high and count > 40 and min(math.prod(c.target_shape) for c in criteria) > 3:
        yield ProvenCause(
            "constant-target",
            EXACT,
            f"all targets are {low:g}",
            f"{count:,} targets in {steps}",
            "look at a cast to int, and at which column the targets come from",
        )
    yield from _of_sign(x)
    yield from _of_lost(x)
    yield from _of_ctc(criteria)
    yield from _of_copies(x)
    yield from _of_text(x)
    yield from _of_pace(x)


def _of_axes(x: WatchedSteps) -> Iterator[ProvenCause]:
    """Functions that normalize along an axis of length 1, or along the rows of the batch."""
    steps = [step for step in x.training if step.axes]
    if len(steps) < _FEWEST or len(steps) < len([step for step in x.training if step.taped]):
        return
    ones = [axis for step in steps for axis in step.axes[:] if axis.shape[axis.axis] == 1 and axis.function != "normalize"]
    if len(ones) >= len(steps) and all(any(a.shape[a.axis] == 1 for a in step.axes) for step in steps):
        last = ones[-1]
        result = "0" if last.function.startswith("log") else "1"
        yield ProvenCause(
            "softmax-over-one",
            EXACT,
            f"{last.function} runs over an axis of length 1: its result is always {result}, and no gradient passes it",
            f"axis {last.axis} of {_shape(last.shape)}, in {len(steps)} of {counted(len(steps), 'watched step')}",
            "the axis of the timesteps or classes as dim; sigmoid for a single output",
        )
    timesteps = {state.timesteps for step in steps for state in step.states}

    def over_rows(step: StepFacts) -> Iterator[AxisFacts]:
        predictions = 0 if step.criterion is None else step.criterion.predictions
        for axis in step.axes:
            is_theirs = axis.rows > 1 and axis.shape[axis.axis] == axis.rows and axis.shape.count(axis.rows) == 1
            if is_theirs and axis.rows not in timesteps and predictions % axis.rows == 0:
                yield axis

    shown = [axis for step in steps for axis in islice(over_rows(step), 1)]
    if len(shown) == len(steps):
        last = shown[-1]
        yield ProvenCause(
            "over-rows",
            EXACT,
            f"{last.function} runs over the rows of the batch: each row depends on all others",
            f"axis {last.axis} of {_shape(last.shape)} has the length of the batch, {last.rows}, in "
            f"{counted(len(steps), 'watched step')}",
            "dim=-1, or that of the timesteps or classes",
        )


def _of_nan(x: WatchedSteps) -> Iterator[ProvenCause]:
    """Constants of the loss with NaN, where the gradient becomes NaN."""
    steps = [step for step in x.training if step.constant_nan is not None]
    if not steps or steps[0].constant_nan is None:
        return
    if all(math.isfinite(update.handed) for update in x.own_updates) and all(
        step.loss is None or math.isfinite(step.loss) for step in steps
    ):
        return
    shape, count = steps[0].constant_nan
    yield ProvenCause(
        "nan-target",
        EXACT,
        "the targets contain NaN, and with them the gradient becomes NaN",
        f"{count:,} of {math.prod(shape):,} numbers {_shape(shape)} that the loss reads, in {len(steps)} of "
        f"{counted(len(x.training), 'watched step')}",
        "choose the entries before the loss, output[valid] and target[valid]: a mask that multiplies by 0 or chooses after it "
        "gives 0 times NaN in the backward pass; or replace them by nan_to_num",
    )


def _of_lost(x: WatchedSteps) -> Iterator[ProvenCause]:
    """Losses that are computed, and that no backward pass reaches."""
    steps = [step for step in x.training if step.criterion is not None]
    lost = [step for step in steps if step.lost[0] - step.lost[1] >= 2 and step.lost[1] == 1]
    if len(lost) >= _FEWEST and len(lost) == len(steps):
        count = lost[-1].lost[0]
        yield ProvenCause(
            "losses-lost",
            EXACT,
            f"of the {count} losses that a step computes, backward() reaches only one",
            f"no gradient arrives at the predictions of {count - 1} of {count} calls of the criterion, in {len(lost)} of "
            f"{counted(len(steps), 'watched step')}",
            "loss = loss + criterion(…) in the loop, or the mean of a list of all; loss = criterion(…) keeps the last one only",
        )


def _of_ctc(criteria: Sequence[CriterionFacts]) -> Iterator[ProvenCause]:
    last, steps = criteria[-1], counted(len(criteria), "watched step")
    if last.kind != "ctc":
        return
    blank, long = (sum(values) / len(criteria) for values in ([c.blank_share for c in criteria], [c.too_long for c in criteria]))
    if blank > 0:
        yield ProvenCause(
            "blank-in-targets",
            EXACT,
            "the targets of CTC contain the blank: that class cannot be recognised",
            f"{100 * blank:.3g} % of the targets in {steps}",
            "classes from 1 on, with 0 for the blank; or blank= another number, such as the last class",
        )
    if long > 0:
        yield ProvenCause(
            "ctc-too-short",
            EXACT if long > _MOSTLY else OBSERVED,
            "rows have fewer timesteps than targets: CTC has no path, and its loss is infinite",
            f"{100 * long:.0f} % of the rows in {steps}",
            "look at input_lengths and target_lengths, and at how far the timesteps are thinned out",
        )


def _of_copies(x: WatchedSteps) -> Iterator[ProvenCause]:
    """Targets that are the very inputs of the prediction."""
    shares = [c.same for c in x.criteria]
    states = [step.states for step in x.training if step.states]
    # One pass over all timesteps reads the token of a prediction's own place: of two modules, the second may not.
    is_plain = bool(states) and all(len(of) == 1 and of[0].calls == 1 and not of[0].bidirectional for of in states)
    measured = [share for share in shares if share is not None]
    if (
        is_plain
        and len(measured) == len(shares) >= _FEWEST
        and min(measured) > _ALL
        and all(c.kind in ("ce", "nll") for c in x.criteria)
    ):
        yield ProvenCause(
            "target-is-input",
            EXACT,
            "the target of a timestep is its own input, which the prediction reads: there is nothing to predict",
            f"{100 * min(measured):.0f} % of the targets or more in {counted(len(measured), 'watched step')}",
            "shift the targets by one: text[:-1] and text[1:]",
        )
    places = {c.place for c in x.criteria}
    if len(places) == 1 and len(x.criteria) >= _FEWEST and (place := places.pop()) is not None and place[0] == 0:
        yield ProvenCause(
            "target-in-input",
            EXACT,
            "the target stands in the input",
            f"the last timestep, feature {place[1] + 1} is equal to it in all rows of {counted(len(x.criteria), 'watched step')}",
            "shift the window by one",
        )


def _of_text(x: WatchedSteps) -> Iterator[ProvenCause]:
    """A text that was cut along the wrong axis: its neighbours lie along the rows of the batch, and go on at the next timestep."""
    text = next((step.text for step in reversed(x.training) if step.text is not None), None)
    if text is None:
        return
    more = text.across_rows - text.in_time
    if more > _SURE * text.deviation and text.across_rows > _MORE * text.in_time and text.around > _SURE * text.deviation_around:
        yield ProvenCause(
            "text-across-rows",
            EXACT,
            "the text runs across the rows of the batch: consecutive timesteps of a row are not consecutive in it",
            f"of {text.pairs:,} watched pairs, a token tells {max(0.0, text.in_time):.2f} nats about the next one in time and "
            f"{text.across_rows:.2f} about that of the next row (above chance), and the last row's about the first row's at the "
            f"next timestep {text.around:.2f}",
            "data.view(batch_size, -1).t() in the place of view(-1, batch_size)",
        )


def _of_pace(x: WatchedSteps) -> Iterator[ProvenCause]:
    """Targets so far from the predictions that these do not come near them."""
    criteria = [(step.number, step.criterion) for step in x.training if step.criterion is not None]
    if len(criteria) < 2 * _FEWEST or any(c.kind not in REGRESSIONS or c.criteria != 1 for _, c in criteria):
        return
    (first, start), (last, end) = criteria[0], criteria[-1]
    mean = sum(c.target_mean for _, c in criteria) / len(criteria)
    deviation = sum(c.target_deviation for _, c in criteria) / len(criteria)
    way, left = abs(mean - start.output_mean), abs(mean - end.output_mean)
    if not (math.isfinite(left) and last > first and max(abs(mean), deviation) > _FAR and left > deviation):
        return
    steps = left * (last - first) / (way - left) if way > left else math.inf
    if steps > _AS_LONG * last:
        pace = f"; at this pace they take {steps:,.3g} more steps" if math.isfinite(steps) else ""
        yield ProvenCause(
            "target-scale",
            EXACT,
            f"the targets are far from what the model can give: their mean is {mean:,.4g}, their deviation {deviation:,.3g}",
            f"the mean prediction was {start.output_mean:.3g} in step {first:,} and is {end.output_mean:.3g} in step "
            f"{last:,}{pace}",
            "normalise the targets to mean 0 and deviation 1, and scale the predictions back",
        )


def _of_shapes(x: WatchedSteps) -> Iterator[ProvenCause]:
    steps = len(x.training)
    unlike = [c for c in x.criteria if c.kind in REGRESSIONS and c.input_shape != c.target_shape]
    if unlike and len(unlike) == len(x.criteria):
        one, other = unlike[-1].input_shape, unlike[-1].target_shape
        size = _broadcast_size(one, other)
        if size > math.prod(one) or size > math.prod(other):
            yield _is_broadcast(f"the output {_shape(one)} and the target {_shape(other)} are", size, math.prod(one), len(unlike))
    wide = [step.broadcast for step in x.training if step.broadcast is not None]
    if not unlike and wide and len(wide) >= _MOSTLY * steps:
        one, other, both = wide[-1]
        yield _is_broadcast(
            f"a difference of {_shape(one)} and {_shape(other)} is",
            math.prod(both),
            max(math.prod(one), math.prod(other)),
            len(wide),
        )
    viewed = [step.viewed for step in x.training if step.viewed is not None]
    if len(viewed) >= _FEWEST and len(viewed) >= _MOSTLY * steps:
        before, after = viewed[-1]
        yield ProvenCause(
            "view-not-transpose",
            EXACT,
            f"{_shape(before)} is viewed as {_shape(after)}: that cuts the numbers anew, it does not exchange the axes",
            f"a view or reshape in {len(viewed)} of {counted(steps, 'watched step')}",
            "transpose(0, 1) of the two axes",
        )


def _is_broadcast(which: str, size: int, predictions: int, times: int) -> ProvenCause:
    return ProvenCause(
        "broadcast",
        EXACT,
        f"the loss compares every row with every other: {which} broadcast",
        f"{size:,} differences for {counted(predictions, 'number')}, in {counted(times, 'watched step')}",
        "give both one shape: target.unsqueeze(1), or output.squeeze(1)",
    )


def _broadcast_size(one: Sequence[int], other: Sequence[int]) -> int:
    longest = max(len(one), len(other))
    padded = [(1,) * (longest - len(shape)) + tuple(shape) for shape in (one, other)]
    return math.prod(max(a, b) for a, b in zip(*padded, strict=True))


def _of_linear(kind: str, rest: float, times: int, x: WatchedSteps) -> ProvenCause:
    seen = f"to {rest:.0e} relative, in {times} of {counted(len(x.training), 'watched step')}"
    if kind == "minus probability":
        return ProvenCause(
            "no-log",
            EXACT,
            "the loss is minus the probability of the target, not minus its logarithm",
            f"the gradient at the last Linear is p (p − y) with one factor, {seen}; that of cross-entropy is p − y",
            "log_softmax, or cross_entropy of the logits",
        )
    return ProvenCause(
        "negated",
        EXACT,
        "the loss is negated: each step makes the predictions worse",
        f"the gradient at the last Linear is minus that of cross-entropy, {seen}",
        "no minus before the loss",
    )


def _of_feed(last: CriterionFacts, steps: str) -> Iterator[ProvenCause]:
    feeds, kind = last.feeds, last.kind
    by = f"its input is the result of {feeds.lower() or 'no function'} in {steps}"
    if kind == "ce" and "Softmax" in feeds and "LogSoftmax" not in feeds:
        yield ProvenCause(
            "softmax-twice",
            EXACT,
            "softmax is applied twice: to the logits, and again in the loss",
            f"{by}; each row of it adds up to 1 (to {last.sum_error:.0e})",
            f"{_LOGITS}; or log_softmax with nll_loss",
            meaning="nn.CrossEntropyLoss takes logits. Probabilities are between 0 and 1, so their softmax is nearly uniform, "
            "whatever the "
            "model predicts, and the gradient is small.",
        )
    elif kind == "ce" and "Sigmoid" in feeds:
        yield ProvenCause("sigmoid-before-ce", EXACT, "cross_entropy gets numbers between 0 and 1 (sigmoid) as logits", by, _LOGITS)
    elif kind == "ce" and "Relu" in feeds and "Leaky" not in feeds:
        dead = " and here all are 0" if last.largest == 0 else ""
        yield ProvenCause(
            "relu-before-ce",
            EXACT,
            f"ReLU cuts the logits: none can be negative{dead}",
            f"{by}; {100 * last.zeros:.0f} % of them are exactly 0",
            "no ReLU on the last layer",
        )
    elif kind == "ce" and "Tanh" in feeds:
        most = math.e / (math.e + (last.classes - 1) / math.e)
        yield ProvenCause(
            "tanh-before-ce",
            EXACT,
            f"tanh leaves the logits within −1 … 1: no probability can be more than {most:.2f}",
            by,
            "no tanh on the last layer",
        )
    elif kind in ("nll", "ctc") and last.log_sum_error > _ROUNDING and "LogSoftmax" in feeds:
        yield ProvenCause(
            "softmax-over-other-axis",
            EXACT,
            "log_softmax runs over another axis than that of the classes",
            f"{by}; the exponentials of a row of classes add up to 1 ± {last.log_sum_error:.2g}, not to 1",
            "log_softmax(dim=-1) for rows of classes, or cross_entropy of the logits",
        )
    elif kind in ("nll", "ctc") and last.log_sum_error > _ROUNDING:
        yield ProvenCause(
            "nll-without-log",
            EXACT,
            f"{kind}_loss takes log probabilities and gets {'probabilities' if 'Softmax' in feeds else 'something else'}",
            f"{by}; the exponentials of a row add up to 1 ± {last.log_sum_error:.2g}",
            f"log_softmax before {kind}_loss" + (", or cross_entropy of the logits" if kind == "nll" else ""),
        )
    elif kind == "bcel" and ("Sigmoid" in feeds or "Softmax" in feeds):
        yield ProvenCause(
            "sigmoid-twice",
            EXACT,
            "binary_cross_entropy_with_logits gets probabilities: the sigmoid is taken twice",
            f"{by}; so the probabilities stay between 0.5 and 0.73",
            "give it the logits, or use binary_cross_entropy",
        )
    elif kind == "kl" and "Log" not in feeds and last.log_sum_error > _ROUNDING:
        yield ProvenCause(
            "kl-without-log", EXACT, "kl_div takes log probabilities as its input and gets something else", by, "log_softmax"
        )


def _of_sign(x: WatchedSteps) -> Iterator[ProvenCause]:
    criteria = [c for c in x.criteria if c.factor is not None and c.criteria == 1]  # one of several can be an adversary's
    if len(criteria) < min(_FEWEST, len(x.criteria)) or not criteria:
        return
    factors = sorted(c.factor for c in criteria if c.factor is not None)
    climbs = any(update.settings.get("maximize") for update in x.own_updates)
    if factors[-1] < 0 and not climbs and len(criteria) == len(x.criteria):
        yield ProvenCause(
            "negated",
            EXACT,
            "the loss is negated: each step makes the predictions worse",
            f"the gradient at the criterion's input is {factors[len(factors) // 2]:.3g} times that of {x.criteria[-1].kind} (to "
            f"{max(c.misfit for c in criteria):.0e}) in {counted(len(criteria), 'watched step')}",
            "no minus before the loss; or maximize=True, if it is a score",
        )


# ------------------------------------------------------------------------------
# States between the steps.


def _of_states(x: WatchedSteps) -> Iterator[ProvenCause]:
    modules = dict.fromkeys(state.module for step in x.training for state in step.states)
    for module in modules:
        states = [state for step in x.training for state in step.states if state.module == module]
        if len(states) >= _FEWEST:
            yield from _of_reading(module, states)
            yield from _of_module_states(module, states, x)


def _of_reading(module: str, states: Sequence[StateFacts]) -> Iterator[ProvenCause]:
    """What a recurrent module reads: numbers that are too large for it, or marks of missing values."""
    steps = counted(len(states), "watched step")
    missing = [state.missing for state in states if state.missing is not None]
    if len(missing) == len(states) and len({number for number, _, _ in missing}) == 1:
        number, share, largest = missing[-1]
        yield ProvenCause(
            "missing-as-number",
            EXACT,
            f"{number:g} stands for what is missing, and {module} reads it as a number",
            f"it is {100 * share:.3g} % of what it reads in {steps}; all other numbers are within ±{rounded(largest)}",
            "replace it by 0 or the mean of its feature, and add a feature that says where something is missing",
        )
        return
    flat = [state for state in states if state.flat is not None]
    if len(flat) >= 2 and all(state.flat is not None and state.flat > 0.5 for state in flat):
        shares = [state.flat or 0 for state in flat]
        yield ProvenCause(
            "input-scale",
            EXACT,
            f"the inputs of {module} are so large that most of its gates and units stand still at their limits by them alone",
            f"their root mean square is {rounded(flat[0].read_size)}; |W x + b| is above {FLAT_FROM:g}, where the slope is below "
            f"1/2980, in {100 * min(shares):.0f} % or more of the sums of the first {counted(len(flat), 'watched step')}",
            "normalise each feature to mean 0 and deviation 1",
        )


def _of_module_states(module: str, states: Sequence[StateFacts], x: WatchedSteps) -> Iterator[ProvenCause]:
    if all(state.passed == min(state.calls, MOST_PASSED) - 1 >= _FEWEST and not state.passed_in_graph for state in states):
        yield ProvenCause(
            "detached-at-every-timestep",
            EXACT,
            "the state is detached at every timestep: no gradient flows back through time",
            f"{module} is called {states[-1].calls} times a step, each time with its last state bit for bit, and without the "
            f"graph of it, in {counted(len(states), 'watched step')}",
            "detach the state between batches, not between timesteps",
        )
    if all(state.repeated == min(state.calls, MOST_PASSED) - 1 >= _FEWEST for state in states):
        yield ProvenCause(
            "state-not-passed",
            EXACT,
            f"{module} begins each timestep with the same state: the one that it returns is not passed on",
            f"{states[-1].calls} calls a step, each with the state of the first one bit for bit, in "
            f"{counted(len(states), 'watched step')}",
            "pass the state that a call returns to the next one",
        )
        return
    random = [state for state in states if state.random and state.size]  # a function that draws other numbers may give zeros
    reads_data = any(step.inputs and not (step.inputs[0].random or step.inputs[0].constant) for step in x.training)
    if len(random) >= _MOSTLY * len(states) and reads_data:
        yield ProvenCause(
            "random-state",
            EXACT,
            f"{module} begins every step with random numbers as its state",
            f"h0 comes from a function that draws numbers in {len(random)} of {counted(len(states), 'watched step')} (root mean "
            "square "
            f"{random[-1].size:.2g})",
            "h0 of zeros, or the last state",
        )
        return
    swapped = [state for state in states if state.swapped]
    judged = [state for state in states if state.carried is not None]
    if len(swapped) > 1 and len(swapped) == len(judged):
        yield ProvenCause(
            "state-swapped",
            EXACT,
            f"{module} gets its last state as (c, h): the two are exchanged",
            f"h0 is bit for bit the last c, and c0 the last h, in {len(swapped)} of {counted(len(judged), 'pair')} of steps",
            "pass (h, c)",
        )
        return
    carried = [state for state in judged if state.carried]
    if len(carried) < 2 or len(carried) < len(judged):
        return
    if all(state.calls == 1 and state.timesteps == 1 for state in states) and not any(state.in_graph for state in states):
        yield ProvenCause(
            "one-timestep-chunks",
            OBSERVED,  # a model may learn from every sample of a stream on purpose
            "every backward pass sees one timestep: no gradient flows through time",
            f"{module} gets 1 timestep a step, and its state comes without a graph, in {counted(len(states), 'watched step')}",
            "chunks of several timesteps a step",
        )
    elif all(state.calls == 1 and state.timesteps == 1 for state in states):
        return
    shares = [state.continued for state in carried if state.continued is not None]
    follows = [c.follows for c in x.criteria if c.follows is not None]
    is_text = len(shares) > 1 and len(shares) == len(carried) and bool(follows) and min(follows) > _ALL
    if is_text and max(shares) < _NOT_CONTINUED and sum(shares) / len(shares) < _HARDLY_CONTINUED:
        yield ProvenCause(
            "carried-over-shuffled",
            EXACT,
            "the state of one batch begins the next, but the rows do not continue",
            "the first input of a row is the last target of the same row one step before in "
            f"{100 * sum(shares) / len(shares):.0f} % "
            f"of the rows of {counted(len(shares), 'watched pair')} of steps; where a text goes on it is in 100 %",
            "rows that continue (no shuffle), or zeros as the state of each batch",
        )
        return
    following = next((state.following for state in reversed(carried) if state.following is not None), None)
    if following is not None and following.again >= _FEW_ROWS and following.different > _MOSTLY * following.again:
        yield ProvenCause(
            "carried-over-shuffled",
            EXACT,
            "the state of one batch begins the next, but the rows do not continue",
            f"{module} begins with its last state bit for bit in {counted(len(carried), 'watched step')}; of "
            f"{following.again:,} rows that were watched again, {following.different:,} were followed by another row than before",
            "zeros as the state of each batch (None), or rows that continue (shuffle=False)",
        )


# ------------------------------------------------------------------------------


RULES = (_of_optimizer, _of_parameters, _of_modes, _of_inputs, _of_criterion, _of_states)
#: What follows from another cause where that is there.
_FOLLOWS = {"no-gradient", "all-gradients-0", "vanishing", "input-not-read"}


def causes_of(x: WatchedSteps) -> list[ProvenCause]:
    """Return the causes that the facts of watched steps show, without an experiment: proven ones first, effects of others last."""
    causes = [cause for rule in RULES for cause in rule(x)]
    names = {cause.name for cause in causes}
    if "rate-decayed" in names:
        first = next(cause for cause in causes if cause.name == "rate-decayed")
        causes = [cause for cause in causes if cause.name != "rate-decayed" or cause is first]
    if "softmax-over-other-axis" in names:  # which says the same of the loss
        causes = [cause for cause in causes if cause.name != "over-rows"]
    if names & {"no-backward", "optimizer-of-other"}:
        causes = [cause for cause in causes if cause.name not in ("not-in-optimizer", "never-moves")]
    return by_proof(causes)


def by_proof(causes: Sequence[ProvenCause]) -> list[ProvenCause]:
    """Return causes sorted by proof; of equal proof, those that follow from others last. What follows from others counts no more
    than an exact fact where there is one."""
    if any(cause.proof == EXACT and not _follows(cause) for cause in causes):
        causes = [cause._replace(proof=min(cause.proof, EXACT)) if _follows(cause) else cause for cause in causes]
    return sorted(causes, key=lambda cause: (-cause.proof, _follows(cause)))


def _follows(cause: ProvenCause) -> bool:
    return cause.is_effect or cause.name in _FOLLOWS


def loss_in_words(losses: Sequence[float]) -> str:
    """Return how the loss has gone, with its numbers: the mean of the first three steps, and that of the last twelfth."""
    finite = [loss for loss in losses if math.isfinite(loss)]
    if len(finite) < 2:
        return ""
    few = max(3, len(finite) // 12)
    first, last = sum(finite[:3]) / len(finite[:3]), sum(finite[-few:]) / len(finite[-few:])
    return f"the loss was {rounded(first)} at first and is {rounded(last)} after {counted(len(losses), 'step')}"
