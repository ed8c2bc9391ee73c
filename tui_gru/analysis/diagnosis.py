"""Diagnosis: the causes of what is wrong with a training, each with its proof: facts, what predictions read, and trials."""

from __future__ import annotations

import copy
import math
import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

import numpy as np

from tui_gru.analysis.causes import EXACT, OBSERVED, PROVEN, ProvenCause, WatchedSteps, by_proof, causes_of
from tui_gru.analysis.examined import Evidence, Finding
from tui_gru.analysis.experiments import Experiments, causes_by_experiment, with_trials
from tui_gru.analysis.findings import TABLE
from tui_gru.analysis.reads import causes_by_reading
from tui_gru.analysis.trials import (
    LATER,
    LEAST_TRIED,
    UNDO,
    Cure,
    can_have,
    final_loss,
    is_lower,
    loss_after,
    losses_with,
    own_losses,
    trial_batches,
)
from tui_gru.capture.facts import StepWatch
from tui_gru.capture.replay import Replay
from tui_gru.capture.trial import in_trial
from tui_gru.debugger.moment import Moment
from tui_gru.debugger.timeline import Timeline
from tui_gru.engine.numbers import counted, rounded
from tui_gru.engine.weights import NUMPY_SETTINGS
from tui_gru.errors import CaptureError, TuiGruError, shown

if TYPE_CHECKING:
    from torch.nn import Module

    from tui_gru.analysis.live import LiveLoop

NOT_TRIED = "not tried"


@dataclass(frozen=True, repr=False)
class Diagnosis(Finding):
    """A finding with its proof, as of `diagnose`.

    `cause` is a text in this class, the fact in the user's terms, and its title: a diagnosis consists of causes, and none follows
    from another finding. It is "" for an observation, whose numbers are in `seen`. `seen` says how often and how exactly it was
    seen, `tried` the experiment with both numbers, and `proof` is 3 for a fact and an experiment or two independent facts, 2 for an
    exact fact, 1 for an experiment alone, 0 for an observation. Each text is "" where there is none.
    """

    cause: str = ""  # type: ignore[assignment]
    seen: str = ""
    tried: str = ""
    proof: int = 0

    @property
    def cure_label(self) -> str:
        """The word before the cure, with the remark that it was not tried, if it was not."""
        return "cure" if self.tried else f"cure, {NOT_TRIED}"

    @classmethod
    def of(cls, cause: ProvenCause) -> Diagnosis:
        """Return a cause as a finding. An observation has no cause, and its title is the first of its numbers."""
        evidence = (Evidence(cause.seen), *((Evidence(cause.tried),) if cause.tried else ()))
        title = cause.title or "no fact decides why the loss is as it is"
        return cls(
            cause.name,
            title,
            cause.meaning,
            cause.cure,
            evidence,
            is_tried=bool(cause.tried),
            is_observation=not cause.proof,
            cause=cause.title if cause.proof else "",
            seen=cause.seen or cause.title,
            tried=cause.tried,
            proof=cause.proof,
        )

    def __repr__(self) -> str:
        return f"<diagnosis {self.name}, proof {self.proof}: {self.title}; cure: {self.cure}>"


def diagnose_script(
    watch: StepWatch | None,
    facts: WatchedSteps,
    *,
    check: Callable[[], object] = lambda: None,
    progress: Callable[[str], object] | None = None,
) -> tuple[Diagnosis, ...]:
    """Return the causes in the watched steps of a script, sorted by proof. Without a `watch` that has their calls, as for a
    recording, they are those of the facts alone.

    `check` is called between the steps of trials, and may raise an error to end them.
    """
    causes = causes_of(facts)
    if watch is not None and watch.tapes:
        causes = list(_with_experiments(causes, watch, facts, check, progress or (lambda words: None)))
    return tuple(map(Diagnosis.of, causes_first(causes)))


def causes_first(causes: Sequence[ProvenCause]) -> list[ProvenCause]:
    """Return causes sorted by proof. What another one explains by the table of findings comes after it, whatever its proof."""
    names = {cause.name for cause in causes if cause.proof >= EXACT}
    explained = {name for row in TABLE if row.name in names for name in row.effects if name != row.name}
    explained -= {row.name for row in TABLE if row.name in explained and explained.issuperset(names)}  # each the other
    return by_proof([cause._replace(is_effect=cause.is_effect or cause.name in explained) for cause in causes])


def _with_experiments(
    causes: list[ProvenCause],
    watch: StepWatch,
    facts: WatchedSteps,
    check: Callable[[], object],
    progress: Callable[[str], object],
) -> Iterator[ProvenCause]:
    try:
        replay = Replay(watch)
    except CaptureError:
        yield from causes
        return
    progress("looking what each prediction reads")
    read = causes_by_reading(replay)
    if any(cause.name == "view-not-transpose" for cause in causes):  # which mixes the rows
        read = [cause for cause in read if cause.name not in ("reads-target", "rows-mixed")]
    causes = _merged([*causes, *read])
    causes += _of_not_finite(replay, facts, causes)
    check()
    progress("trying changes on a copy")
    experiments = Experiments(facts, replay, check)
    try:
        causes = list(with_trials(experiments, causes))
        causes += causes_by_experiment(experiments, causes)
    except (RuntimeError, CaptureError, TypeError, ValueError, KeyError, AttributeError) as error:
        if isinstance(error, CaptureError) or not _is_interruption(error):
            progress("the steps cannot be computed again on a copy, so nothing was tried")
        else:
            raise
    yield from _merged(causes)


def _of_not_finite(replay: Replay, facts: WatchedSteps, causes: Sequence[ProvenCause]) -> Iterator[ProvenCause]:
    """Name the function whose backward pass gives NaN first, where a gradient is NaN and no input is."""
    broken = [update for update in facts.own_updates if update.passes and not math.isfinite(update.handed)]
    if not broken or any(cause.name in ("nan-input", "nan-target") for cause in causes):
        return
    try:
        first = replay.not_finite_function()
    except (RuntimeError, CaptureError, TypeError, ValueError, KeyError, AttributeError):
        return
    if first is None:
        return
    name = first[0].removeprefix("Linalg").lower()
    yield ProvenCause(
        "gradient-not-finite",
        PROVEN,
        f"the gradient becomes NaN in the backward pass of {name}",
        f"the gradient that came to the parameters is not finite in {len(broken)} of "
        f"{counted(len(facts.own_updates), 'watched update')}",
        f"give {name} no number at which its derivative is infinite, as a root or a logarithm at 0: x + 1e-8; a mask that "
        "multiplies by 0 comes too late, since 0 times infinity is NaN: choose the entries before it",
        f"the step was computed again on a copy, function by function: its loss is finite, and {name} is the first whose "
        "gradient is NaN",
    )


def with_findings(causes: Sequence[Diagnosis], findings: Sequence[Finding]) -> tuple[Diagnosis, ...]:
    """Return the causes of a script with its other findings that are no consequence: what is computed from the recorded numbers."""
    names = {cause.name for cause in causes}
    others = [
        _diagnosis(finding, finding.cure, finding.cures, "; ".join(e.words for e in finding.evidence), "", _proof_of(finding))
        for finding in findings
        if finding.cause is None and finding.name not in names
    ]
    proven = [cause for cause in (*causes, *others) if cause.proof]
    return (
        *proven,
        *(cause for cause in others if not cause.proof),
        *(cause for cause in causes if not cause.proof and not proven),
    )


def _proof_of(finding: Finding) -> int:
    return OBSERVED if finding.is_observation else EXACT


def _is_interruption(error: Exception) -> bool:
    return type(error).__module__.startswith("tui_gru.") and not isinstance(error, CaptureError)


def _merged(causes: Sequence[ProvenCause]) -> list[ProvenCause]:
    """Return causes without repetitions: of one name the one with more proof; and without what has no meaning beside another."""
    best: dict[str, ProvenCause] = {}
    for cause in causes:
        if cause.name not in best or cause.proof > best[cause.name].proof:
            best[cause.name] = cause
    if "over-rows" in best:
        best.pop("rows-mixed", None)
    if {"nan-input", "zero-input", "constant-input"} & best.keys():
        best.pop("input-not-read", None)
    if any(cause.proof == PROVEN for cause in best.values()):
        best.pop("not-decided", None)
    return list(best.values())


# ------------------------------------------------------------------------------
# A run of this program: each finding that is no consequence, with its cures tried on copies.


_BETTER = 0.05  # nats by which a cure must lower the loss
_BEFORE = 8  # batches before the trouble is seen, where a trial of it begins
_ENOUGH_CURES = 3  # of a finding that help, after which no others are tried
#: Facts of a model and its data, whether the loss tells or not; and those whose cure cannot lower a loss that is not earned.
_OF_STRUCTURE = {"target-is-read", "rows-do-not-continue", "gradient-into-earlier-batches", "rows-know-each-other"}
_CHEATS = {"target-is-read", "rows-know-each-other"}


def diagnose_run(
    timeline: Timeline,
    moment: Moment,
    findings: Sequence[Finding],
    *,
    check: Callable[[], object] = lambda: None,
    progress: Callable[[str], object] | None = None,
) -> tuple[Diagnosis, ...]:
    """Return the findings of a run that are no consequence of others, sorted by proof, each with the cure that helps.

    A cure is tried from where the trouble begins, if the run can go on with it there, and otherwise from the first batch. One that
    does not lower the loss is not offered; a finding none of whose cures helps is an observation, unless it is a fact of the model
    or its data.
    """
    results = list[Diagnosis]()
    with NUMPY_SETTINGS:
        for finding in (finding for finding in findings if finding.cause is None):
            if progress is not None:
                progress(f"trying cures of {finding.name}")
            results.append(_of_finding(timeline, moment, finding, check))
    return tuple(sorted(results, key=lambda finding: -finding.proof))


def _of_finding(timeline: Timeline, moment: Moment, finding: Finding, check: Callable[[], object]) -> Diagnosis:
    seen = "; ".join(evidence.words for evidence in finding.evidence)
    trials = list[tuple[Cure, float, float, str]]()
    most = trial_batches(timeline.program.config)
    completed = timeline.completed(moment.position)
    cures = tuple(dict.fromkeys(cure for cure in finding.cures if can_have(timeline, moment, cure)))
    if most >= LEAST_TRIED and completed:
        for cure in cures:
            if (trial := _trial_of(timeline, moment, finding, cure, most, check)) is not None:
                trials.append(trial)
            if sum(with_it < without for _, without, with_it, _ in trials) == _ENOUGH_CURES:
                break
    helping = [trial for trial in trials if trial[2] < trial[1]]
    if helping:
        cure, without, loss, where = min(helping, key=lambda trial: trial[2] - trial[1])
        tried = f"{where} end at {rounded(loss)} with {cure.typed}, and at {final_loss(without)} without it"
        others = tuple(trial[0] for trial in helping if trial[0] != cure)
        words = cure.typed if not cure.words or finding.is_tried else finding.cure
        return _diagnosis(finding, words, (cure, *others), seen, tried, PROVEN)
    if trials:
        lines = [f"{where} end at {final_loss(without)}, not lower with {cure.typed}" for cure, without, _, where in trials]
        words, offered = (finding.cure, cures) if finding.name in _CHEATS else ("", ())
        return _diagnosis(finding, words, offered, seen, "; ".join(lines), EXACT if finding.name in _OF_STRUCTURE else OBSERVED)
    if finding.is_tried:  # by the finding itself, whose evidence says how
        return _diagnosis(finding, finding.cure, cures, seen, finding.evidence[-1].words, PROVEN)
    return _diagnosis(finding, finding.cure, cures, seen, "", _proof_of(finding))


def _diagnosis(finding: Finding, cure: str, cures: tuple[Cure, ...], seen: str, tried: str, proof: int) -> Diagnosis:
    of_finding = {item.name: getattr(finding, item.name) for item in fields(Finding)}
    evidence = finding.evidence
    if tried and all(part.words != tried for part in evidence):
        evidence = (*evidence, Evidence(tried))
    changed = {"cure": cure, "cures": cures, "is_tried": bool(tried), "cause": finding.title if proof else "", "evidence": evidence}
    changed["is_observation"] = not proof
    return Diagnosis(**{**of_finding, **changed}, seen=seen, tried=tried, proof=proof)


def _trial_of(
    timeline: Timeline, moment: Moment, finding: Finding, cure: Cure, most: int, check: Callable[[], object]
) -> tuple[Cure, float, float, str] | None:
    """Return a cure with the loss without it and with it, the same if it is not surely lower, and where it was tried in words; None
    if it is no option that the run can have."""
    if cure.name == "sampler":
        return None
    completed = timeline.completed(moment.position)
    begins = 0 if finding.first_seen is None else finding.first_seen.number
    since = (finding.since or max(0, begins - _BEFORE)) if cure.name in LATER else 0
    since = timeline.completed(timeline.position(cure.value)) if cure.name == UNDO else min(since, completed - 1)
    count = min(max(completed - since, LEAST_TRIED), most)
    try:
        losses = losses_with(timeline, moment, cure, count, since=0 if cure.name == UNDO else since, check=check)
    except TuiGruError:  # the run cannot have it there
        return None
    if losses is None:
        return None
    unchanged = (
        own_losses(timeline, moment, since, count, check)
        if cure.name == UNDO or since
        else losses_with(timeline, moment, None, count, check=check) or []
    )
    without, loss = loss_after(unchanged), loss_after(losses)
    where = f"on a copy, {counted(count, 'batch')} from {timeline.program.config.source.step(since) or f'batch {since + 1:,}'} on"
    return cure, without, loss if is_lower(losses, unchanged, _BETTER) else without, where


# ------------------------------------------------------------------------------
# A script by its own function or loop.


def diagnose(model: Module, optimizer: Any, run: Any, *, progress: Callable[[str], object] | None = None) -> tuple[Finding, ...]:
    """Return the causes of what is wrong with a training of `model`, sorted by proof; empty if no fact shows any.

    `run` is the loop of `tui_gru.steps`, whose last steps are run again, or a function without arguments that trains a few steps,
    ten at best: it is called once, and the weights, the states of the optimizers and the random numbers are put back after it. Each
    finding has `.cause`, `.seen`, `.tried` and `.cure`, texts that are "" where there is none, and `.proof`: 3 for a fact and an
    experiment, 2 for an exact fact, 1 for an experiment alone, 0 for an observation.

    Nothing of the script changes but what `run` itself does besides, as writing a file. Raises `TuiGruError` for a wrong argument.
    """
    from tui_gru.torch_loading import require_torch

    require_torch("tui_gru.diagnose")
    import torch

    from tui_gru.capture.hooks import hook_calls, optimizers_in, unhook

    if in_trial():
        return ()
    if not isinstance(model, torch.nn.Module):
        raise CaptureError(f"model must be a torch.nn.Module, not {type(model).__name__}", option="model")
    is_loop = callable(getattr(run, "watched", None))
    if not is_loop and not callable(run):
        raise CaptureError(
            f"run must be the loop of tui_gru.steps, or a function that trains some steps, not {shown(run)}", option="run"
        )
    optimizers = optimizers_in(optimizer)
    if is_loop:
        return diagnose_loop(run, progress=progress)
    watch = StepWatch(model, optimizers, hook_calls, unhook, keeps_tapes=True, all_steps=True)
    try:
        with _put_back(model, optimizers):
            run()
            watch.end_step(None)
    finally:
        watch.close()
    return _of_watch(watch, (), progress=progress)


def diagnose_loop(
    loop: LiveLoop, *, check: Callable[[], object] = lambda: None, progress: Callable[[str], object] | None = None
) -> tuple[Diagnosis, ...]:
    """Return the causes in the last steps of a loop, which are run again."""
    if progress is not None:
        progress("running the last steps again")
    watch, losses = loop.watched()
    return () if watch is None else _of_watch(watch, losses, check=check, progress=progress)


def _of_watch(
    watch: StepWatch,
    losses: Sequence[float],
    *,
    check: Callable[[], object] = lambda: None,
    progress: Callable[[str], object] | None = None,
) -> tuple[Diagnosis, ...]:
    steps = watch.memory.steps
    if not steps:
        raise CaptureError("run trains nothing: the model was not called in it, and no optimizer has run", option="run")
    course = tuple(losses) or tuple(step.loss for step in steps if step.loss is not None)
    return diagnose_script(watch, WatchedSteps(steps, course), check=check, progress=progress)


@contextmanager
def _put_back(model: Module, optimizers: Sequence[Any]) -> Iterator[None]:
    """Put the weights, the states of the optimizers and the random numbers back at the end."""
    import torch

    state = {name: value.detach().clone() for name, value in model.state_dict().items()}
    of_optimizers = [copy.deepcopy(optimizer.state_dict()) for optimizer in optimizers]
    gradients = [None if p.grad is None else p.grad.detach().clone() for p in model.parameters()]
    training, numpy_state, python_state = model.training, np.random.get_state(), random.getstate()
    with torch.random.fork_rng(devices=[]):
        try:
            yield
        finally:
            model.load_state_dict(state)
            for optimizer, before in zip(optimizers, of_optimizers, strict=True):
                optimizer.load_state_dict(before)
            for parameter, gradient in zip(model.parameters(), gradients, strict=True):
                parameter.grad = gradient
            model.train(training)
            np.random.set_state(numpy_state)
            random.setstate(python_state)
