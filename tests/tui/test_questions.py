"""What a learner asks on a screen of 80 × 24, and the keys that answer it there: three at most."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import NamedTuple

import numpy as np
import pytest

from tests.tui.test_main_screen import Driver, driving
from tui_gru.engine import numbers
from tui_gru.tui.terminal import drawn_lines


class Question(NamedTuple):
    """A question, the keys to where it is asked, the keys that answer it, and what the screen then shows."""

    asked: str
    before: tuple[str, ...]
    keys: tuple[str, ...]
    answer: Callable[[Driver], Iterable[str]]


def four(x: float) -> str:
    """A number with four decimals as in a line of text."""
    return f"{x:.4f}".replace("-", "−")


def letter_read(d: Driver) -> Iterable[str]:
    t, text = d.session.position.t, d.session.snapshot().corpus.text
    yield f"▐{text[t]}→{text[t + 1]}▌"  # also which should come next
    yield f"the letter {text[t]} picks row"


def predicted(d: Driver) -> Iterable[str]:
    y_hat, target = d.session.value("y_hat"), d.session.snapshot().config.vocabulary.index("a")
    yield from (f"{p:.4f}" for p in y_hat[0])
    yield f"a {y_hat[0, target]:.4f}"
    yield f"◂ a {y_hat[1, target]:.4f}"  # the sign of the target, and beside it the same letter of the next row


def why_this_z(d: Driver) -> Iterable[str]:
    node = d.session.explain("z", (0, 0))
    yield f"= {four(d.session.value('az')[0, 0])}"
    yield f"σ → {four(node.value)}"


def origin_of_z(d: Driver) -> Iterable[str]:
    yield f"z[row 1, unit 1] = {d.session.value('z')[0, 0]}"[:26]
    yield from ("x Wz", "+ hₜ₋₁ Uz", "+ bz[unit 1]", "21%", "79%")


def meaning_of_z(d: Driver) -> Iterable[str]:
    yield "Update gate: near 1 keeps the old state."


def meaning_of_a_sign(d: Driver) -> Iterable[str]:
    yield "a target: the character that should be predicted"
    yield "below 0: blue, the stronger the further"


def where_the_loss_comes_from(d: Driver) -> Iterable[str]:
    terms = [d.session.snapshot().value("term3", t) for t in range(3)]
    yield f"({' + '.join(map(four, terms))}) / 3 = {four(d.session.loss)}"


def the_step(d: Driver) -> Iterable[str]:
    snapshot = d.session.snapshot()
    steps = {name: snapshot.last_step(name) for name in snapshot.program.parameters}
    most = max(steps, key=lambda name: np.abs(steps[name]).max())
    yield f"Δ{most}"
    yield f"the largest: Δ{most}["
    yield from (numbers.compact(x).strip() for x in np.ravel(steps["Wy"]))


def gradient_through_time(d: Driver) -> Iterable[str]:
    snapshot = d.session.snapshot()
    yield "‖dh‖"
    yield from (f"{np.linalg.norm(snapshot.value('dh', t)):.4f}" for t in range(3))


def the_weight(d: Driver) -> Iterable[str]:
    snapshot = d.session.snapshot()
    row = snapshot.record.ids("x")[snapshot.position.t, 0]  # that of the letter that is read
    was, gradient, now, step = (
        four(array[row, 0])
        for array in (snapshot.record.before["Wz"], snapshot.gradient("Wz"), snapshot.parameter("Wz"), snapshot.last_step("Wz"))
    )
    yield f"{was} − 0.01·{gradient} = {now}"
    yield f"a step of {step}"


def what_it_writes(d: Driver) -> Iterable[str]:
    yield from (f"“{sample.text}”" for sample in d.session.samples)


def whether_it_learns(d: Driver) -> Iterable[str]:
    yield "loss so far"
    yield "blind guess"
    yield f"mean of epoch 20 {np.mean(d.session.snapshot().losses[-3:]):.4f}"


def what_comes_next(d: Driver) -> Iterable[str]:
    yield "epoch 1 batch 1/3 t 2/3 forward"
    yield "▶ r = σ(x Wr + hₜ₋₁ Ur + br)"
    yield "h̃ = tanh(x Wh"


def what_went_wrong(d: Driver) -> Iterable[str]:
    yield "rows do not continue where they ended, although their state is carried"
    yield "cure, not tried: --layout contiguous, or --carry reset"


def what_a_line_does(d: Driver) -> Iterable[str]:
    yield "computes r, reset gate"
    yield f"r[row 1, unit 1] = {d.session.value('r')[0, 0]}"[:25]


def origin_of_a_chance(d: Driver) -> Iterable[str]:
    yield f"ŷ[row 1, “h”] = {d.session.value('y_hat')[0, 0]}"[:22]
    yield "/ Σ exp"
    yield "exp(o[row 1, “M”] − max)"


QUESTIONS = [
    Question("which letter is read, and which should come next", ("s", "o"), (), letter_read),
    Question("which letter is read, after a timestep", ("s",), (), lambda d: ["▐M→a▌", "▐h→M▌"]),
    Question("what was predicted", ("s",), (), predicted),
    Question("why this z", ("s", "o"), (), why_this_z),
    Question("what z is made of, and how much of it is whose", ("s", "o"), ("enter",), origin_of_z),
    Question("what z means", ("s", "o"), ("?", "tab"), meaning_of_z),
    Question("what colours and signs mean", ("s",), ("?", ";"), meaning_of_a_sign),
    Question("where the loss comes from", ("n",), (), where_the_loss_comes_from),
    Question("what the step changed", ("a",), ("*",), the_step),
    Question("how the gradient flows back in time", ("a",), (), gradient_through_time),
    Question("how a weight is updated", ("l", "n", "1", "0", "O"), (), the_weight),
    Question("what it writes now", ("l", "9e"), ("p",), what_it_writes),
    Question("whether it learns", ("l", "20e"), ("v",), whether_it_learns),
    Question("where I am, and what comes next", ("s", "o", "o"), (), what_comes_next),
    Question("what is wrong with this run", ("2n",), ("!",), what_went_wrong),
    Question("what this line does", ("s", "o", "o"), ("?",), what_a_line_does),
    Question("what a chance is made of", ("s",), ("f", "p", "A"), origin_of_a_chance),
    Question("what this letter has cost", ("n",), ("f", "t", "A"), lambda d: ["②[row 1] = −1.79", "log(0.1669)"]),
]


@pytest.mark.parametrize("before", {question.before: None for question in QUESTIONS}, ids=" ".join)
async def test_a_learner_is_answered_within_three_keys(before: tuple[str, ...]) -> None:
    async with driving((80, 24)) as d:
        await d.type(*before)
        for question in QUESTIONS:
            if question.before == before:
                assert len(question.keys) <= 3
                await d.type(*question.keys)
                shown = " ".join(" ".join(line.text for line in drawn_lines(d.pilot.app.screen)).split())
                for words in question.answer(d):
                    assert " ".join(words.split()) in shown, (question.asked, words)
                await d.type(*["escape"] * bool(question.keys))
