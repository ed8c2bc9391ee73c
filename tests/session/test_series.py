"""A session on series of numbers: everything that other runs have, on any screen and in the shell."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from tests.tui.test_main_screen import driving_app
from tui_gru import Session, TuiGruError
from tui_gru.analysis.report import WRITERS
from tui_gru.cli.commands import main
from tui_gru.cli.sessions import continued_session
from tui_gru.storage.file import glancing
from tui_gru.storage.store import place_in
from tui_gru.tui.about import about
from tui_gru.tui.app import make_app
from tui_gru.tui.headless import until_checked, until_idle
from tui_gru.tui.panels.sequence import Samples, Sequence
from tui_gru.tui.panels.time import Header
from tui_gru.tui.panels.values import LossTerms, Softmax
from tui_gru.tui.session_screen import BottomLine

T = np.arange(60)
X = np.stack([np.sin(T / 5), np.cos(T / 7)], axis=1)
Y = np.stack([X.sum(axis=1), X[:, 0] - X[:, 1], X[:, 0]], axis=1)
CLASSES = (X[:, 0] > 0).astype(int) + (X[:, 1] > 0.5)
RUNS = {
    "numbers": {"target": Y, "loss": "squared-error"},
    "one number": {"target": Y[:, 0], "layers": 2, "bidirectional": True},
    "classes": {"target": CLASSES, "hidden_size": 4},
    "a carried gradient": {"target": Y, "carry": "notebook", "optimizer": "momentum"},
}
SERIES = {"input": X[:60].reshape(4, 15, 2), "target": Y.reshape(4, 15, 3), "batch_size": 2, "seq_length": 5}


def made(name: str, **options: object) -> Session:
    s = Session(**{"input": X, **RUNS[name], **options})
    s.learning = True
    return s


@pytest.mark.parametrize("name", RUNS)
def test_it_is_the_same_after_steps_back_and_after_opening(name: str, tmp_path: Path) -> None:
    s = made(name)
    s.step("batch", 13)
    s.step("timestep", 2)
    names = [each for each in s.program.readable if each not in ("t", "epoch", "batch", "step")]
    before = {each: s.value(each) for each in names}
    s.step("epoch", 2)
    s.step("epoch", -2)
    s.save(tmp_path / "series.tui-gru")
    for again in (s, Session.open(tmp_path / "series.tui-gru")):
        assert {each: again.value(each) for each in names}.keys() == before.keys()
        for each in names:
            np.testing.assert_array_equal(again.value(each), before[each], err_msg=each)
    with glancing(tmp_path / "series.tui-gru") as file:
        assert place_in(file) == "epoch 2, batch 4, t 2"
    again.step("batch")
    s.step("batch")
    assert again.loss == s.loss
    assert again.config.options == s.config.options
    np.testing.assert_array_equal(again.config.source.targets, s.config.source.targets)


@pytest.mark.parametrize("name", RUNS)
def test_k_agrees_and_every_number_is_explained(name: str) -> None:
    s = made(name, dtype="float64")
    s.step("batch", 12)
    assert s.check().agrees
    for each in s.program.readable:
        value = s.value(each)
        if value is None or np.asarray(value).dtype.kind not in "f" or each in ("epoch", "batch", "t"):
            continue
        index = (0,) * np.ndim(value)
        node = s.explain(each, index)
        assert node.value == pytest.approx(float(np.asarray(value)[index]), rel=1e-9, abs=1e-12), each


def test_an_input_is_explained_by_its_place() -> None:
    s = Session(**SERIES)
    s.seek("e1 b5 t2")
    assert s.explain("x", (1, 0)).derivation.note == "read here: timestep 7 of series 4"
    assert s.explain("y", (0, 2)).derivation.note == "to be predicted here: timestep 7 of series 3"
    s = Session(input=X, target=Y)
    s.step("timestep")
    assert s.explain("x", (0, 0)).derivation.note == "read here: timestep 1 of the series"


def test_questions_about_numbers() -> None:
    s = made("numbers", dtype="float64")
    s.step("batch", 7)
    supposed = s.what_if("x", (0, 1), 3.0, 1)
    assert supposed.losses[0] == s.loss != supposed.losses[1]
    assert s.influence(1, 2).text == ""
    assert s.units("h", row=1).values.shape == (3, 2)
    assert s.run_until("abs(logits[0, 2] - y[0, 2]) < 0.05")
    with pytest.raises(TuiGruError, match="a run without a text has no held-out text; remove the option"):
        s.hold_out("abc")
    sizes = s.config.sizes
    assert s.units().values.shape == (sizes["T"] * sizes["B"], sizes["H"])
    assert s.units().goes_with()[0].what in {feature.name for feature in s.units().own}
    for ask in (s.losses, lambda: s.sample("a", 3)):
        with pytest.raises(TuiGruError, match="this run has no text: it reads numbers"):
            ask()
    with pytest.raises(TuiGruError, match="this run has no text: it reads numbers"):
        s.edit("text", (0,), "a")
    with pytest.raises(TuiGruError, match="x is a given input and cannot be edited; use what_if to see the effect"):
        s.edit("x", (0, 0), 1.0)


def test_classes_are_read_as_text_is() -> None:
    s = made("classes")
    s.step("batch", 3)
    assert s.run_until("target[0] == '2' and y_hat[0, 2] > 0.4")
    assert s.value("target")[0] == "2"
    s.seek("e2 b1")
    assert s.explain("dh", (0, 1), t=2).derivation.terms[0].derivation.note == "over classes"


@pytest.mark.parametrize("name", RUNS)
@pytest.mark.parametrize("suffix", WRITERS)
def test_it_is_reported(name: str, suffix: str) -> None:
    s = made(name)
    s.step("epoch", 2)
    report = s.report()
    assert ("input", "1 series of 60 timesteps, 2 inputs") in report.options
    assert report.samples == report.units == report.classes == ()
    assert [name for name, _ in report.lines] == (["blind guess"] if name == "classes" else [])
    written = WRITERS[suffix](report)
    assert suffix == ".svg" or "1 series of 60 timesteps, 2 inputs" in written


def test_what_it_learns() -> None:
    for name in ("numbers", "classes"):
        s = made(name, hidden_size=8, batch_size=1, seq_length=10)
        s.step("batch")
        first = s.loss
        s.step("epoch", 60)
        assert s.loss < first / 5
        assert not [each for each in s.findings() if each.name in ("never-predicted", "worse-than-a-table", "initial-loss")]


SIZES = [(160, 50), (120, 36), (80, 24), (40, 12)]


@pytest.mark.parametrize(("size", "name"), list(zip(SIZES, RUNS, strict=True)), ids=str)
async def test_every_key_is_answered(size: tuple[int, int], name: str) -> None:
    """A panel that cannot draw, or a key that fails, writes a report, which fails the test."""
    async with driving_app(make_app(made(name)), size) as d:
        for keys in (
            "s", "of", "nNe", "ESOF", "v", "vv", "x", "xx", "r", "RLL", "z", "z^", "@", "enter", "escape", "n n s enter",
            "escape p", "h", "escape y", "escape d", "escape W", "escape ! escape", "a l l p G b c C B", "J", "escape u U e",
            "tab tab enter", "escape i", "escape tab tab tab i", "escape k",
        ):  # fmt: skip
            await d.type(*keys.split() if " " in keys else [keys] if keys in ("enter", "tab", "escape") else keys)
            await until_idle(d.pilot)
        await until_checked(d.pilot)
        await d.type("escape", "?", "escape", "q")


async def test_the_screen_shows_predictions_beside_targets() -> None:
    async with driving_app(make_app(made("numbers")), (160, 50)) as d:
        await d.type(*"ns")
        shown = {panel: d.screen.query_one(panel).plain_text() for panel in (Header, Sequence, Softmax, LossTerms)}
        session = d.screen.session
        o, y = session.value("logits"), session.value("y")
        assert shown[Header].split()[:3] == ["1", "series", "of…"]
        lines = [line.split() for line in shown[Softmax].splitlines()]
        assert lines[0] == ["o", "and", "y"]
        assert ["row", "1,", "output", "1", f"{o[0, 0]:+.4f}", f"{y[0, 0]:+.4f}", f"{o[0, 0] - y[0, 0]:+.4f}"] in lines
        assert not d.screen.query(Samples)  # its room goes to the others
        assert "loss = mean of ③" in shown[LossTerms]
        assert "off by" in shown[Sequence]
        await d.type("p")
        assert "this run has no text: it reads numbers, so there is nothing to sample" in d.screen.query_one(BottomLine).message


async def test_the_screen_shows_classes_as_it_shows_characters() -> None:
    async with driving_app(make_app(made("classes")), (160, 50)) as d:
        await d.type(*"nns")
        assert "2 0.3026 ██▍ ◂" in d.screen.query_one(Softmax).plain_text()  # the target of row 1
        sequence = d.screen.query_one(Sequence).plain_text().splitlines()
        rows = [line.split() for line in sequence[3:6]]
        assert [row[:3] for row in rows] == [["row", "1⋮", "|x|"], ["y", *map(str, CLASSES[6:8])], ["p", *rows[2][1:3]]]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    np.save("x.npy", X)
    np.save("y.npy", Y)
    np.save("classes.npy", CLASSES)
    return tmp_path


def test_commands_of_the_shell(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["trace", "--input", "x.npy", "--target", "y.npy", "--loss", "squared-error", "--epochs", "2"]) == 0
    trace = json.loads(capsys.readouterr().out)
    s = Session(input="x.npy", target="y.npy")
    s.learning = True
    s.step("batch")
    assert trace["batches"][0]["loss"] == pytest.approx(s.loss, rel=1e-6)
    np.testing.assert_allclose(trace["batches"][0]["timesteps"][1]["x"], X[[1, 31]], rtol=1e-6)
    assert (trace["config"]["loss"], trace["vocabulary"]) == ("squared-error", [])
    assert main(["screenshot", "--input", "x.npy", "--target", "classes.npy", "--keys", "n s", "out.svg"]) == 0
    assert "target" in (folder / "out.svg").read_text("utf-8")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("sample --input x.npy", "--input is given without target; give both, as arrays or .npy files"),
        ("trace --input x.npy --target nowhere.npy", "--target: nowhere.npy: no such file or directory; check the name"),
        ("trace --input x.npy --target y.npy --text abc", "--text belongs to a text, but the run reads numbers"),
        ("trace --input x.npy --target y.npy --file x.npy", "--file belongs to a text"),
        ("sample --input x.npy --target y.npy", "this run has no text: it reads numbers, so there is nothing to sample"),
        ("trace --input x.npy --target y.npy --loss cross-entropy", "--target: the loss cross-entropy compares with classes"),
    ],
)
def test_mistakes_in_the_shell(arguments: str, message: str, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments.split()) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert message in said


def test_a_session_is_opened_again_with_the_same_numbers_only(folder: Path) -> None:
    path = folder / "series.tui-gru"
    made("numbers").save(path)
    same = {"input": "x.npy", "target": "y.npy", "loss": "squared-error"}
    assert continued_session(path, same, copy=False, history_memory=None).config.source.shape == (1, 60, 2)
    for other in ({**same, "target": "classes.npy"}, {"input": "x.npy"}):
        with pytest.raises(TuiGruError, match="in the session series there are other numbers than in --input"):
            continued_session(path, other, copy=False, history_memory=None)
    with pytest.raises(TuiGruError, match="--loss is 'squared-error', not 'cross-entropy'"):
        continued_session(path, {"loss": "cross-entropy"}, copy=False, history_memory=None)


def test_what_is_said_of_it() -> None:
    s = made("classes")
    assert about(s.program, "y").startswith("the class that should be predicted")
    assert about(s.program, "target").startswith("the class that should be predicted")
    assert "text" not in about(s.program, "epoch")
    assert about(made("numbers").program, "y") == "the numbers that should be predicted"
    assert made("numbers").program.model.title.endswith("; Mean squared error")
    assert made("classes").program.model.title == Session().program.model.title


def test_cures_are_tried_on_the_same_series() -> None:
    s = made("numbers", learning_rate=1e-7, optimizer="sgd", clip=0.0)
    s.step("epoch", 40)
    (finding,) = [each for each in s.findings() if each.name == "rate-too-small"]
    trials = s.try_cures(finding)
    assert trials[0].loss < trials[0].without


async def test_the_first_answer_says_the_shape_that_was_read() -> None:
    async with driving_app(make_app(Session(**SERIES).config)) as d:
        assert d.says == "the input is read as 4 series of 15 timesteps, 2 inputs"


def test_batch_first_is_what_series_are_and_needs_an_input(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", SERIES["input"])
    np.save(tmp_path / "y.npy", SERIES["target"])
    numbers = ["--input", str(tmp_path / "x.npy"), "--target", str(tmp_path / "y.npy")]
    answers = []
    for more in ([], ["--batch-first"]):
        assert main(["run", *numbers, *more, "-x", "n"]) == 0
        answers.append(capsys.readouterr().out)
    assert answers[0] == answers[1]
    assert main(["run", "--batch-first", "-x", "n"]) == 2
    assert "--batch-first: it says how --input is read" in capsys.readouterr().err
