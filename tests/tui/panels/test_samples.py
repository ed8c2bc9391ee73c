from tui_gru.engine import numbers
from tui_gru.session.session import Session
from tui_gru.tui.panel import View
from tui_gru.tui.panels.values import Samples


async def test_the_newest_first_with_the_numbers_that_chose_it(board, moment, written):
    samples, snapshot = Samples(), moment("sgd", samples=True)
    async with board(samples).run_test(size=(90, 12)) as pilot:
        samples.show(snapshot, View())
        await pilot.pause()
        newest = snapshot.state.samples[-1]
        lines = written(samples).splitlines()
        assert lines[0].split() == ["fed", "back", newest.text]
        assert lines[1].split() == [draw.char for draw in newest.draws]
        assert lines[2].split() == ["p", *(f"{draw.y_hat[draw.index]:.4f}" for draw in newest.draws)]
        assert lines[3].split() == ["u", *(f"{draw.uniform:.4f}" for draw in newest.draws)]
        older = [line for line in lines[5:] if line.startswith(("tutorial", "fed"))]
        assert [line.split()[-1] for line in older] == [sample.text for sample in snapshot.state.samples[1::-1]]
        assert [line.split()[0] for line in older] == ["tutorial", "fed"]
        assert str(samples.border_subtitle).endswith(" · temp 1 · seed 5")
        styles = [s.style for s in samples.drawn[0]][1:]
        assert styles[:3] == [samples.palette.dim, samples.palette.dim, samples.palette.strong]


async def test_a_hint_while_there_is_none(board, moment, written):
    samples = Samples()
    async with board(samples).run_test(size=(40, 8)) as pilot:
        samples.show(moment("sgd"), View())
        await pilot.pause()
        assert written(samples).strip() == "p draws a sample"
        assert str(samples.border_title) == "samples"


async def test_greedy_samples_have_no_uniform_number(board, written):
    session = Session()
    session.sample("Ma", 5, temperature=0)
    samples = Samples()
    async with board(samples).run_test(size=(60, 8)) as pilot:
        samples.show(session.snapshot(), View())
        await pilot.pause()
        assert [line.split()[0] for line in written(samples).splitlines() if line.strip()][2:] == ["p"]


async def test_characters_that_would_break_the_screen_are_written_out(board, written):
    text = "[b]\n\x1b\u0301日" * 4
    session = Session(text=text, hidden_size=1, batch_size=1, seq_length=2)
    session.sample("[b]\n\x1b\u0301日", 0)
    samples = Samples()
    async with board(samples).run_test(size=(60, 8)) as pilot:
        samples.show(session.snapshot(), View())
        await pilot.pause()
        assert written(samples).split() == ["fed", "back", "[b]⏎␛◌\u0301日"]


async def test_a_long_text_wraps_and_ends_in_an_ellipsis(board, written):
    session = Session()
    session.sample("Ma", 300, temperature=0)
    session.sample("Ma", 300, temperature=0)
    samples = Samples()
    async with board(samples).run_test(size=(40, 10)) as pilot:
        samples.show(session.snapshot(), View())
        await pilot.pause()
        lines = written(samples).splitlines()
        assert all(len(line) <= 36 for line in lines)
        assert [line.endswith("…") for line in lines[:4]] == [False, False, False, True]
        assert lines[-1].endswith("…")


async def test_every_sample_says_where_it_was_drawn(board, written):
    session = Session()
    session.sample("Ma", 3)
    session.step("epoch", 2)
    session.sample("Ma", 3, sampler="tutorial")
    session.sample("Ma", 3)
    session.step("timestep", 2)
    session.sample("Ma", 3)
    samples = Samples()
    async with board(samples).run_test(size=(60, 12)) as pilot:
        samples.show(session.snapshot(), View())
        await pilot.pause()
        assert str(samples.border_subtitle).startswith("e3 b1 t2")
        firsts = [line.split() for line in written(samples).splitlines() if line and line[0] in "eft"]
        assert [words if words[0][0] == "e" else words[0] for words in firsts] == [
            "fed", ["e2", "b3"], "fed", "tutorial", ["e1", "b1"], "fed",
        ]  # fmt: skip


async def test_zoomed_every_sample_has_its_numbers(board):
    session = Session()
    for seed in range(9):
        session.sample("Ma", 200, seed=seed, sampler=("fed-back", "tutorial")[seed % 2])
    samples = Samples()
    async with board(samples).run_test(size=(60, 20)) as pilot:
        samples.show(session.snapshot(), View())
        samples.add_class("-maximized")
        await pilot.pause()
        shown = samples.plain_text()
        for sample in session.samples:
            for draw in sample.draws:
                assert numbers.compact_unit(draw.uniform) in shown
        assert shown.count("\np ") == shown.count("\nu ") == 9 * -(-200 // ((56 - 2) // 5))
        assert samples.show_vertical_scrollbar
