from functools import cache

import pytest

from tests.tui.test_main_screen import driving
from tui_gru.engine import numbers
from tui_gru.session.session import Session
from tui_gru.tui.panels.sequence import Samples


def test_the_newest_first_with_the_numbers_that_chose_it(content, moment):
    samples, snapshot = Samples(), moment("sgd", samples=True)
    drawn = content(samples, snapshot, 86, 10)
    newest, lines = snapshot.state.samples[-1], drawn.lines
    assert lines[0].split()[:3] == ["fed", "back", newest.text]
    assert lines[1].split() == ["says", *(draw.char for draw in newest.draws)]
    assert lines[2].split() == ["read", newest.primer, *(draw.char for draw in newest.draws[:-1])]
    assert lines[3].split() == ["p", *(f"{draw.y_hat[draw.index]:.4f}" for draw in newest.draws)]
    assert lines[4].split() == ["u", *(f"{draw.uniform:.4f}" for draw in newest.draws)]
    older = [line for line in lines[5:] if line.startswith(("tutorial", "fed"))]
    assert [line.split()[-1] for line in older] == [sample.text for sample in snapshot.state.samples[1::-1]]
    assert [line.split()[0] for line in older] == ["tutorial", "fed"]
    assert drawn.note == "temperature 1 · seed 5"
    styles = [segment.style for segment in drawn.box.rows[0]][1:]
    assert styles[:3] == [samples.palette.dim, samples.palette.dim, samples.palette.strong]


def test_greedy_samples_have_no_uniform_number(content):
    session = Session()
    session.sample("Ma", 5, temperature=0)
    lines = content(Samples(), session.snapshot(), 56, 6).lines
    assert [line.split()[0] for line in lines if line.strip()][1:] == ["says", "read", "p"]


STORY = """\
tutorial  Matttttttttt  reads “Ma” again
says  t  t  t  t  t  t  t  t  t  t
read Ma Ma Ma Ma Ma Ma Ma Ma Ma Ma

fed back  MathMathMath
says  t  h  M  a  t  h  M  a  t  h
read Ma  t  h  M  a  t  h  M  a  t
"""


@cache
def trained():
    """Return a session of the tutorial after 900 epochs, in which both samplers have drawn the likeliest characters."""
    session = Session()
    session.learning = True
    session.step("epoch", 900)
    for sampler in ("fed-back", "tutorial"):
        session.sample("Ma", 10, temperature=0, sampler=sampler)
    session.findings()
    return session


def test_what_was_read_stands_under_what_was_said(content):
    assert content(Samples(), trained().snapshot(), 41, 8).text == STORY.rstrip()


def test_with_room_the_place_where_two_samplers_part_is_said_and_each_choice_has_its_probability(content):
    drawn = content(Samples(), trained().snapshot(), 78, 12)
    assert drawn.lines[0] == "tutorial  Matttttttttt  reads “Ma” again before every character"
    assert [line.split()[:1] for line in drawn.lines] == [
        ["tutorial"], ["says"], ["read"], ["p"], [], ["fed"], ["says"], ["read"], ["p"], [], ["They"]
    ]  # fmt: skip
    assert drawn.lines[-1] == "They part at character 2: one has read Ma again, the other t."
    assert drawn.keys == "p draw  ! why they differ"


def test_where_the_draws_do_not_fit_as_many_of_both_samplers_are_shown_and_the_cut_is_marked(content):
    lines = content(Samples(), trained().snapshot(), 23, 12).lines
    assert lines[1:3] == ["says  t  t  t  t  t  …", "read Ma Ma Ma Ma Ma  …"]
    assert lines[5:7] == ["says  t  h  M  a  t  …", "read Ma  t  h  M  a  …"]
    assert " ".join(lines[8:]) == "They part at character 2: one has read Ma again, the other t."


@pytest.mark.parametrize("width", [12, 20, 23, 28, 41, 60, 78, 156])
def test_more_room_never_shows_less(content, width):
    shown = 0
    for height in range(1, 30):
        drawn = content(Samples(), trained().snapshot(), width, height)
        numbers = sum(len(line.split()) for line in drawn.lines if line.startswith(("says", "read", "p ")))
        assert numbers >= shown, height
        shown = numbers
    assert all(len(line) <= width for line in drawn.lines)


async def test_on_a_text_of_ones_own_the_samplers_are_not_compared():
    async with driving(text="the cat sat on the mat. " * 4) as d:
        await d.type("p")
        assert [sample.sampler for sample in d.session.samples] == ["fed-back"]
        assert d.says.startswith("fed-back “")
        assert "sampler-without-feedback" not in [finding.name for finding in d.session.found]
        await d.type(":sample th 10 0 tutorial")
        assert "sampler-without-feedback" in [finding.name for finding in d.session.found]


def test_characters_that_would_break_the_screen_are_written_out(content):
    text = "[b]\n\x1b\u0301日" * 4
    session = Session(text=text, hidden_size=1, batch_size=1, seq_length=2)
    session.sample("[b]\n\x1b\u0301日", 0)
    assert content(Samples(), session.snapshot(), 56, 6).text.split() == ["fed", "back", "[b]⏎␛◌\u0301日"]


def test_a_long_text_wraps_and_ends_in_an_ellipsis(content):
    session = Session()
    session.sample("Ma", 300, temperature=0)
    session.sample("Ma", 300, temperature=0)
    lines = content(Samples(), session.snapshot(), 36, 8).lines
    assert all(len(line) <= 36 for line in lines)
    assert [line.endswith("…") for line in lines[:4]] == [False, False, False, True]
    assert lines[-1].endswith("…")


def test_every_sample_says_where_it_was_drawn(content):
    session = Session()
    session.sample("Ma", 3)
    session.step("epoch", 2)
    session.sample("Ma", 3, sampler="tutorial")
    session.sample("Ma", 3)
    session.step("timestep", 2)
    session.sample("Ma", 3)
    drawn = content(Samples(), session.snapshot(), 56, 10)
    assert drawn.place == "e3 b1 t2"
    firsts = [line.split() for line in drawn.lines if line and line[0] in "eft"]
    assert [words if words[0][0] == "e" else words[0] for words in firsts] == [
        "fed", ["e2", "b3"], "fed", "tutorial", ["e1", "b1"], "fed",
    ]  # fmt: skip


def test_zoomed_every_sample_has_its_numbers(content):
    session = Session()
    for seed in range(9):
        session.sample("Ma", 200, seed=seed, sampler=("fed-back", "tutorial")[seed % 2])
    samples = Samples()
    samples.add_class("-maximized")
    drawn = content(samples, session.snapshot(), 56, 18)
    text = drawn.text
    for sample in session.samples:
        for draw in sample.draws:
            assert numbers.compact_unit(draw.uniform) in text
    assert text.count("\np ") == text.count("\nu ") == 9 * -(-200 // ((56 - 4) // 5))
    assert drawn.box.height > 18  # so it can be scrolled
