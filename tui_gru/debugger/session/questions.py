"""Read-only queries on a run: values, their origins, what-ifs, findings, unit activity and losses."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from tui_gru.debugger.program.names import unknown_name
from tui_gru.debugger.session.guards import SearchProgress
from tui_gru.debugger.session.run import Run
from tui_gru.debugger.timeline.moment import frozen
from tui_gru.engine import arguments
from tui_gru.engine.data.corpus import Corpus
from tui_gru.engine.data.tokens import Text, cut, index_of
from tui_gru.engine.errors import TuiGruError

if TYPE_CHECKING:
    from tui_gru.debugger.analysis.activity import Activity
    from tui_gru.debugger.analysis.checks.checking import Check
    from tui_gru.debugger.analysis.checks.expected import Expected
    from tui_gru.debugger.analysis.findings.finding import Finding
    from tui_gru.debugger.analysis.influence import Influence, RowInfluence
    from tui_gru.debugger.analysis.loss_places import TextLosses
    from tui_gru.debugger.analysis.report.report import RunReport
    from tui_gru.debugger.analysis.summaries import Summary
    from tui_gru.debugger.analysis.what_if import WhatIf
    from tui_gru.debugger.derivation.origin import Node, ValueRef
    from tui_gru.debugger.timeline.timeline import Timeline
    from tui_gru.engine.running.batch import BatchRecord
    from tui_gru.engine.running.weights import Array


class Queries:
    """Answers queries on a run at its position. Imports the modules that they need when they are first used."""

    def __init__(self, run: Run) -> None:
        self._run = run
        self._found: tuple[Timeline | None, tuple[Finding, ...]] = (None, ())

    # Values

    def value(self, name: str, t: int | None) -> Any:
        """Return the value of a name, read-only, at timestep `t` (None: the position's); None if it has not been computed yet."""
        name = arguments.text("a name", name)
        value = self._run.moment.value(name, self._timestep(t))
        return frozen(value.copy()) if isinstance(value, np.ndarray) else value

    def parameter(self, name: str) -> Array:
        """Return a parameter, read-only."""
        self._check_parameter(name)
        value: Array = self._run.moment.value(name)
        return value

    def gradient(self, name: str) -> Array | None:
        """Return the gradient of a parameter, read-only; None if it has not been computed yet."""
        self._check_parameter(name)
        return self._run.moment.gradient(name)

    def recorded_gradient(self, name: str) -> Array | None:
        """Return p.grad of a parameter as the script's optimizer used it, read-only; None if it was not recorded."""
        self._check_parameter(name)
        given = self._run.state.config.given
        recorded = None if given is None else given.batches[self._run.position.batch].recorded
        return None if recorded is None or np.isnan(recorded[name]).all() else frozen(recorded[name])

    def expected(self) -> Expected | None:
        """Return the output of this batch compared with the output of the original model; None if the latter is not known."""
        given = self._run.state.config.given
        if given is None:
            return None
        from tui_gru.debugger.analysis.checks.expected import expected_of

        return expected_of(self._run.moment.record, given.batches[self._run.position.batch])

    def summary(self, name: str, t: int | None) -> Summary | None:
        """Return statistics of an array: shares of saturated and near-zero entries, the largest, a histogram.

        None if it has not been computed yet.
        """
        from tui_gru.debugger.analysis.saturation import limits_of
        from tui_gru.debugger.analysis.summaries import summary

        name = arguments.text("a name", name)
        value = self._run.moment.value(name, t)
        if value is None:
            return None
        if not isinstance(value, np.ndarray) or value.dtype.kind != "f":
            raise TuiGruError(f"{name} has no entries to summarise")
        return summary(value, limits_of(self._run.program, name))

    # Derivations and what-ifs

    def explain(self, name: str, index: Any, t: int | None) -> Node:
        """Return the derivation of entry `index` of `name`."""
        from tui_gru.debugger.derivation.explainer import Explainer
        from tui_gru.debugger.derivation.origin import ValueRef
        from tui_gru.debugger.timeline.edits import as_index

        number = ValueRef(arguments.text("a name", name), as_index(index), self._timestep(t), self._run.state.tick)
        return Explainer(self._run.timeline).explain(number)

    def origin(self, number: ValueRef, progress: SearchProgress | None) -> Node:
        """Return the derivation of a number anywhere on this branch. Raises `TuiGruError` if it is interrupted."""
        from tui_gru.debugger.derivation.explainer import Explainer

        run = self._run

        def monitor(batch: int, record: BatchRecord) -> bool:
            if run.interrupts.asked():
                raise TuiGruError("stopped before the derivation was complete")
            if progress is not None:
                progress(run.timeline.position((batch + 1) * run.program.ticks))
            return False

        return Explainer(run.timeline, monitor).explain(number)

    def what_if(self, name: str, index: Any, value: Any, t: int | None) -> WhatIf:
        """Return the effect that another value of a number would have on this batch."""
        from tui_gru.debugger.analysis.what_if import what_if
        from tui_gru.debugger.timeline import edits

        edit = edits.Edit(arguments.text("a name", name), edits.as_index(index), value)
        return what_if(self._run.timeline, self._run.moment, edit, t)

    def check(self) -> Check:
        """Prepare the check of this batch against PyTorch; the result can be run in any thread."""
        from tui_gru.debugger.analysis.checks.checking import prepare_check

        return prepare_check(self._run.timeline, self._run.moment)

    # Findings, reports and unit activity

    @property
    def found(self) -> tuple[Finding, ...]:
        """The result of the last call of `findings` on this branch; empty before the first."""
        timeline, found = self._found
        return found if timeline is self._run.timeline else ()

    def findings(self, held_out: str, progress: SearchProgress | None) -> tuple[Finding, ...]:
        """Look for training problems in the run up to the position."""
        from tui_gru.debugger.analysis.findings.table import find

        run, unseen = self._run, self._held_out(held_out)
        found = find(
            run.timeline, run.moment, run.state.samples,
            held_out=unseen, monitor=self._stop_if_asked, progress=self._between_parts(progress),
        )  # fmt: skip
        self._found = (run.timeline, found)
        return found

    def held_out(self, text: str) -> str:
        """The part of a held-out text that is read."""
        from tui_gru.debugger.analysis.findings.learning import HELD_OUT

        if self._run.state.config.given is not None:
            raise TuiGruError("a run without a text has no held-out text; remove the option", option="held_out")
        return self._run.state.config.as_string(self._held_out(text)[:HELD_OUT])

    def report(self, title: str, held_out: str, progress: SearchProgress | None) -> RunReport:
        """Gather the contents of a report on the run up to the position."""
        from tui_gru.debugger.analysis.report.gathered import gather

        run, unseen = self._run, self._held_out(held_out)
        return gather(
            run.timeline, run.moment, run.state.samples,
            title=title, held_out=unseen, monitor=self._stop_if_asked, progress=self._between_parts(progress),
        )  # fmt: skip

    def units(self, name: str, row: int | None, text: str | None, progress: SearchProgress | None) -> Activity:
        """Return the value of every unit after every character of a text, or of a row of this batch."""
        from tui_gru.debugger.analysis import activity

        name = arguments.text("a name", name) or self._run.program.main_state
        if row is not None:
            return activity.over_row(self._run.moment, name, row)
        read = self._corpus.text if text is None else self._tokens(text)
        return activity.of_text(name, self._read(read, name, progress), read)

    def influence(self, row: int, t: int | None, character: str | None, back: int | None, occlusion: bool) -> Influence:
        """Return how much the prediction of a row after timestep `t` depends on each earlier input."""
        from tui_gru.debugger.analysis.influence import BACK, influence

        run, config = self._run, self._run.state.config
        known = index_of(config.vocabulary)
        chosen = None if character is None else known.get(arguments.text("the character", character))
        if character is not None and chosen is None:
            raise TuiGruError(f"{character!r} is not in the vocabulary {config.shown_vocabulary}")
        t = run.position.t if t is None else t
        back = BACK if back is None else back
        stop = run.interrupts.asked
        return influence(run.timeline, run.moment, t, row, character=chosen, back=back, occlusion=occlusion, stop=stop)

    def influence_of_rows(self, row: int, t: int | None) -> RowInfluence:
        """Return how much the prediction of a row after timestep `t` depends on every row of the batch."""
        from tui_gru.debugger.analysis.influence import influence_of_rows

        run = self._run
        t = run.position.t if t is None else t
        return influence_of_rows(run.moment, t, row, each=False, stop=run.interrupts.asked)

    def losses(self, text: Text | None, progress: SearchProgress | None) -> TextLosses:
        """Return the loss of each character in nats: of this batch, as far as computed, or of `text` with the current weights."""
        from tui_gru.debugger.analysis import loss_places

        if text is None:
            return loss_places.of_batch(self._run.moment, self._corpus)
        read, name = self._tokens(text), self._run.program.loss_names.row
        if not name:
            raise TuiGruError("this model has no loss per character, so the loss cannot be divided")
        return loss_places.of_text(self._read(read, name, progress), self._run.program, read)

    # Arguments

    def _timestep(self, t: int | None) -> int | None:
        most = self._run.state.config.seq_length - 1
        return None if t is None else arguments.whole("the timestep t", t, least=0, most=most)

    def _check_parameter(self, name: str) -> None:
        names = self._run.program.parameters
        if arguments.text("a name", name) not in names:
            raise TuiGruError(unknown_name(name, names).replace("value", "parameter"))

    def _held_out(self, given: str) -> Text:
        config = self._run.state.config
        given = arguments.text("the text that was held out", given, option="held_out")
        text, allowed = cut(given, config.vocabulary, "held_out"), frozenset(config.vocabulary)
        strange = next((char for char in text if char not in allowed), "")
        if strange:
            known = config.shown_vocabulary
            raise TuiGruError(
                f"the text that was held out has {strange!r}, which is not in the vocabulary {known}", option="held_out"
            )
        return text

    @property
    def _corpus(self) -> Corpus:
        corpus = self._run.timeline.segment_at(self._run.state.tick).trainer.corpus
        if not isinstance(corpus, Corpus):
            raise TuiGruError("this run reads numbers, so it has no text")
        return corpus

    def _tokens(self, text: Text) -> Text:
        vocabulary = self._run.state.config.vocabulary
        return text if isinstance(text, tuple) else cut(arguments.text("the text", text, option="text"), vocabulary)

    def _read(self, text: Text, name: str, progress: SearchProgress | None) -> dict[str, Array]:
        from tui_gru.debugger.analysis.reading import read_text

        run = self._run
        done_of = None if progress is None else lambda done, total: progress(f"{done:,} of {total:,} characters")
        return read_text(run.state.config, run.moment.weights, text, [name], progress=done_of, stop=run.interrupts.asked)

    # Interrupts

    def _between_parts(self, progress: SearchProgress | None) -> Callable[[str], None]:
        """Return a progress callback for work in parts; it raises `TuiGruError` if interrupted."""

        def between(words: str) -> None:
            self._check_not_stopped()
            if progress is not None:
                progress(words)

        return between

    def _stop_if_asked(self, batch: int, record: BatchRecord) -> bool:
        self._check_not_stopped()
        return False

    def _check_not_stopped(self) -> None:
        if self._run.interrupts.asked():
            raise TuiGruError("stopped before the analysis was complete")
