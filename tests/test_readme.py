"""Every example in the README and the manual is run: keys, `:` commands, conditions, shell commands, the key file, the Python."""

from __future__ import annotations

import ast
import importlib.util
import io
import itertools
import json
import math
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from pydoc_data.topics import topics
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

import tui_gru
from tests.capture.runs import trained
from tests.capture.scripts import Model
from tests.key_table import HEAD, in_page, key_table
from tests.pages import EVERYTHING, MANUAL, PATHS, README, section
from tests.screenshots import CELL, TOPICS, TOPICS_OF_THE_MANUAL, TRAINED
from tests.terminal import Terminal
from tests.tui.test_browser import Site
from tests.tui.test_main_screen import Driver, driving
from tests.ways import way_of
from tests.without_terminal import run_without_terminal
from tui_gru.cli.commands import main
from tui_gru.debugger.expressions import compile_condition
from tui_gru.debugger.program import program_of
from tui_gru.engine.config import Config
from tui_gru.imported.module import forget
from tui_gru.imported.recordings import open_recording
from tui_gru.teaching.drafting import template_text
from tui_gru.tui import configuration
from tui_gru.tui.app import make_app
from tui_gru.tui.headless import headless, until_idle
from tui_gru.tui.keys import execute
from tui_gru.tui.session_screen import BottomLine
from tui_gru.tui.verbs import BY_ID

ROOT = Path(__file__).parents[1]
FENCED = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
INLINE = re.findall(r"(?<!`)`([^`\n]+)`(?!`)", FENCED.sub("", EVERYTHING))
OF_ITS_TOPICS = pytest.mark.skipif(not TOPICS_OF_THE_MANUAL, reason="the figures are of the help topics of Python 3.11")
LANGUAGES = {"text", "json", "", "sh", "toml", "python", "cell", "update", "loss", "head"}


def blocks(language: str) -> list[str]:
    return [body for name, body in FENCED.findall(EVERYTHING) if name == language]


LEARNING, BUILT = MANUAL["texts"], MANUAL["building"]
SHELL = [line for block in blocks("sh") for line in block.splitlines()]
SHELL += [code for code in INLINE if code.startswith("tui-gru ")]
#: Commands that download the package, which a test does not do.
INSTALLING = [line for line in SHELL if "pip install" in line or line.startswith(("uvx ", "pipx "))]
WRITING = [line for line in SHELL if line.startswith("python -c ")]
#: Commands for who changes the project.
DEVELOPING = [line for line in SHELL if line in BUILT]
PROGRAM = [shlex.split(line, comments=True)[1:] for line in SHELL if line.startswith("tui-gru ")]
LESSONS = [
    words for words in PROGRAM if words[0] == "lesson" and words[1:2] == ["loss"] and not {"--answers", "--notebook"} & {*words}
]
ON_SCREEN = [words for words in PROGRAM if words[0].startswith("--") or words[0] == "open" or words[0].endswith(".tui-gru")]
ON_SCREEN += LESSONS
SERVED = [words for words in PROGRAM if words[0] == "serve"]
TOOLS = [words for words in PROGRAM if words[0] == "mcp"]  # tests/cli/test_tools.py drives it
WITHOUT = [words for words in PROGRAM if words not in (*ON_SCREEN, *SERVED, *TOOLS)]
COMMANDS = [line for block in blocks("") for line in block.splitlines()]
COMMANDS += [code for code in INLINE if re.match(r":\w", code)]


def test_there_is_a_test_for_every_kind_of_example() -> None:
    assert {name for name, _ in FENCED.findall(EVERYTHING)} <= LANGUAGES
    assert all(line.startswith(":") for line in COMMANDS)
    assert len(INSTALLING) + len(WRITING) + len(PROGRAM) + len(DEVELOPING) == len(SHELL)
    assert min(map(len, (INSTALLING, ON_SCREEN, SERVED, WITHOUT, COMMANDS))) > 1


def test_the_key_table_is_that_of_the_verbs() -> None:
    """python -m tests.key_table writes it again."""
    before, _, after = in_page(MANUAL["screens"])
    assert before + key_table() + after == MANUAL["screens"]
    assert HEAD not in after


def test_what_is_installed_is_there_to_be_installed() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    for line in INSTALLING:
        for command in shlex.split(line, comments=True):
            extra = re.search(r"\[(\w+)\]", command)
            assert extra is None or extra[1] in project["optional-dependencies"]
    assert "tui-gru" in project["scripts"]


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the files that the examples write and read, which every test copies."""
    folder = tmp_path_factory.mktemp("readme")
    np.save(folder / "F.npy", np.arange(10.0).reshape(5, 2))
    for name, text in zip(("my.cell", "normed.cell"), blocks("cell"), strict=True):
        (folder / name).write_text(text, encoding="utf-8")
    for name, language in (("rms.update", "update"), ("focal.loss", "loss"), ("deep.head", "head")):
        (folder / name).write_text(*blocks(language), encoding="utf-8")
    for line in WRITING:
        subprocess.run(line.replace("python", shlex.quote(sys.executable), 1), shell=True, check=True, cwd=folder)
    walk = tui_gru.Session()
    walk.mark("a", "The start")
    walk.save(folder / "walk.tui-gru")
    (folder / "mine.md").write_text(template_text(), encoding="utf-8")
    (folder / "answers.txt").write_text("1: 1.7905\n", encoding="utf-8")
    tui_gru.Session(hidden_size=3).save(folder / "other.tui-gru")
    torch.manual_seed(1)
    modules = torch.nn.ModuleDict({"encoder": torch.nn.GRU(3, 4, bidirectional=True), "decoder": torch.nn.GRU(3, 4)})
    torch.save(modules.state_dict(), folder / "model.pt")
    characters = {"embed": torch.nn.Embedding(4, 3), "rnn": torch.nn.GRU(3, 5), "fc": torch.nn.Linear(5, 4)}
    for name in ("chars.pt", "words.pt"):
        torch.save(torch.nn.ModuleDict(characters).state_dict(), folder / name)
    (folder / "words.txt").write_text("the\ncat\nsat\non\n")
    np.save(folder / "ids.npy", np.arange(16) % 4)
    x = torch.randn(6, 2, 3)
    np.save(folder / "x.npy", x.numpy())
    np.save(folder / "y.npy", modules["encoder"](x)[0].detach().numpy())
    trained(folder / "run.gru", steps=3, every=1)
    return folder


@pytest.fixture
def folder(files: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder in which an example is run."""
    monkeypatch.chdir(tmp_path)
    return Path(shutil.copytree(files, tmp_path, dirs_exist_ok=True))


def test_the_written_files_are_those_of_the_pictures(folder: Path) -> None:
    assert (folder / "topics.txt").read_text("utf-8") == TOPICS["text"]
    assert blocks("cell")[0] == CELL
    assert len(CELL.splitlines()) == 6
    options = next(words for words in ON_SCREEN if "topics.txt" in words)
    given = {"file": "topics.txt", **{name: str(value) for name, value in TOPICS.items() if name != "text"}}
    assert options == [word for name, value in given.items() for word in (f"--{name.replace('_', '-')}", value)]


@OF_ITS_TOPICS
def test_the_text_is_learned_as_the_manual_says() -> None:
    began, came_to, epoch = re.findall(r"from ([\d.]+) nats to a mean of ([\d.]+) in the (\w+) epoch", LEARNING)[0]
    assert (epoch, TRAINED) == ("fifteenth", "15e")
    session = tui_gru.Session(**TOPICS)
    session.learning = True
    session.step("batch")
    assert session.loss == pytest.approx(float(began), abs=0.05)
    session.step("epoch", 14)
    losses = []
    while (session.position.epoch, session.position.batch) < (14, session.config.num_batches - 1):
        session.step("batch")
        losses.append(session.loss)
    mean = math.fsum(losses) / len(losses)
    assert len(losses) == session.config.num_batches
    assert mean <= 1.30
    assert mean == pytest.approx(float(came_to), abs=0.05)
    (command,) = [line for line in COMMANDS if line in LEARNING]
    assert command == ":sample The 150 0.5 fed-back"
    words = re.findall(r"[a-z]{3,}", session.sample("The", 150, temperature=0.5, sampler="fed-back"))
    known = set(re.findall(r"\w+", TOPICS["text"]))
    assert len(words) > 10
    assert sum(word in known for word in words) > len(words) / 2


@pytest.mark.parametrize("words", WITHOUT, ids=" ".join)
def test_a_shell_command_is_done(
    words: list[str], folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO("s\nq\n"))
    assert main(words) == 0
    assert capsys.readouterr().err == ""
    written = [word for word in words if word.endswith((".json", ".npz", ".svg", ".html"))]
    assert all((folder / name).stat().st_size for name in written)


def test_a_shell_command_opens_the_screen(folder: Path) -> None:
    """Without a terminal; one of them in a terminal as well."""
    for words in ON_SCREEN:
        again = "q" * words[-1].endswith(".tui-gru")  # the step is not recorded in someone else's file
        step = "s" * (words not in LESSONS)  # after it, a lesson asks, and takes the next key as an answer
        code, seen = run_without_terminal(*words, keys=f"{step}q{again}")
        assert code == 0
        assert "for epoch in 1" in seen, words
    terminal = Terminal(*ON_SCREEN[0])
    try:
        terminal.wait("for epoch in 1")
        terminal.type("sq")
        assert terminal.wait_for_the_end() == 0
    finally:
        terminal.close()


def test_a_shell_command_serves(folder: Path) -> None:
    """An address is printed after a debugger has been tried."""
    for words in SERVED:
        site = Site(*words[1:])
        assert site.token
        assert site.close() == 0


def test_the_configuration_of_a_client_starts_the_tools() -> None:
    (block,) = blocks("json")
    server = json.loads(block)["mcpServers"]["tui-gru"]
    assert [server["command"], *server["args"]] in [["tui-gru", *words] for words in TOOLS]


async def test_the_key_file_binds_its_keys(tmp_path: Path) -> None:
    block, _ = blocks("toml")
    path = tmp_path / "keys.toml"
    path.write_text(block, encoding="utf-8")
    own = configuration.load_keys(path)
    assert own == tomllib.loads(block)["keys"]
    app = make_app(Config.of(), keys=path)
    async with headless(app) as pilot:
        for key in "jjjk":
            await pilot.press(key)
        await until_idle(pilot)
        assert app.session.position.t == 1


def test_the_file_of_the_display_is_read(tmp_path: Path) -> None:
    _, block = blocks("toml")
    path = tmp_path / "config.toml"
    path.write_text(block, encoding="utf-8")
    assert configuration.load_display(path) == configuration.Display("whiteboard", False)


def warned(d: Driver) -> str:
    """Return the warning on the screen."""
    return d.says if d.screen.query_one(BottomLine).warning else ""


async def test_the_commands_are_done(folder: Path) -> None:
    async with driving() as d:
        await d.type("l", "n", "s", "s", "S")  # in the past, so that the edit creates a branch
        # tests/tui/test_rewinding has :again, test_lessons :lesson results, and test_ended_recordings what explains grad_norm.
        # A whole value is supposed, and a unit held at 0, before anything is edited.
        lines = [
            line
            for line in COMMANDS
            if line not in LEARNING and not line.startswith((":again", ":lesson results", ":why grad_norm"))
        ]
        whole = [line for line in lines if re.match(r":what-if (\w+|\w\[(row|unit) \d\]) ", line)]
        silent = [line for line in lines if line.startswith(":silence")]
        for line in [*whole, *silent, ":silence", *(line for line in lines if line not in (*whole, *silent))]:
            execute(d.screen, line)
            await until_idle(d.pilot)
            await d.pilot.pause()
            assert warned(d) == "", line
            if d.pilot.app.screen is not d.screen:  # the help, over the main screen
                await d.type("escape")
    assert (folder / "why.tex").stat().st_size


@OF_ITS_TOPICS
def test_the_story_of_a_run_is_as_it_is_told() -> None:
    page = MANUAL["story"]
    (block,) = [block for block in blocks("python") if block in page]
    every = "".join(topics[key] for key in sorted(topics))
    unseen = "".join(char for char in every[26_000:32_000] if char in set(TOPICS["text"]))
    names: dict[str, Any] = {"topics": TOPICS["text"], "unseen": unseen, "tui_gru": tui_gru}
    exec(block, names)
    session, story, memory, probes = (names[name] for name in ("s", "story", "memory", "probes"))
    losses = np.asarray(story.columns["loss"])
    means = np.convolve(losses, np.ones(20) / 20, "valid")

    def told(pattern: str) -> list[float]:
        (found,) = re.findall(pattern, " ".join(page.split()))
        return [float(number) for number in ([found] if isinstance(found, str) else found)]

    for batch, table in (
        told(r"batch (\d+) \| how often.*?unigram table, ([\d.]+)"),
        told(r"batch (\d+) \| which.*?bigram table, ([\d.]+)"),
    ):
        assert int(np.flatnonzero(means < table)[0]) + 20 == pytest.approx(batch, abs=8)
    held_out = story.of(lambda moment: moment.held_out)
    lowest, at_end, epoch_mean = told(r"is lowest, ([\d.]+); at the end it is ([\d.]+), and that of the epoch ([\d.]+)")
    assert held_out.min() == pytest.approx(lowest, abs=0.05)
    assert held_out[-1] == pytest.approx(at_end, abs=0.08)
    assert held_out[-1] > held_out.min() + 0.05
    epochs = story.epoch_means[1]
    assert epochs[-1] == pytest.approx(epoch_mean, abs=0.05)
    assert epochs[1] == pytest.approx(told(r"the epoch's mean is ([\d.]+)")[0], abs=0.05)
    shares = [share.written(share.name) for share in story.shares]
    by_batch = {moment.batch + 1: dict(zip(shares, moment.shares, strict=True)) for moment in story.moments}
    saturated = told(r"at batch (\d+), (\d+) % of the entries of h")
    assert by_batch[int(saturated[0])]["|h| above 0.8"] == pytest.approx(saturated[1] / 100, abs=0.08)
    assert by_batch[41]["|h| above 0.8"] < 0.02
    closed = told(r"at batch (\d+) it is (\d+) % of them")
    assert by_batch[int(closed[0])]["z below 0.1"] == pytest.approx(closed[1] / 100, abs=0.05)
    assert by_batch[1]["z below 0.1"] == 0
    (finding,) = session.findings(held_out=unseen)
    assert (finding.name, finding.title) == ("overfitting", "the loss on the held-out text has risen again")
    assert finding.first_seen.epoch + 1 == told(r"where it was lowest, in epoch (\d+)\.")[0]
    reach = story.of(lambda moment: float(np.flatnonzero(moment.reach >= moment.reach.max() / 10).max()))
    assert reach[story.batches + 1 == 21] == 2
    assert np.mean(reach[story.batches >= 14 * 203] >= 10) >= 0.9  # the manual says mostly
    for feature, now, before in (
        ("first-letters", *told(r"begins a word with R² ([\d.]+), where it was ([\d.]+) before")),
        ("next-spaces", *told(r"whether a space comes next, ([\d.]+), was ([\d.]+);")),
        ("next-letters", *told(r"whether a letter comes next, ([\d.]+), was ([\d.]+)\.")),
    ):
        assert (probes[feature].r2, probes[feature].before) == (pytest.approx(now, abs=0.08), pytest.approx(before, abs=0.03))
    one, four, eight = told(r"the loss is ([\d.]+), worse.*?with four it is ([\d.]+), with eight ([\d.]+), and with 16")
    assert memory.losses[0] > memory.bigram
    assert [memory.losses[i] for i in (0, 2, 3)] == [pytest.approx(loss, abs=0.15) for loss in (one, four, eight)]
    assert memory.losses[4] == pytest.approx(memory.whole, abs=0.03)
    units = session.units(without=True)
    assert (units.without - units.loss).max() == pytest.approx(told(r"the loss is ([\d.]+) higher")[0], abs=0.08)


def test_the_tutorials_story_is_as_it_is_told() -> None:
    session = tui_gru.Session()
    session.learning = True
    session.step("epoch", 900)
    wrong, right = (session.sample("Ma", 10, sampler=sampler, temperature=0) for sampler in ("tutorial", "fed-back"))
    page = section(MANUAL["story"], "The tutorial's story")
    assert f"“{wrong}”" in page
    assert f"“{right}”" in page
    assert [each.name for each in session.findings()] == ["sampler-without-feedback", "rows-do-not-continue"]


async def test_the_first_walk_is_walked() -> None:
    table = section(README, "A first walk, in ten keystrokes")
    rows = re.findall(r"^\| (`.*?) \|", table, re.MULTILINE)
    assert len(rows) == 8
    async with driving() as d:
        for row in rows:
            for typed in re.findall(r"`([^`]+)`", row):
                keys = ["space" if char == " " else char for char in typed] if typed.startswith(":") else [typed]
                await d.type(*keys)
            assert warned(d) == "", row
        assert d.session.position.epoch == 898
        assert [sample.text for sample in d.session.samples] == ["MathMathMath", "Matttttttttt"]


def test_the_conditions_can_be_run_until() -> None:
    paragraph = section(MANUAL["long-runs"], "Run until something happens")
    conditions = [code for code in re.findall(r"`([^`\n]+)`", paragraph) if re.search(r"[<>=(]", code)]
    assert len(conditions) > 4
    for condition in conditions:
        compile_condition(condition if condition != "prev(x)" else "any(prev(x) > 0)", program_of(Config.of()).spellings)


#: What is done with the session of the first example.
CONTINUED = [block for block in blocks("python") if "tui_gru" not in block]


def test_the_python_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {"path": "walk.tui-gru"}
    (block,) = [block for block in blocks("python") if "tui_gru.Session()" in block]
    exec(block, names)
    for further in CONTINUED:
        exec(further, names)
    assert list(tmp_path.glob("tensorboard-log/events.*"))
    calls = dict.fromkeys(code for code in INLINE if re.match(r"(s|tui_gru)\.[\w.]+\(", code))
    of_numbers = [call for call in calls if "features=" in call]
    for call in of_numbers:
        gru = torch.nn.GRU(2, 3)
        tui_gru.debug(gru, screen=False)
        gru(torch.randn(4, 2, 2))[0].sum().backward()
        eval(call, {"s": tui_gru.debug(gru, screen=False), "speed": torch.randn(4, 2).numpy()})
        del calls[call]
    assert (len(of_numbers), len(calls)) == (1, 20)
    names |= {"tui_gru": tui_gru, "other": tui_gru.Session(hidden_size=3)}
    results = [eval(call, dict(names)) for call in calls]
    (opened,) = [result for result in results if isinstance(result, tui_gru.Session)]
    assert opened.position == names["s"].position


def test_the_python_on_findings_runs() -> None:
    names: dict[str, Any] = {}
    (block,) = [block for block in blocks("python") if "tui_gru.Session(text=" in block]
    exec(block, names)
    found, session = names["found"], names["s"]
    assert (found.name, found.cause) == ("rate-too-large", None)
    assert found.first_seen <= session.position
    best = session.try_cures(found)[0]
    assert best.loss < best.without


CALLBACKS = [block for block in blocks("python") if "Callback)" in block]
TRAINERS = [block for block in blocks("python") if ".Steps(" in block]
OWN = [block for block in blocks("python") if "tui_gru.Session(" not in block and block not in (*CALLBACKS, *TRAINERS, *CONTINUED)]


@pytest.mark.parametrize("block", OWN, ids=[re.findall(r"tui_gru\.(\w+)", block)[0] for block in OWN])
def test_the_python_on_your_own_runs(
    block: str, folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.compiler.reset()  # what another test has compiled; in such a process the loss of a script is not followed
    shutil.rmtree("run.gru")
    monkeypatch.setattr("sys.stdin", None)  # so that no screen is opened
    model = Model()
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    batches = [(torch.randn(5, 2, 4), None) for _ in range(3)]
    names = {"model": model, "optimizer": optimizer, "batches": batches, "loss_of": lambda out, y: out[0].pow(2).mean()}
    script = folder / "script.py"
    script.write_text(block, encoding="utf-8")  # a loop is computed again from its file
    exec(compile(block, str(script), "exec"), names)
    said = capsys.readouterr()
    if "tui_gru.lesson" in block:
        assert block.endswith(f"# {names['lesson'].ask(1, '2.58')}\n")
    elif "Session(input" in block:
        assert float(said.out.split(maxsplit=1)[0]) < 0.25  # half the loss of a prediction that is always 0
    elif "steps(" in block:
        assert said.err == ""
        assert said.out.count("RateTrial") == (7 if "rates" in block else 0)
    elif "load" in block:
        assert "the output is the expected one" in said.out
    elif "diagnose" in block:
        first = names["first"]
        assert (first.name, first.proof, first.tried) == ("softmax-twice", 2, "")
        assert f"# '{first.cause}'" in block
    elif "debug" in block:
        assert len(said.err.splitlines()) == 4
        forget(model)
    else:
        assert tui_gru.Session.open("run.gru").steps == (0,)


def as_lightning_calls(
    callback: Any, model: torch.nn.Module, optimizer: torch.optim.Optimizer, losses: Iterator[torch.Tensor]
) -> None:
    """Call a callback as the Trainer of Lightning 2 does; `losses` trains a step for each."""
    trainer = SimpleNamespace(optimizers=[optimizer])
    callback.on_fit_start(trainer, model)
    for number, loss in enumerate(losses):
        callback.on_train_batch_end(trainer, model, {"loss": loss.detach()}, None, number)
    callback.on_fit_end(trainer, model)


def as_transformers_calls(
    callback: Any, model: torch.nn.Module, optimizer: torch.optim.Optimizer, losses: Iterator[torch.Tensor]
) -> None:
    """Call a callback as the Trainer of transformers does: its optimizer is in a wrapper, and all callbacks get the same names."""
    others = {"model": model, "optimizer": SimpleNamespace(optimizer=optimizer), "lr_scheduler": None, "train_dataloader": None}
    args, state, control = SimpleNamespace(), SimpleNamespace(), SimpleNamespace()
    callback.on_train_begin(args, state, control, **others)
    for _ in losses:
        callback.on_step_end(args, state, control, **others)
    callback.on_train_end(args, state, control, **others)


@pytest.mark.parametrize("package", ["lightning", "transformers"])
def test_the_callbacks_record(package: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The packages are large, so their interfaces stand in for them."""
    monkeypatch.chdir(tmp_path)
    bases = {"lightning": "Callback", "transformers": "TrainerCallback"}
    monkeypatch.setitem(sys.modules, package, SimpleNamespace(**{bases[package]: object}))
    (block,) = [block for block in CALLBACKS if f"import {package}" in block]
    names: dict[str, Any] = {}
    exec(block, names)
    model = Model()
    optimizer = torch.optim.SGD(model.parameters(), 0.1)

    def losses() -> Iterator[torch.Tensor]:
        for _ in range(3):
            optimizer.zero_grad()
            loss = model(torch.randn(5, 2, 4))[0].pow(2).mean()
            loss.backward()
            optimizer.step()
            yield loss

    call = as_lightning_calls if package == "lightning" else as_transformers_calls
    call(names["Recorded"](), model, optimizer, losses())
    recording = open_recording("run.gru")
    assert (recording.total, recording.closed, [step.number for step in recording.steps]) == (3, True, [0])
    assert (recording.steps[0].loss is not None) == (package == "lightning")
    assert recording.load(0).updated


@pytest.mark.parametrize("block", TRAINERS, ids=["lightning", "transformers"])
def test_the_callbacks_of_trainers_are_made(block: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """tests/rewind/test_trainers.py lets them run."""

    def trainer(*arguments: Any, callbacks: Any) -> Any:
        return SimpleNamespace(callbacks=callbacks)

    lightning = SimpleNamespace(Callback=type("Callback", (), {}), Trainer=trainer)
    others = {"lightning": lightning, "lightning.pytorch": lightning}
    others["transformers"] = SimpleNamespace(TrainerCallback=type("TrainerCallback", (), {}), Trainer=trainer)
    for name, module in others.items():
        monkeypatch.setitem(sys.modules, name, module)
    names: dict[str, Any] = {"model": None}
    try:
        exec(block, names)
    finally:
        for name in ("lightning", "transformers"):
            sys.modules.pop(f"tui_gru.{name}", None)
            vars(tui_gru).pop(name, None)
    (steps,) = names["trainer"].callbacks
    assert steps.run.step == 0


def test_the_benchmarks_are_there() -> None:
    named = re.search(r"`python -m (tests\.benchmarks)\.(\w+)`, ((?:`\.\w+`(?:,\s)?)+)", MANUAL["measured"])
    assert named is not None
    for name in [named[2], *re.findall(r"\.(\w+)", named[3])]:
        assert (ROOT / named[1].replace(".", "/") / f"{name}.py").exists()


LINK = re.compile(r"(!?)\[([^]\n]*)\]\(([^)\s]+)\)")


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.name)
def test_links_lead_to_files_and_headings(path: Path) -> None:
    """A page is reached from the README and from the table of pages, and pictures are those of the folder."""
    for picture, words, target in LINK.findall(FENCED.sub("", path.read_text(encoding="utf-8"))):
        assert words, target
        if target.startswith("https://"):
            continue
        file = (path.parent / target).resolve()
        assert file.is_file(), target
        assert not picture or file.parent == ROOT / "screenshots"
    assert set(PATHS[1:]) == set(PATHS[1].parent.glob("*.md"))
    if path.name not in ("README.md", "contents.md"):
        title = path.read_text(encoding="utf-8").partition("\n")[0].removeprefix("# ")
        assert f"[{title}](tui_gru/manual/{path.name})" in README
        assert f"[{title}]({path.name})" in MANUAL["contents"]


@pytest.mark.parametrize("name", sorted(set(re.findall(r"[\w/-]+/[\w-]+\.(?:py|md|cell|update)\b|pyproject\.toml", BUILT))))
def test_a_file_of_the_structure_exists(name: str) -> None:
    assert any((top / name).is_file() for top in (ROOT, ROOT / "tui_gru"))


def test_the_table_of_folders_is_complete_and_in_the_order_of_imports() -> None:
    rows = re.findall(r"^\| `tui_gru/(\w+)` \| (.*) \|$", BUILT, re.MULTILINE)
    assert {name for name, _ in rows} == folders(ROOT / "tui_gru")
    for name, words in rows:
        assert folders(ROOT / "tui_gru" / name) <= set(re.findall(r"`(\w+)`", words)), name
    (contract, *_) = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["importlinter"]["contracts"]
    heights = {name: -i for i, layer in enumerate(contract["layers"]) for name in layer.split(" : ")}
    order = [heights[name] for name, _ in rows if name not in contract["exhaustive_ignores"]]
    assert order == sorted(order)


def folders(path: Path) -> set[str]:
    return {each.name for each in path.iterdir() if each.is_dir() and not each.name.startswith("_")}


def way(heading: str) -> list[tuple[str, str]]:
    """Return the files with their functions or classes in the table below a heading."""
    return re.findall(r"^\| `([\w/.-]+)` \| `([\w.]+)` \|", section(BUILT, heading), re.MULTILINE)


async def test_a_key_goes_the_way_that_is_described() -> None:
    """The functions are called in this order, with others between them; the verb's row names the step."""
    steps = way("The way of a key")
    assert len(steps) > 15
    called = iter(await way_of("n", "n", "s"))
    passed = [step for step in steps if step in called]
    assert passed == steps
    assert BY_ID["step.timestep"].do == ("timestep", 1)


@pytest.mark.parametrize(("file", "name"), way("The way of a weight"))
def test_a_file_on_the_way_of_a_weight_defines_what_it_should(file: str, name: str) -> None:
    text = (ROOT / "tui_gru" / file).read_text(encoding="utf-8")
    if not file.endswith(".py"):
        assert re.search(rf"\b{name}\b", text)
        return
    defined = {node.name for node in ast.parse(text).body if isinstance(node, (ast.FunctionDef, ast.ClassDef))}
    assert name in defined


@pytest.mark.parametrize("line", DEVELOPING)
def test_a_command_for_who_changes_the_project_names_what_is_there(line: str) -> None:
    words = [word for word in shlex.split(line, comments=True) if word != "&&"]
    assert words[0] == "python" or f"{words[0].replace('lint-imports', 'import-linter')}>=" in (ROOT / "pyproject.toml").read_text()
    for before, word in itertools.pairwise(words):
        if before == "-m" and words[0] == "python":
            assert importlib.util.find_spec(word)
        assert not word.endswith(".py") or (ROOT / word).is_file()
