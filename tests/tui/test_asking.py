"""Questions in one's own words: which are found, how they are filled, and that each is answered."""

from __future__ import annotations

import json
from functools import cache

import numpy as np
import pytest

from tests.tui.test_main_screen import Driver, driving
from tui_gru import Session, TuiGruError
from tui_gru.session.snapshot import Snapshot
from tui_gru.tui.ask import SHOWN, AskPanel, AskScreen
from tui_gru.tui.asking import Matched, TypedWords, can_be_asked, matching, of_this_moment, with_slots_filled
from tui_gru.tui.command import CommandLine
from tui_gru.tui.console import Console
from tui_gru.tui.headless import until_idle
from tui_gru.tui.keys import abbreviated, by_name, commands_of
from tui_gru.tui.panels.derivation import DerivationPanel
from tui_gru.tui.questions import ListedQuestion, Ranking, questions, read_questions, stem
from tui_gru.tui.verbs import BY_ID, VERBS


@cache
def learned() -> Snapshot:
    session = Session()
    session.learning = True
    session.step("epoch", 3)
    return session.snapshot()


def first(typed: str, snapshot: Snapshot | None = None) -> Matched:
    return matching(snapshot or learned(), typed)[0]


# The file


def test_every_question_is_asked_in_several_words_and_answered_by_verbs() -> None:
    names = by_name(BY_ID)
    assert len(questions()) >= 120
    assert len({question.text for question in questions()}) == len(questions())
    for question in questions():
        assert len(question.wordings) >= 5, question.text
        assert question.group
        assert all(abbreviated(part.partition(" ")[0], names) is not None for part in commands_of(question.commands)), question.text
    assert {id for id in SHOWN if id not in BY_ID} == set()


@pytest.mark.parametrize("question", questions(), ids=lambda question: question.text)
def test_every_question_is_answered_in_words_and_as_data(question: ListedQuestion, tmp_path, monkeypatch) -> None:
    session = Session(layers=2 if "layers" in question.needs else 1, clip=0.1 if "clipping" in question.needs else 0.0)
    monkeypatch.chdir(tmp_path)
    console = Console(session)
    try:
        for command in commands_of(question.before):
            console.execute(command)
        assert can_be_asked(console.snapshot, question)
        command = with_slots_filled(question, 0, TypedWords(console.snapshot, "")).command
        assert "{" not in command
        assert "$" not in command
        answers = [console.execute(part) for part in commands_of(command)]
    finally:
        console.close()
    assert answers[-1].text
    assert answers[-1].data is not None
    json.dumps(answers[-1].data, default=lambda array: array.tolist())


@pytest.mark.parametrize("question", questions(), ids=lambda question: question.text)
def test_each_of_its_wordings_finds_a_question(question: ListedQuestion) -> None:
    snapshot = learned()
    if not can_be_asked(snapshot, question):
        return
    command = with_slots_filled(question, 0, TypedWords(snapshot, "")).command.partition(" ")[0]
    for wording in (question.text, *question.wordings):
        found = matching(snapshot, wording)[:4]
        assert command in [match.command.partition(" ")[0] for match in found], wording


# The ranking


@pytest.mark.parametrize(
    ("typed", "question"),
    [
        ("why is the loss 1.26", "Why is the loss"),
        ("lerning rate too big", "What if the learning rate were larger?"),
        ("dead neruons", "Are there dead units?"),
        ("eta too big", "What if the learning rate were larger?"),
        ("What means the orange color?", "What do the colours mean?"),
        ("How can I the gradients see?", "Show the weights"),
        ("tttttt", "Why does it repeat the same letter?"),
        ("warum sinkt der loss nicht", "Why is the loss not falling?"),
        ("nan", "Where did NaN come from?"),
        ("how do i leave", "How do I quit?"),
        ("backprop", "What happens in the backward pass?"),
        (
            "i would like to know which of all the letters in my text are the most difficult ones",
            "Which letters does it find hard?",
        ),
    ],
)
def test_a_question_is_found_by_other_words_and_with_typing_errors(typed: str, question: str) -> None:
    assert first(typed).question.startswith(question)


def test_no_word_is_required_and_nonsense_finds_nothing() -> None:
    assert first("loss stuck qqqqq wwwww").question == "Why is the loss not falling?"
    assert matching(learned(), "☃") == []
    assert matching(learned(), "") == []


def test_a_ranking_prefers_rare_words_and_more_of_them() -> None:
    ranking = Ranking([["the red house"], ["the red barn on the hill"], ["a green house"], ["the red boat"]])
    assert ranking.rank("red barn")[0].place == 1
    assert ranking.rank("green")[0].place == 2
    assert [fit.place for fit in ranking.rank("house")][:2] == [0, 2]
    assert stem("derivations") == stem("derivation") != "derivations"


def test_a_file_of_questions_is_read_in_groups() -> None:
    text = "# a comment\n\n== One ==\n\nWhat?\n  > where\n  < s\n  with text\n  at start\n  a; b\n  c\n\nHow?\n  > help\n"
    what, how = read_questions(text)
    assert what == ListedQuestion("What?", "One", "where", "s", "text", "start", ("a", "b", "c"))
    assert (how.group, how.commands, how.before) == ("One", "help", "")


# What is typed fills the commands


@pytest.mark.parametrize(
    ("typed", "command"),
    [
        ("when was the loss below 0.3", "go first loss < 0.3"),
        ("first time loss under .7?", "go first loss < .7"),
        ("what if unit 2 did not exist", "silence h[unit 2]"),
        ("what if r were 0", "silence r[unit 1]"),
        ("what if the reset gate were 0", "silence r[unit 1]"),
        ("why did Wz[M, 2] change", "why Wz[M, 2]"),
        ("which character caused this change of Wr[a, 1]", "why dWr[a, 1]"),
        ("what comes after “th”?", "predict th"),
        ("what comes after th", "predict th"),
        ("z[row 2, unit 1]", "why z[row 2, unit 1]"),
        ("where does r[row 2, unit 2] come from", "why r[row 2, unit 2]"),
        ("go to epoch 2", "go e2"),
        ("how do i train for 25 epochs", "learning on; go +25e"),
        ("how did ‖Uz‖ change over the run", "plot norm(Uz)"),
        ("which unit follows the vowels", "units h; class vowels"),
        ("what if this number z[row 1, unit 2] were -0.5", "what-if z[row 1, unit 2] -0.5"),
        ("halt as soon as the norm of the gradient exceeds 5", "until grad_norm > 5"),
        ("run until z is above 0.7", "until any(z > 0.7)"),
        ("run until z[row 1, unit 2] > 0.7", "until z[row 1, unit 2] > 0.7"),
        ("watch the gradient norm while I step", "watch grad_norm"),
        ("watch the update gate of unit 2", "watch z[row 1, unit 2]"),
        ("how do h and h~ differ", "why h[row 1, unit 1]"),
        ("difference between z and r", "why z[row 1, unit 1]"),
        ("why did W_z change", "why Wz[“h”, unit 1]"),
        ("what does h_{t-1} mean", "help hₜ₋₁"),
        ("what is W_hh", "help Uz"),
        ("stop when the loss is below 0.3", "break if loss < 0.3"),
        ("break when loss > 1.5 * previous loss", "break if loss > 1.5 * prev(loss)"),
        ("break when the norm of Wz is larger than 5", "break if norm(Wz) > 5"),
        ("how often was the norm over 5", "plot grad_norm > 5"),
        ("when did it learn that t comes after a", 'go first char[0] == "a" and y_hat[row 1, “t”] > 0.5'),
        ("why did the loss go up at step 5", "go e2 b2 loss; why loss"),
        ("when was the loss lowest", "go lowest loss"),
        ("what is sofmax", "help softmax"),
        ("what is the learning rate", "why learning_rate"),
        ("sample at temperature 0.8", "sample Ma 10 0.8"),
        ("what would the loss be if I zero the recurrent weights", "what-if Uz 0"),
    ],
)
def test_numbers_names_and_texts_fill_the_command(typed: str, command: str) -> None:
    assert first(typed).command == command


def test_names_of_other_models_fill_the_commands() -> None:
    session = Session(cell="lstm", layers=2, text="hello world, hello hello", hidden_size=4, seq_length=4, batch_size=1)
    session.step("batch", 1)
    snapshot = session.snapshot()
    for question in questions():
        if can_be_asked(snapshot, question):
            filled = with_slots_filled(question, 0, TypedWords(snapshot, ""))
            assert "$" not in filled.command + filled.question
    assert first("what if unit 9 did not exist", snapshot).command == "silence h_l1[unit 1]"  # there are four
    assert first("see another layer", snapshot).command == "layer"
    assert first("what comes after hello", snapshot).command == "predict hello"


def test_what_a_run_cannot_do_is_not_offered() -> None:
    session = Session(text="abababab", seq_length=3, batch_size=1, bidirectional=True)
    session.step("batch", 1)
    assert not any(match.command.startswith(("sample", "predict")) for match in matching(session.snapshot(), "what comes after ab"))


def test_at_each_moment_other_questions_are_offered() -> None:
    session = Session()
    start = [match.command for match in of_this_moment(session.snapshot())]
    session.sgd()
    session.step("line", 1)
    assert "tour" in start
    line = [match.command for match in of_this_moment(session.snapshot())]
    assert line[0] == "help this line"
    assert "tour" not in line
    gates = [match.command for match in of_this_moment(session.snapshot(), "Gates")]
    assert gates != line
    assert "arrays" in gates


# Without a screen


def test_ask_lists_questions_with_their_commands_and_executes_none() -> None:
    console = Console(Session())
    answer = console.execute("ask when was the loss first below 0.5")
    assert answer.text.splitlines()[0].split("  ")[0] == "When was the loss first below 0.5?"
    assert answer.data["questions"][0] == {"question": "When was the loss first below 0.5?", "command": "go first loss < 0.5"}
    assert console.session.position.tick == 0
    assert console.execute("?").data["questions"]
    with pytest.raises(TuiGruError, match="no question has any of these words"):
        console.execute("ask ☃☃☃")


def test_predict_gives_the_chances_after_a_text() -> None:
    session = Session()
    session.learning = True
    session.step("epoch", 900)
    console = Console(session)
    try:
        answer = console.execute("predict Ma")
        assert answer.text.splitlines()[:2] == ["what comes after “Ma”", "t  0.9091  ████████████████████████████████████▍"]
        chances = {chance["character"]: chance["probability"] for chance in answer.data["chances"]}
        assert next(iter(chances)) == "t"
        assert sum(chances.values()) == pytest.approx(1)
        assert session.sample("Ma", 1, temperature=0) == "Mat"
        assert console.execute('predict "Ma"').data == answer.data
        with pytest.raises(TuiGruError, match=r"'x' at position 1 .* is not in the vocabulary"):
            console.execute("predict x")
    finally:
        console.close()


def test_where_says_the_loops_the_line_and_what_comes_next() -> None:
    console = Console(Session())
    assert console.execute("where").text.startswith("before the first line: the weights are still the initial ones · next: z = ")
    console.execute("l")
    console.execute("2n")
    console.execute("s")
    console.execute("o")
    words = console.execute("where").text
    assert words.startswith("epoch 1, batch 3 of 3, timestep 2 of 3, in the forward pass · just executed: z = σ(")
    assert " · next: r = " in words
    console.execute("n")
    assert "the batch is complete; next: z = σ(x Wz + hₜ₋₁ Uz + bz), of the next epoch" in console.execute("where").text
    console.execute("go e1")
    console.execute("o")
    assert "in the past: the newest moment is 2 batches later" in console.execute("where").text


def test_a_line_is_explained_with_what_it_reads_and_gives() -> None:
    console = Console(Session())
    try:
        assert console.execute("help this line").text.startswith("before the first line")
        console.execute("o")
        words = console.execute("help this line").text
        assert words.startswith("z = σ(x Wz + hₜ₋₁ Uz + bz) computes z, update gate: near 1 keeps the old state. It reads x, ")
        assert words.endswith("bz, bias of z. Its first number: z[row 1, unit 1] = 0.1790542")
        console.execute("n")
        assert console.execute("help this line").text.endswith("in nats. It gives: loss = 1.260223")
    finally:
        console.close()


def test_a_line_is_a_place_and_so_is_the_first_moment_of_a_condition() -> None:
    console = Console(Session())
    with pytest.raises(TuiGruError, match="the batch ends with its loss, before dhₜ₋₁; turn learning on first"):
        console.execute("go dhₜ₋₁")
    console.execute("l")
    console.execute("900e")
    console.execute("go e1 b2 t2 dhₜ₋₁")
    line = console.snapshot.line
    assert line is not None
    assert line.target == "dh_prev"
    assert console.execute("where").text.startswith("epoch 1, batch 2 of 3, timestep 2 of 3, in the backward pass")
    with pytest.raises(TuiGruError, match="loss is computed once in a batch, not at each timestep; leave out t 2"):
        console.execute("go t2 loss")
    before = console.session.position
    assert "did not hold anywhere in what has been run" in console.execute("go first loss > 9").text
    assert console.session.position == before
    assert console.execute("go first loss < 0.5").text.startswith("loss < 0.5 holds first at epoch 799 · batch 1")
    assert console.session.newest.epoch == 899
    with pytest.raises(TuiGruError, match="column 10: unknown name lss"):
        console.execute("go first lss < 1")


def test_the_extremes_of_what_was_run_are_places() -> None:
    session = Session()
    session.learning = True
    session.step("epoch", 3)
    console = Console(session)
    try:
        losses = [session.state.timeline.column("loss", batch, batch)[0] for batch in range(9)]
        answer = console.execute("go lowest loss").text
        assert session.position.number == int(np.argmin(losses))
        assert f"{min(losses):.4f}, of 9 batches" in answer
        console.execute("newest")
        console.execute("go highest loss")
        assert session.position.number == int(np.argmax(losses))
        with pytest.raises(TuiGruError, match="go lowest loss"):
            console.execute("go lowest z")
    finally:
        console.close()


def test_a_number_on_the_screen_is_an_entry() -> None:
    session = Session()
    session.step("op", 3)
    value = session.value("z")
    index = (1, 0)
    words = TypedWords(session.snapshot(), f"where does this {value[index]:.4f} come from")
    assert words.entry == "z[row 2, unit 1]"


def test_an_entry_alone_explains_itself_and_says_what_will_compute_it() -> None:
    console = Console(Session())
    words = console.execute("z[row 1, unit 2]").text
    assert words.startswith(
        "z[row 1, unit 2] has not been computed yet: z = σ(x Wz + hₜ₋₁ Uz + bz) computes it (update gate: near 1"
    )
    assert console.execute("dWz[M, 1]").text.endswith(" · learning is off, so this line is not executed")
    console.execute("s")
    assert console.execute("z[row 1, unit 2]").text.startswith("z[row 1, unit 2] = +0.5942792")
    with pytest.raises(TuiGruError, match="column 3: z has the rows 1 to 2 here, not row 9"):
        console.execute("z[row 9, unit 2]")
    console.execute("n")
    with pytest.raises(TuiGruError, match="dz has not been computed yet"):
        console.execute("why dz[row 1, unit 1]")


def test_an_expression_reads_other_timesteps() -> None:
    session = Session()
    session.learning = True
    session.step("batch", 3)
    _, values = session.history("norm(dh t 1)")
    assert values[-1] == pytest.approx(np.linalg.norm(session.value("dh", t=0)), rel=1e-6)
    _, values = session.history("z[row 2, unit 1] t 2 - z[1, 0] t 2")
    assert values.tolist() == [0, 0, 0]
    with pytest.raises(TuiGruError, match=r"^column 6: a batch has the timesteps 1 to 3, not 9$"):
        session.history("norm(dh t 9)")
    with pytest.raises(TuiGruError, match=r"^column 1: Wz has no timesteps; leave out t 1$"):
        session.history("Wz[0, 0] t 1")
    with pytest.raises(TuiGruError, match=r"^column 14: .* ends too early$"):
        session.history("z[0, 0] t 2 +")


# On the screen


def panel_of(d: Driver) -> AskPanel:
    screen = d.pilot.app.screen
    assert isinstance(screen, AskScreen)
    return screen.panel


async def answered(d: Driver) -> str:
    panel = panel_of(d)
    while not panel.answered:
        await d.pilot.pause(0.01)
    await d.pilot.pause()
    return panel.plain_text()


@pytest.mark.parametrize("size", [(160, 50), (120, 36), (80, 24), (40, 12)])
async def test_the_answer_is_beside_the_question_and_enter_opens_it(size: tuple[int, int]) -> None:
    async with driving(size) as d:
        await d.type("n", "?", *"why is the loss 1.26")
        text = await answered(d)
        assert "Why is the loss 1.2602?" in text
        assert "1.2602230" in text
        assert panel_of(d).virtual_size.width <= panel_of(d).size.width
        await d.type("enter")
        assert d.pilot.app.screen is d.screen
        assert isinstance(d.screen.overlay, DerivationPanel)


async def test_looking_at_answers_changes_nothing() -> None:
    async with driving((120, 36)) as d:
        await d.type("l", "30e")
        state = d.session.state
        await d.type("?", *"loss")
        for _ in range(12):
            await answered(d)
            await d.type("down")
        await d.type("escape")
        assert d.session.state is state
        assert d.session.samples == ()


async def test_an_answer_that_takes_a_thread_comes_later_and_is_given_up_for_another() -> None:
    async with driving((120, 36)) as d:
        await d.type("l", "200e", "?", *"when was the loss first below 1")
        assert "loss < 1 holds first at epoch" in await answered(d)
        await d.type("ctrl+u", *"what is wrong", "ctrl+u", *"z[row 1, unit 1]")
        assert "where does z[row 1, unit 1]" in await answered(d)
        await d.type("escape")
        assert d.pilot.app.screen is d.screen


async def test_several_commands_are_executed_one_after_another() -> None:
    async with driving((120, 36)) as d:
        await d.type("?", *"how do i train for 40 epochs", "enter")
        while d.screen.running:
            await d.pilot.pause(0.01)
        await until_idle(d.pilot)
        assert d.session.learning
        assert d.session.position.epoch in (39, 40)


async def test_what_needs_the_user_goes_on_the_line_and_what_only_changes_says_what_it_does() -> None:
    async with driving((120, 36)) as d:
        await d.type("?", *"how do i save this")
        assert ":save demo — save this session" in " ".join((await answered(d)).split())
        await d.type("enter")
        assert d.screen.query_one(CommandLine).value == "save demo"


async def test_all_commands_and_colours_are_a_key_away() -> None:
    async with driving((120, 36)) as d:
        await d.type("?", "tab")
        assert "one line of the program" in d.pilot.app.screen.query_one("HelpPanel").plain_text()  # type: ignore[attr-defined]
        await d.type("escape", "?", ";")
        assert type(d.screen.overlay).__name__ == "Legend"
        assert any(verb.id == "help" and "?" in verb.names for verb in VERBS)
