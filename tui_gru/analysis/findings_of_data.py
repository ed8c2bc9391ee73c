"""Findings about the flow of data: through the sampler, between batches, and between rows."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress

import numpy as np
from numpy.typing import NDArray

from tui_gru.analysis.examined import Evidence, Finding, RunFacts, enumerated
from tui_gru.analysis.influence import influence_of_rows
from tui_gru.analysis.summaries import largest_entry
from tui_gru.analysis.trials import LONGEST_AGAIN, Cure, tried_samplers
from tui_gru.debugger.moment import Moment
from tui_gru.debugger.position import position_of
from tui_gru.debugger.program import spoken
from tui_gru.engine.data import Corpus
from tui_gru.engine.numbers import counted, rounded, significant
from tui_gru.engine.sampling import Sample
from tui_gru.engine.source import Ability
from tui_gru.engine.weights import Float64Array, Weights
from tui_gru.equations import syntax as e
from tui_gru.errors import TuiGruError

_BLOCKS, _BLOCK = 8, 200  # parts of an epoch that are compared, at most; characters of each, at least
_DIVERGENCE = 0.15  # nats between a part and the whole, more than by chance
_REACH = 12.0  # standard deviations of a count


def _ignored(drawn: Sample) -> int:
    """Return how many sampled characters the model did not read next."""
    return sum(tuple(drawn.primer) != (draw.char,) for draw in drawn.draws[:-1]) if drawn.sampler == "tutorial" else 0


def without_feedback(samples: Sequence[Sample]) -> Sample | None:
    """Return the newest sample whose characters the model did not read next."""
    return next((drawn for drawn in reversed(samples) if _ignored(drawn)), None)


def sampler_without_feedback(x: RunFacts) -> Iterator[Finding]:
    """Find the newest sample whose characters the model did not read next."""
    if (drawn := without_feedback(x.samples)) is None:
        return
    primer, length = x.config.as_string(drawn.primer), min(len(drawn.draws), LONGEST_AGAIN)
    ignored, of = _ignored(drawn), len(drawn.draws) - 1
    evidence = [Evidence(f"{ignored} of {of} choices were not read next: {x.quoted(primer)} was read again")]
    cure, texts = Cure("sampler", "fed-back"), list[str]()
    if (weights := _weights_of(x, drawn)) is not None:
        with suppress(TuiGruError):  # weights that are not finite
            texts = [option.text for option in tried_samplers(x.config, weights, drawn, cure)]
    again = bool(texts) and drawn.text.startswith(texts[0])  # otherwise it was drawn on another branch
    if again and texts[0] != texts[1]:
        evidence.append(Evidence(f"it says {x.quoted(texts[0])}; fed back, the same weights say {x.quoted(texts[1])}"))
    evidence += _where_it_is_right(x, drawn)
    primer = primer.replace(" ", "' '")
    yield Finding(
        "sampler-without-feedback",
        "the sampler does not feed back its characters",
        "A language model predicts from what it has read. This sampler feeds the primer again at every step, so the model "
        "never reads the sampled characters, and its prediction changes with the state only.",
        f":sample {primer} {length} {significant(drawn.temperature)} fed-back",
        tuple(evidence),
        drawn.tick,
        (cure,) if again else (),
        is_tried=again,
    )


def _where_it_is_right(x: RunFacts, drawn: Sample) -> Iterator[Evidence]:
    """Yield the probability of the character that the sample repeats, where the training reads the end of the primer."""
    name, read, vocabulary = x.program.loss_names.prediction, x.program.input, x.config.vocabulary
    if name not in x.values or not x.program.model.page.inputs[read].one_hot:
        return
    chosen = [draw.char for draw in drawn.draws]
    char = max(dict.fromkeys(chosen), key=chosen.count)
    for batch, record in reversed(x.recent):
        predicted = record.array(name)[..., vocabulary.index(char)]
        after_primer = np.where(record.ids(read) == vocabulary.index(drawn.primer[-1]), predicted, -1)
        t, row = map(int, np.unravel_index(np.argmax(after_primer), after_primer.shape))
        if after_primer[t, row] < 0:
            continue
        value = float(predicted[t, row])
        yield Evidence(
            f"when the training reads {x.quoted(drawn.primer[-1])}, {x.quoted(char)} has the probability {x.written(name)}"
            f"[row {row + 1}, {x.quoted(char)}] = {rounded(value)} at t {t + 1} of {x.at(batch)}",
            x.entry(batch, name, (row, vocabulary.index(char)), t),
            value,
        )
        return


def _weights_of(x: RunFacts, drawn: Sample) -> Weights | None:
    """Return the weights that a sample was drawn with, if this branch has reached them."""
    if drawn.tick is None:
        return x.moment.weights
    return x.timeline.moment(drawn.tick).weights if drawn.tick <= x.end(x.timeline.computed) else None


def rows_do_not_continue(x: RunFacts) -> Iterator[Finding]:
    """Find rows that do not continue in the text where their state comes from."""
    corpus = x.corpus
    carried = x.config.carry != "reset" and x.config.num_batches > 1 and x.count
    if not isinstance(corpus, Corpus) or not carried or corpus.continues(1, 0):
        return
    T, text = x.config.seq_length, corpus.text
    ended, begins = corpus.position_in_text(0, 0, 0), corpus.position_in_text(1, 0, 0)
    reads, state = (x.quoted(x.config.as_string(text[at : at + T])) for at in (begins, ended))
    words = (
        f"row 1 of batch 2 reads {reads} from character {begins + 1} on, with the state after "
        f"{state}, which ends at character {ended + T}"
    )
    following = min(x.count - 1, 1)
    carried_state = x.program.model.page.before(x.program.main_state) if following else x.program.main_state
    t = 0 if following else T - 1
    values = x.record(following).array(carried_state)[t, 0]
    unit = int(np.argmax(np.abs(values)))
    number = x.entry(following, carried_state, (0, unit), t)
    carries = f"{x.written(carried_state)}[row 1, unit {unit + 1}] = {rounded(values[unit])} is carried into batch 2"
    evidence = (Evidence(words), Evidence(carries, number, float(values[unit])))
    yield Finding(
        "rows-do-not-continue",
        "rows do not continue where they ended, although their state is carried",
        "The state passed to a batch should come from the characters just before it. Here it comes from "
        "other characters, so it is noise at the beginning of every row.",
        x.offer(("--layout contiguous", Cure("layout", "contiguous")), ("--carry reset", Cure("carry", "reset"))),
        evidence,
        x.end(following),
        (Cure("layout", "contiguous"), Cure("carry", "reset")),
    )


def gradient_into_earlier_batches(x: RunFacts) -> Iterator[Finding]:
    """Find the gradient of a batch that continues into batches computed with other weights."""
    learned = x.learned[x.learned % x.program.num_batches > 0] if x.program.earlier else x.learned[:0]
    if not len(learned):
        return
    batch = int(learned[-1])
    handed_on = f"d{x.program.model.page.before(x.program.main_state)}"
    array = x.record(batch).array(handed_on)[0]
    largest = largest_entry(array)
    if largest is None or not array.any():
        return
    row, unit = largest
    value = float(array[largest])
    passed = batch % x.program.num_batches
    yield Finding(
        "gradient-into-earlier-batches",
        "the gradient of a batch continues into the batches before it",
        "Those batches were computed with older weights, so the result is not the gradient of any function. Its cost "
        "grows with the square of the number of batches in an epoch.",
        "--carry detach",
        (
            Evidence(f"the gradient of {x.at(batch)} ran through {counted(passed, 'earlier batch')}"),
            Evidence(
                f"{x.written(handed_on)}[row {row + 1}, unit {unit + 1}] = {rounded(value)} was passed on at t 1",
                x.entry(batch, handed_on, (row, unit), 0),
                value,
            ),
        ),
        x.end(batch),
        (Cure("carry", "detach"),),
    )


def character_never_seen(x: RunFacts) -> Iterator[Finding]:
    """Find characters of the vocabulary that do not occur in the text."""
    if not x.config.source.can(Ability.TEXT):
        return
    text = set(x.corpus.text)
    unseen = [char for char in x.config.vocabulary if char not in text]
    if not unseen:
        return
    V = x.config.vocab_size
    words = f"{len(unseen)} of {counted(V, 'character')} of the vocabulary: {enumerated([x.quoted(char) for char in unseen], 12)}"
    evidence = [Evidence(words)]
    reads = next(name for name in x.program.parameters if x.program.names[name].axes[0] == "V")
    if x.count:
        batch, index = x.count - 1, (x.config.vocabulary.index(unseen[0]), 0)
        value = float(x.record(batch).after[reads][index])
        same = value == float(x.record(0).before[reads][index])
        sentence = f"{spoken(x.program, reads, index)} reads it, and is {rounded(value)}" + (
            ", as at the beginning" if same else ""
        )
        evidence.append(Evidence(sentence, x.entry(batch, reads, index), value))
    yield Finding(
        "character-never-seen",
        "the text has no " + enumerated([x.quoted(char) for char in unseen]),
        "The weights that read such a character never change, and the model only learns not to predict it.",
        "remove it from --vocabulary, or use a text that has it",
        tuple(evidence),
        x.end(x.count - 1) if x.count else None,
    )


def rows_know_each_other(x: RunFacts) -> Iterator[Finding]:
    """Find a prediction that depends on another row of the batch."""
    over_rows = [
        target
        for layer in x.program.layers
        for target in layer.lines
        if (line := x.program.lines[target].formula) is not None
        and any(isinstance(node, e.Reduce) and node.over == "B" for node in line.walk())
    ]
    if not over_rows or x.config.batch_size == 1 or not x.recent:
        return
    batch, record = x.recent[-1]
    end = position_of(x.program, x.end(batch))
    influences = influence_of_rows(Moment(x.program, end, record, x.config.vocabulary), x.program.seq_length - 1, 0)
    if not influences.others > 0:
        return
    other = 1 + int(np.argmax(np.maximum(np.abs(influences.gradient), np.abs(influences.occlusion))[1:]))
    yield Finding(
        "rows-know-each-other",
        "rows of the batch influence each other",
        "Rows are different places of the text, computed in parallel. A prediction that depends on another row changes with "
        "the batch it is in, and cannot be computed for one row alone.",
        "remove the sum over the rows from the cell",
        (
            Evidence(
                f"row {other + 1} on the prediction of row 1, by gradient: {rounded(influences.gradient[other])}; it should be 0"
            ),
            Evidence(f"by occlusion: {rounded(influences.occlusion[other])}; it should be 0"),
            _over_rows(x, batch, over_rows[0]),
        ),
        x.end(batch),
    )


def _over_rows(x: RunFacts, batch: int, name: str) -> Evidence:
    """Return the evidence of a line that reads all rows: its largest number at the last timestep."""
    t = x.program.seq_length - 1
    values = x.record(batch).array(name)[t]
    index = largest_entry(values) or (0,) * values.ndim
    value = float(values[index])
    where = f"{spoken(x.program, name, index)} = {rounded(value)} at t {t + 1} of {x.at(batch)}"
    return Evidence(f"{where} is computed from all rows", x.entry(batch, name, index, t), value)


def _divergence(counts: NDArray[np.integer], frequencies: NDArray[np.floating]) -> float:
    """Return the relative entropy of the frequencies of a part to those of the whole, in nats."""
    share = counts / counts.sum()
    occurs = share > 0
    return float((share[occurs] * np.log(share[occurs] / frequencies[occurs])).sum())


def _by_chance(total: NDArray[np.integer], size: int) -> float:
    """Return the mean of `_divergence` over all parts of a size that are drawn from a shuffled text with these counts, in nats.

    How often a character occurs in such a part has a hypergeometric distribution; characters with equal counts have the same one.
    """
    of_all, divergence = int(total.sum()), 0.0
    for count, alike in zip(*np.unique(total[total > 0], return_counts=True), strict=True):
        mean = size * count / of_all
        reach = _REACH * (1 + np.sqrt(mean))  # beyond it, a probability is less than rounding
        low, high = max(size - (of_all - count), mean - reach, 1), min(count, size, mean + reach)
        drawn = np.arange(int(np.ceil(low)), int(high) + 1)
        ways = _log_choose(count, drawn) + _log_choose(of_all - count, size - drawn) - _log_choose(of_all, np.array([size]))
        share = drawn / size
        divergence += float(alike * (np.exp(ways) * share * np.log(share * of_all / count)).sum())
    return divergence


def _log_choose(of: int, drawn: NDArray[np.integer]) -> Float64Array:
    """Return the logarithm of the number of ways to draw so many of some things."""
    return _log_factorial(np.array([of])) - _log_factorial(drawn) - _log_factorial(of - drawn)


def _log_factorial(numbers: NDArray[np.integer]) -> Float64Array:
    """Return log n!, by Stirling's series from 64 on: the first term that is left out is below 1e-16 there."""
    table = np.concatenate([[0.0], np.cumsum(np.log(np.arange(1, 64)))])
    n = np.maximum(numbers, 64).astype(np.float64)
    series = n * np.log(n) - n + np.log(2 * np.pi * n) / 2 + 1 / (12 * n) - 1 / (360 * n**3) + 1 / (1260 * n**5)
    result: Float64Array = np.where(numbers < 64, table[np.minimum(numbers, 63)], series)
    return result
