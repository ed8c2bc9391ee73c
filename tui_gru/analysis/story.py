"""The story of a run: how gates, weights and gradients developed over its batches, and the course of any expression."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

import numpy as np
from numpy.typing import NDArray

from tui_gru.analysis.findings_of_course import held_out_loss
from tui_gru.analysis.influence import last_prediction_gradient
from tui_gru.analysis.summaries import limits_of, saturating
from tui_gru.analysis.trials import Interruption
from tui_gru.debugger.expressions import TimedExpression
from tui_gru.debugger.history import COLUMNS, ScalarRows
from tui_gru.debugger.moment import Moment, value_before
from tui_gru.debugger.position import position_of
from tui_gru.debugger.program import Program
from tui_gru.debugger.timeline import Timeline
from tui_gru.engine.batch import BatchRecord
from tui_gru.engine.config import Text
from tui_gru.engine.sampling import refused, sample_text
from tui_gru.engine.source import Ability, masked_where, with_blanks
from tui_gru.engine.weights import NUMPY_SETTINGS, Float64Array, Weights, norms_over_time
from tui_gru.errors import TuiGruError

POINTS = 40
SAMPLE = 64  # characters of the sample of a moment
_PRIMER = 2  # characters of the text before it
_NEAR = 8  # a batch is replaced by the one after a checkpoint if that is earlier by less than an eighth of the batches before it
_JUMP = 12.0  # a change of the loss from one batch to the next of so many times the median change is a jump
_LEAST_JUMPS, _MOST_JUMPS = 16, 6  # changes that a median needs; jumps with moments of their own
_TOGETHER = 8  # jumps within so many batches are one: up, and down again


# ------------------------------------------------------------------------------
# The course of an expression.


def course(
    timeline: Timeline,
    upto: int,
    expression: str,
    points: int = POINTS,
    *,
    at: Sequence[int] | None = None,
    check: Interruption | None = None,
) -> tuple[NDArray[np.intp], ScalarRows]:
    """Return batches and the value of an expression at the end of each: (n,) and (n,).

    Batches are counted through all epochs, 0-based, among the first `upto`. They are those in `at`; without it, at most `points`:
    the first and the last, and others about evenly spaced on a logarithmic scale. Where possible, one of those is a batch that
    begins at a checkpoint, since it is replayed alone. A value that is not computed in a batch, such as a gradient of a batch that
    does not learn, is masked.

    Raises `ConditionError` if the expression cannot be parsed or evaluated, `TuiGruError` if it is not a single number.
    """
    program = timeline.program
    compiled = TimedExpression(expression, program.spellings)
    batches = batches_spaced(timeline, upto, points) if at is None else np.array(sorted({b for b in at if 0 <= b < upto}), np.intp)
    values: list[float | None] = [None] * len(batches)
    for i, batch in enumerate(batches.tolist()):
        if check is not None:
            check()
        moment = end_of_batch(timeline, batch)
        previous = timeline.before(batch) if compiled.reads_before else None
        value = compiled.value(moment.in_conditions, partial(value_before, moment, previous))
        if value is None:
            continue
        if isinstance(value, str) or np.ndim(value):
            kind = "a character" if isinstance(value, str) else f"{np.size(value)} numbers"
            raise TuiGruError(f"{expression} is {kind}; a curve needs one number, as in max(abs({expression}))")
        values[i] = float(value)
    return batches, with_blanks(values)


def batches_spaced(timeline: Timeline, upto: int, points: int) -> NDArray[np.intp]:
    """Return at most `points` of the batches 0 … `upto` − 1 in order, on a logarithmic scale."""
    if upto < 1:
        return np.empty(0, np.intp)
    chosen = np.unique(np.round(np.geomspace(1, upto, points)).astype(np.intp)) - 1 if points > 1 else np.array([upto - 1])
    return _at_checkpoints(timeline, chosen, chosen // _NEAR)


def _even(timeline: Timeline, upto: int, points: int) -> NDArray[np.intp]:
    """Return at most `points` of the batches 0 … `upto` − 1 in order, evenly spaced."""
    if upto < 1:
        return np.empty(0, np.intp)
    chosen = np.unique(np.round(np.linspace(0, upto - 1, points)).astype(np.intp)) if points > 1 else np.array([upto - 1])
    return _at_checkpoints(timeline, chosen, np.full(len(chosen), upto // (4 * points)))


def _at_checkpoints(timeline: Timeline, batches: NDArray[np.intp], most: NDArray[np.intp]) -> NDArray[np.intp]:
    """Return batches (n), in order, but for the last each replaced by the one at the checkpoint before it if that is earlier by at
    most its number in `most`."""
    begins = np.array([timeline.replay_start(batch) for batch in batches.tolist()], np.intp)
    near = (batches - begins <= most) & (batches != batches[-1])
    return np.unique(np.where(near, begins, batches))


def jumps_of(losses: ScalarRows, recorded: NDArray[np.bool_]) -> list[int]:
    """Return batches around the largest jumps of a loss (n), among those `recorded`: the last one before each, the highest, and the
    first one after it; and the first loss that is not finite, with the batch before."""
    batches = np.flatnonzero(recorded)
    values = losses[batches]
    lost = np.flatnonzero(~np.isfinite(values))[:1].tolist()
    chosen = {at for first in lost for at in (first - 1, first)}
    sizes = np.abs(np.diff(values[: lost[0] if lost else len(values)]))
    if len(sizes) >= _LEAST_JUMPS:
        places = np.flatnonzero(sizes > _JUMP * float(np.median(sizes))) + 1
        groups = np.split(places, np.flatnonzero(np.diff(places) > _TOGETHER) + 1) if len(places) else []
        for group in sorted(groups, key=lambda group: -float(sizes[group - 1].max()))[:_MOST_JUMPS]:
            first, last = int(group[0]), int(group[-1])
            chosen |= {first - 1, first + int(values[first : last + 1].argmax()), last + 1}
    return [int(batches[at]) for at in sorted(chosen) if 0 <= at < len(batches)]


def end_of_batch(timeline: Timeline, batch: int) -> Moment:
    """Return the end of a batch, without the record of the batch before it, which `Timeline.moment` keeps for the screen."""
    records: list[BatchRecord] = []

    def see(number: int, record: BatchRecord) -> bool:
        records.append(record)
        return True

    timeline.walk(batch, batch, see)
    program = timeline.program
    return Moment(program, position_of(program, timeline.end_of(batch)), records[0], program.config.vocabulary)


# ------------------------------------------------------------------------------
# The story: the numbers that are stored for every batch, and what is computed at a few moments.


@dataclass(frozen=True)
class LimitShare:
    """Which share of the entries of a value is near a limit: those below `below` and those above `above`, where these are given.

    With both, |entry| is compared, since the limits are opposite.
    """

    name: str
    below: float | None = None
    above: float | None = None

    def of(self, values: NDArray[np.floating]) -> float:
        """Return the share of the entries of values of any shape that are beyond the limits; 0 without entries, NaN if one is
        NaN."""
        if np.isnan(values).any():
            return math.nan
        beyond = np.zeros(values.shape, bool)
        if self.below is not None:
            beyond |= values < self.below
        if self.above is not None:
            beyond |= values > self.above
        return float(beyond.mean()) if beyond.size else 0.0

    def written(self, name: str) -> str:
        """Return what is counted, with the on-screen spelling of the name: `z below 0.1`, `|h| above 0.8`."""
        if self.below is not None and self.above is not None:
            return f"|{name}| above {self.above:g}"
        return f"{name} above {self.above:g}" if self.below is None else f"{name} below {self.below:g}"


@dataclass(frozen=True, eq=False)
class StoryMoment:
    """The numbers at the end of a batch, counted through all epochs, 0-based.

    `shares` has a share for each of `shares_of`, `norms` the norm of each matrix, `max_weight` the largest absolute weight, `steps`
    ‖ΔW‖ / ‖W‖ of each parameter, and `step` that of all together; none, and NaN, if the run does not update the weights in the
    batch, as in a recording, which has the weights of each step but not the update. `deltas` (T) is the norm of the gradient of the
    main state at each timestep, over rows and units, `reach` (T) the same for the loss of the last timestep alone, by distance: 0
    is the last timestep. Both are empty where there is no such gradient. `held_out` is the loss on the held-out text, NaN without
    one; `sample` what is sampled after the first characters of the text, temperature 1, seed 0, empty if the model cannot sample.
    """

    batch: int
    shares: tuple[float, ...]
    norms: Mapping[str, float]
    max_weight: float
    step: float
    steps: Mapping[str, float]
    deltas: Float64Array
    reach: Float64Array
    held_out: float = math.nan
    sample: str = ""


@dataclass(frozen=True, eq=False)
class Story:
    """The story of the first `count` batches of a run. `columns` has loss, grad_norm and max_weight of every batch, (count).

    In `recorded`, each column has True for the batches of which the run has the number; that of others is NaN: a loss that was not
    recorded, the gradient of a batch that does not learn, the largest weight in a recording. `moments` are in order; `planned` is
    the number that they will be. `held_out` is the text for which they have the loss.
    """

    timeline: Timeline
    count: int
    columns: Mapping[str, ScalarRows]
    recorded: Mapping[str, NDArray[np.bool_]]
    moments: tuple[StoryMoment, ...] = ()
    planned: int = 0
    held_out: Text = ""
    shares: tuple[LimitShare, ...] = field(default=())

    def __repr__(self) -> str:
        return f"<story of {self.count:,} batches: {len(self.moments)} of {self.planned} moments>"

    @property
    def batches(self) -> NDArray[np.intp]:
        """The batches of the moments, (n), 0-based."""
        return np.array([moment.batch for moment in self.moments], np.intp)

    def of(self, number: Callable[[StoryMoment], float]) -> ScalarRows:
        """Return a number of every moment, (n)."""
        return np.array([number(moment) for moment in self.moments], np.float64)

    def map_of(self, numbers: Callable[[StoryMoment], Float64Array]) -> Float64Array:
        """Return numbers of every moment, each (T) or empty -> (n, T), NaN where a moment has none; (n, 0) if none has any."""
        rows = [numbers(moment) for moment in self.moments]
        length = max(map(len, rows), default=0)
        padded = np.full((len(rows), length), np.nan)
        for row, values in zip(padded, rows, strict=True):
            row[: len(values)] = values
        return padded

    @property
    def epoch_means(self) -> tuple[NDArray[np.intp], ScalarRows]:
        """The last batch of each epoch so far, 0-based, and the mean of the recorded losses of the epoch, (epochs); NaN without
        one."""
        losses, per_epoch, recorded = self.columns["loss"], self.timeline.program.num_batches, self.recorded["loss"]
        begins = np.arange(0, len(losses), per_epoch)
        if not len(begins):
            return begins.astype(np.intp), np.empty(0)
        ends = np.minimum(begins + per_epoch, len(losses))
        with np.errstate(all="ignore"):
            means = np.add.reduceat(np.where(recorded, losses, 0.0), begins) / np.add.reduceat(recorded, begins, dtype=np.intp)
        return (ends - 1).astype(np.intp), means

    def column(self, name: str) -> ScalarRows:
        """Return loss, grad_norm or max_weight of every batch, (count); masked where the run does not have it."""
        return masked_where(self.columns[name], ~self.recorded[name])

    def number(self, column: str, batch: int) -> float | None:
        """Return loss, grad_norm or max_weight of a batch; None if the run does not have it."""
        return float(self.columns[column][batch]) if self.recorded[column][batch] else None

    def nearest(self, batch: int) -> StoryMoment | None:
        """Return the moment nearest to a batch; None if there are none yet."""
        return min(self.moments, key=lambda moment: abs(moment.batch - batch), default=None)


def shares_of(program: Program) -> tuple[LimitShare, ...]:
    """Return the shares that a story follows: of each gate near 0 and near 1, and of each state near its limits."""
    shares: list[LimitShare] = []
    for name in saturating(program):
        limits = limits_of(program, name)
        assert limits is not None
        edge = limits.edge * limits.span
        low, high = round(limits.low + edge, 12), round(limits.high - edge, 12)
        if name in program.model.page.states:
            shares.append(LimitShare(name, low, high))
        elif limits.low == 0:
            shares += [LimitShare(name, below=low), LimitShare(name, above=high)]
    return tuple(shares)


def tell(
    timeline: Timeline,
    upto: int,
    *,
    points: int = POINTS,
    also: Iterable[int] = (),
    held_out: Text = "",
    earlier: Story | None = None,
    check: Interruption | None = None,
    progress: Callable[[Story], object] | None = None,
) -> Story:
    """Return the story of the first `upto` batches of a run.

    It has the moments that `course` chooses, as many that are evenly spaced, those at which the loss jumps, and the batches
    in `also`; they are computed in this order. `held_out` is a text that was not trained on. Moments of an `earlier`
    story are taken from there as long as the run has not changed since. `progress` receives the story before the first moment,
    and after each one. Raises what `check` raises.
    """
    columns = {name: timeline.column(name, 0, upto - 1) for name in COLUMNS}
    recorded = _recorded(timeline, upto)
    batches = dict.fromkeys(
        (
            *batches_spaced(timeline, upto, points).tolist(),
            *jumps_of(columns["loss"], recorded["loss"]),
            *(batch for batch in also if 0 <= batch < upto),
            *_even(timeline, upto, points).tolist(),
        )
    )
    reused = {} if earlier is None else _still_true(earlier, timeline, held_out)
    shares, moments = shares_of(timeline.program), dict[int, StoryMoment]()

    def story() -> Story:
        in_order = tuple(moments[batch] for batch in sorted(moments))
        return Story(timeline, upto, columns, recorded, in_order, len(batches), held_out, shares)

    if progress is not None:
        progress(story())
    for batch in batches:
        if batch not in reused:
            if check is not None:
                check()
            reused[batch] = story_moment(end_of_batch(timeline, batch), shares, held_out)
        moments[batch] = reused[batch]
        if progress is not None:
            progress(story())
    return story()


def _recorded(timeline: Timeline, count: int) -> dict[str, NDArray[np.bool_]]:
    """Return for each of `COLUMNS` which of the first `count` batches have the number; one that is NaN is known."""
    if timeline.memory.numbers is not None:
        source, all_batches = timeline.program.config.source, np.arange(count)
        recorded = {name: ~np.isin(all_batches, list(source.unknown(name))) for name in ("loss", "grad_norm")}
        return {**recorded, "max_weight": np.zeros(count, bool)}
    all_batches = np.ones(count, bool)
    return {
        "loss": np.full(count, timeline.program.knows_loss),
        "grad_norm": timeline.learned(0, count - 1),
        "max_weight": all_batches,
    }


def _still_true(earlier: Story, timeline: Timeline, held_out: Text) -> dict[int, StoryMoment]:
    """Return the moments of an earlier story that a timeline has as well."""
    if earlier.held_out != held_out or earlier.timeline.program is not timeline.program:
        return {}
    parted = math.inf if earlier.timeline is timeline else timeline.parted(earlier.timeline)
    return {moment.batch: moment for moment in earlier.moments if timeline.end_of(moment.batch) < parted}


def story_moment(moment: Moment, shares: Sequence[LimitShare], held_out: Text) -> StoryMoment:
    """Return the numbers of a story at the end of a batch."""
    program, record, weights = moment.program, moment.record, moment.weights
    state = program.main_state
    with NUMPY_SETTINGS:
        steps = _steps(program, record)
        finite = bool(np.isfinite(weights.parameters).all())
        derived = record.learned and f"d{state}" in program.lines
        return StoryMoment(
            moment.position.number,
            tuple(share.of(record.array(share.name)) for share in shares),
            {name: _norm(weights[name]) for name in matrices_of(program)},
            float(np.abs(weights.parameters).max()),
            steps.pop("", math.nan),
            steps,
            np.array(norms_over_time(record.array(f"d{state}")) if derived else ()),
            last_prediction_gradient(program, record).get(state, np.empty(0))[::-1] if finite else np.empty(0),
            held_out_loss(program, held_out, weights) if len(held_out) > 1 and finite else math.nan,
            _sampled(program, weights) if finite else "",
        )


def matrices_of(program: Program) -> tuple[str, ...]:
    """Return the parameters that are matrices, in the order of the equations."""
    return tuple(name for name in program.parameters if len(program.names[name].axes) == 2)


def _steps(program: Program, record: BatchRecord) -> dict[str, float]:
    """Return ‖ΔW‖ / ‖W‖ of each parameter that is not 0, and under the empty name that of all; nothing without an update."""
    if not record.learned or not program.update:
        return {}
    before, after = record.before, record.after
    steps = {"": _norm(np.subtract(after.parameters, before.parameters, dtype=np.float64)) / _norm(before.parameters)}
    for name in program.parameters:
        if size := _norm(before[name]):
            steps[name] = _norm(np.subtract(after[name], before[name], dtype=np.float64)) / size
    return steps


def _norm(values: NDArray[np.floating]) -> float:
    return float(np.linalg.norm(np.asarray(values, np.float64)))


def _sampled(program: Program, weights: Weights) -> str:
    """Return the characters that are sampled after the first two of the text; none if the model cannot sample."""
    config = program.config
    if not config.source.can(Ability.TEXT) or refused(config) is not None:
        return ""
    try:
        drawn = sample_text(config, weights, config.as_string(config.text[:_PRIMER]), SAMPLE)
    except TuiGruError:  # logits that are not finite
        return ""
    return drawn.between.join(draw.char for draw in drawn.draws)
