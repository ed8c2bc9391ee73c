"""The reading half of a session that asks where numbers come from."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from tui_gru.debugger.session.travelling import Progress, Travelling
from tui_gru.engine import arguments
from tui_gru.engine.corpus import Corpus
from tui_gru.engine.errors import TuiGruError

if TYPE_CHECKING:
    from tui_gru.debugger.analysis.activity import Activity
    from tui_gru.debugger.analysis.findings.finding import Finding
    from tui_gru.debugger.analysis.influence import Influence, RowInfluence
    from tui_gru.debugger.analysis.loss_places import Losses
    from tui_gru.debugger.analysis.report.gathered import Report
    from tui_gru.debugger.analysis.summaries import Summary
    from tui_gru.debugger.derivation.explainer import Explainer
    from tui_gru.debugger.derivation.origin import Node, ValueRef
    from tui_gru.debugger.timeline.timeline import Timeline
    from tui_gru.engine.batch import BatchRecord
    from tui_gru.engine.corpus import Corpus
    from tui_gru.engine.sampling import Sample
    from tui_gru.engine.weights import Array


class Explaining(Travelling):
    """Nothing that is asked here changes the run."""

    samples: tuple[Sample, ...]
    _found: tuple[Timeline | None, tuple[Finding, ...]] = (None, ())

    @property
    def found(self) -> tuple[Finding, ...]:
        """What `findings` has found last, on this branch; nothing before it was asked."""
        timeline, found = self._found
        return found if timeline is self._timeline else ()

    def explain(self, name: str, index: Any = (), t: int | None = None) -> Node:
        """Where entry `index` of `name` comes from, at timestep `t` (0-based; default: the position's), as of the position.

        `explain("h", (1, 0)).terms` are what it is the sum of, and each can be asked in turn. Raises `TuiGruError`.
        """
        from tui_gru.debugger.derivation.origin import ValueRef
        from tui_gru.debugger.timeline.edits import as_index

        if t is not None:
            t = arguments.whole("the timestep t", t, least=0, most=self.config.seq_length - 1)
        number = ValueRef(arguments.text("a name", name), as_index(index), t, self.position.tick)
        return self._explainer.explain(number)

    def origin(self, number: ValueRef, *, progress: Progress | None = None) -> Node:
        """Where a number of this branch comes from, wherever in time it is. Raises `TuiGruError`, also where it is interrupted."""
        from tui_gru.debugger.derivation.explainer import Explainer

        def monitor(batch: int, record: BatchRecord) -> bool:
            if self._interrupted.is_set():
                raise TuiGruError("stopped before it was worked out")
            if progress is not None:
                progress(self._timeline.position((batch + 1) * self.program.ticks))
            return False

        return Explainer(self._timeline, monitor).explain(number)

    def findings(self, *, held_out: str = "", progress: Progress | None = None) -> tuple[Finding, ...]:
        """The mistakes that the run shows up to the position, each with its numbers and the cure; none in a healthy run.

        `held_out` is a text that was not trained on, to look for overfitting. Replays the last batches. Raises `TuiGruError`, also
        where it is interrupted.
        """
        from tui_gru.debugger.analysis.findings.table import find

        held_out, heed = self._checked_held_out(held_out), self._heeding(progress)
        found = find(self._timeline, self._moment, self.samples, held_out=held_out, monitor=self._stop_asked, progress=heed)
        self._found = (self._timeline, found)
        return found

    def report(self, title: str = "a run", *, held_out: str = "", progress: Progress | None = None) -> Report:
        """Everything that a report says of the run up to the position, to be written by `analysis.report.written`."""
        from tui_gru.debugger.analysis.report.gathered import gather

        held_out = self._checked_held_out(held_out)
        return gather(
            self._timeline, self._moment, self.samples,
            title=title, held_out=held_out, monitor=self._stop_asked, progress=self._heeding(progress),
        )  # fmt: skip

    def _checked_held_out(self, text: str) -> str:
        text = arguments.text("the text that was held out", text, option="held_out")
        strange = next((char for char in text if char not in self.config.vocabulary), "")
        if strange:
            known = self.config.shown_vocabulary
            raise TuiGruError(
                f"the text that was held out has {strange!r}, which is not in the vocabulary {known}", option="held_out"
            )
        return text

    def _heeding(self, progress: Progress | None) -> Callable[[str], None]:
        """The progress of something that is done in parts, between which it can be stopped."""

        def heed(words: str) -> None:
            self._check_not_stopped()
            if progress is not None:
                progress(words)

        return heed

    def _stop_asked(self, batch: int, record: BatchRecord) -> bool:
        self._check_not_stopped()
        return False

    def _check_not_stopped(self) -> None:
        if self._interrupted.is_set():
            raise TuiGruError("stopped before everything had been looked at")

    def units(
        self, name: str = "", *, row: int | None = None, text: str | None = None, progress: Progress | None = None
    ) -> Activity:
        """A value of every unit after every character, `activity.values` (n, units): of a whole text, or of a row of this batch.

        `name` is the state of the last layer unless it is given. With `row` (0-based) the values are those of the run, NaN where
        they are not computed yet; without, `text` is read with the weights of now, by default the text that is trained on. Raises
        `TuiGruError`.
        """
        from tui_gru.debugger.analysis import activity

        name = arguments.text("a name", name) or self.program.main_state
        if row is not None:
            return activity.over_row(self._moment, name, row)
        text = self._corpus.text if text is None else arguments.text("the text", text, option="text")
        found = self._read(text, name, progress)
        return activity.of_text(name, found, text)

    def influence(
        self,
        row: int = 0,
        t: int | None = None,
        *,
        character: str | None = None,
        back: int | None = None,
        occlusion: bool = True,
    ) -> Influence:
        """What the prediction of a row after timestep `t` (0-based; default: the position's) depends on: every earlier input.

        `character` is the one whose probability is looked at, the likeliest without it; `back` how many inputs before it are looked
        at, at least. Without `occlusion`, which takes most of the time, there is the gradient alone. Raises `TuiGruError`.
        """
        from tui_gru.debugger.analysis.influence import BACK, influence

        chosen = None if character is None else self.config.vocabulary.find(arguments.text("the character", character))
        if chosen is not None and (len(character or "") != 1 or chosen < 0):
            raise TuiGruError(f"{character!r} is no character of the vocabulary {self.config.shown_vocabulary}")
        t = self.position.t if t is None else t
        back = BACK if back is None else back
        stop = self._interrupted.is_set
        return influence(self._timeline, self._moment, t, row, character=chosen, back=back, occlusion=occlusion, stop=stop)

    def influence_of_rows(self, row: int = 0, t: int | None = None) -> RowInfluence:
        """The influence of every row of the batch on the prediction of one row after timestep `t`.

        `t` is 0-based; the default is that of the position. The gradient is computed for each row, the occlusion for all other rows
        at once. Both are 0 for other rows unless the model mixes rows. Raises `TuiGruError`.
        """
        from tui_gru.debugger.analysis.influence import influence_of_rows

        t = self.position.t if t is None else t
        return influence_of_rows(self._moment, t, row, each=False, stop=self._interrupted.is_set)

    def losses(self, *, text: str | None = None, progress: Progress | None = None) -> Losses:
        """The loss of every character of this batch, as far as it is computed, or of a text read with the weights of now, nats."""
        from tui_gru.debugger.analysis import loss_places

        if text is None:
            return loss_places.of_batch(self._moment, self._corpus)
        text = arguments.text("the text", text, option="text")
        name = self.program.loss_names.row
        if not name:
            raise TuiGruError("this model has no loss of each character, so it cannot be shown where the loss is made")
        found = self._read(text, name, progress)
        return loss_places.of_text(found, self.program, text)

    def summary(self, name: str, t: int | None = None) -> Summary | None:
        """What is in a value, a parameter or a gradient: shares of saturated and near-zero entries, the largest, a histogram.

        As `value` reads it; None where it is not computed yet. Raises `TuiGruError` for what is one number.
        """
        from tui_gru.debugger.analysis.saturation import limits_of
        from tui_gru.debugger.analysis.summaries import summary

        name = arguments.text("a name", name)
        value = self._moment.value(name, t)
        if value is None:
            return None
        if not isinstance(value, np.ndarray) or value.dtype.kind != "f":
            raise TuiGruError(f"{name} has no entries that could be summed up")
        return summary(value, limits_of(self.program, name))

    def _read(self, text: str, name: str, progress: Progress | None) -> dict[str, Array]:
        from tui_gru.debugger.analysis.reading import read_text

        said = None if progress is None else lambda done, total: progress(f"{done:,} of {total:,} characters")
        return read_text(self.config, self._moment.weights, text, [name], progress=said, stop=self._interrupted.is_set)

    @property
    def _corpus(self) -> Corpus:
        corpus = self._timeline.segment_at(self.position.tick).trainer.corpus
        if not isinstance(corpus, Corpus):
            raise TuiGruError("this run reads numbers, so there is no text to look at")
        return corpus

    @property
    def _explainer(self) -> Explainer:
        from tui_gru.debugger.derivation.explainer import Explainer  # late: nobody asks before the first picture

        return Explainer(self._timeline)
