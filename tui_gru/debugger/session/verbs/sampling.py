"""Draws samples of text with the current parameters and stores them in the session."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from tui_gru.debugger.session.guards import SearchProgress
from tui_gru.debugger.session.run import Run
from tui_gru.engine import arguments
from tui_gru.engine.errors import TuiGruError

if TYPE_CHECKING:
    from tui_gru.engine.running.sampling import Sample

MOST_SAMPLES, LEAST_SAMPLES = 64, 2**16  # how many at most, and the bytes that they may use even if the budget is smaller
DRAW_BYTES = 320  # memory of a sampled character, in bytes, without its distribution
LONGEST_SAMPLE, LONGEST_PRIMER = 10_000, 1000  # characters: a session stores the probabilities of each


def sample(
    run: Run, primer: str, length: int, sampler: str, temperature: float, seed: int, progress: SearchProgress | None
) -> Sample:
    """Draw a sample and store it; if interrupted, store the characters drawn so far. Raises `TuiGruError` for invalid arguments."""
    from tui_gru.engine.running.sampling import sample  # imported late: seldom needed

    length = arguments.whole("the length of a session's sample", length, least=0, most=LONGEST_SAMPLE, option="length")
    if len(arguments.text("the primer", primer, option="primer")) > LONGEST_PRIMER:
        raise TuiGruError(f"the primer of a session's sample has at most {LONGEST_PRIMER:,} characters", option="primer")

    def stop(done: int) -> bool:
        if progress is not None:
            progress(f"{done:,} of {length:,} characters")
        return run.interrupts.asked()

    with run.under_way():
        drawn = sample(
            run.state.config, run.moment.weights, primer, length,
            sampler=sampler, temperature=temperature, seed=seed, stop=stop,
        )  # fmt: skip
    if len(drawn.draws) < length:
        run.say(f"stopped after {len(drawn.draws):,} of {length:,} characters")
    drawn = replace(drawn, tick=run.state.tick)
    run.update(samples=_newest((*run.state.samples, drawn), run.timeline.memory.budget.share("samples")))
    return drawn


def _newest(samples: tuple[Sample, ...], memory: int) -> tuple[Sample, ...]:
    """Return the newest samples that fit into `memory` bytes: at least one, at most `MOST_SAMPLES`."""
    kept, used = 0, 0
    for sample in reversed(samples[-MOST_SAMPLES:]):
        used += sum(DRAW_BYTES + draw.y_hat.nbytes for draw in sample.draws)
        if kept and used > max(memory, LEAST_SAMPLES):
            break
        kept += 1
    return samples[-kept:]
