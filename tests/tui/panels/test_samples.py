from tui_gru.engine import numbers
from tui_gru.session.session import Session
from tui_gru.tui.panels.values import Samples


def test_the_newest_first_with_the_numbers_that_chose_it(content, moment):
    samples, snapshot = Samples(), moment("sgd", samples=True)
    drawn = content(samples, snapshot, 86, 10)
    newest, lines = snapshot.state.samples[-1], drawn.lines
    assert lines[0].split() == ["fed", "back", newest.text]
    assert lines[1].split() == [draw.char for draw in newest.draws]
    assert lines[2].split() == ["p", *(f"{draw.y_hat[draw.index]:.4f}" for draw in newest.draws)]
    assert lines[3].split() == ["u", *(f"{draw.uniform:.4f}" for draw in newest.draws)]
    older = [line for line in lines[5:] if line.startswith(("tutorial", "fed"))]
    assert [line.split()[-1] for line in older] == [sample.text for sample in snapshot.state.samples[1::-1]]
    assert [line.split()[0] for line in older] == ["tutorial", "fed"]
    assert drawn.note == "temp 1 · seed 5"
    styles = [segment.style for segment in drawn.box.rows[0]][1:]
    assert styles[:3] == [samples.palette.dim, samples.palette.dim, samples.palette.strong]


def test_a_hint_while_there_is_none(content, moment):
    drawn = content(Samples(), moment("sgd"), 36, 6)
    assert drawn.text.strip() == "p draws a sample"
    assert drawn.title == "samples"


def test_greedy_samples_have_no_uniform_number(content):
    session = Session()
    session.sample("Ma", 5, temperature=0)
    lines = content(Samples(), session.snapshot(), 56, 6).lines
    assert [line.split()[0] for line in lines if line.strip()][2:] == ["p"]


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
    for sample in session.samples:
        for draw in sample.draws:
            assert numbers.compact_unit(draw.uniform) in drawn.text
    assert drawn.text.count("\np ") == drawn.text.count("\nu ") == 9 * -(-200 // ((56 - 2) // 5))
    assert drawn.box.height > 18  # so it can be scrolled
