"""What a script that uses the package may write: read by `mypy --strict`, with what is wrong at the right lines."""

import inspect
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

import tui_gru

ROOT = Path(__file__).parents[1]
RIGHT = """
from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

import tui_gru
from tui_gru import Finding, FoundGRU, Level, Options, Position, Recorder, Sample, Session

options: Options = {"hidden_size": 4, "carry": "reset"}
s = tui_gru.Session(
    text="MathMathMathMathMath", vocabulary="hatM", hidden_size=np.int64(2), batch_size=2, seq_length=3, seed=1, learning_rate=0.01,
    carry="notebook", dtype="float64", cell="my.cell", layers=1, bidirectional=False, embedding=0, optimizer="rms.update", clip=1.0,
    init="torch", layout="contiguous", reset="after", epochs=3, history_memory=2**20,
)
s = Session(**options)
s = tui_gru.Session(text=("a", "b", "a"), vocabulary=["a", "b"])
s.learning = True
level: Level = "line"
place: Position = s.step(level)
for each in ("op", "timestep", "phase", "batch", "epoch"):
    place = s.step("batch", -1)
place = s.seek("e3 b2 t1")
where: tuple[int, int, int | None, str] = place.epoch, place.batch, place.t, place.phase
before: bool = place < s.seek(place)
place = s.sgd()
found: bool = s.run_until("loss < 0.5") or s.run_back_until("loss > 1")
total = float(s.value("z").sum() + s.parameter("Wz").sum())
gradient = s.gradient("Wz")
if gradient is not None and s.loss is not None:
    total += float(gradient.sum()) + s.loss
text: str = s.sample("Ma", 10, sampler="tutorial", temperature=0, seed=1)
samples: tuple[Sample, ...] = s.samples
s.edit("Wz", (0, 1), 0.5)
undone: bool = s.undo() and s.redo()
names: tuple[str, ...] = s.branches + (s.branch,) + s.parameter_names
findings: tuple[Finding, ...] = s.findings()
words: str = findings[0].title + str(s.explain("h", (0, 1)).terms[0]) + s.program_text()
s.save(Path("walk.tui-gru"))
s = tui_gru.Session.open("walk.tui-gru")
try:
    grus: list[FoundGRU] = tui_gru.inspect("model.pt", reset="before", z="takes", gate="hard_sigmoid")
except tui_gru.TuiGruError as error:
    option: str | None = error.option
s = tui_gru.load("model.pt", grus[0].name, inputs=np.zeros((3, 2, 1)), z="keeps", order="rzn")
s = tui_gru.load("chars.pt", head="fc", text="abcabc", vocabulary="abc", seq_length=2, carry="reset")
model = torch.nn.GRU(3, 4)
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
paused: Session | None = tui_gru.debug(model, optimizer, screen=False)
with tui_gru.record("run.gru", model, optimizer, every=10, last=2) as rec:
    recorder: Recorder = rec
    rec.step(0.5)
version: str = tui_gru.__version__
"""
# A mistake a line, with what mypy says of it.
WRONG = {
    'tui_gru.Session(hiden_size=3)': "hiden_size",
    'tui_gru.Session(hidden_size="3")': "hidden_size",
    'tui_gru.Session(carry="detached")': "carry",
    'tui_gru.Session(dtype="float16")': "dtype",
    'tui_gru.Session(text=3)': "text",
    'tui_gru.Session().step("lines")': "step",
    'tui_gru.Session().step("batch", "3")': "step",
    'tui_gru.Session().sample("Ma", sampler="best")': "sampler",
    'tui_gru.Session().seek(None)': "seek",
    'tui_gru.Session().nothing()': "nothing",
    'tui_gru.load("model.pt", z="gives")': "z",
    'tui_gru.load("model.pt", hidden_siz=2)': "hidden_siz",
    'tui_gru.inspect("model.pt", gate="tanh")': "gate",
    'tui_gru.debug("model")': "debug",
    'tui_gru.record("run.gru", None)': "record",
    'place: str = tui_gru.Session().position': "Position",
    'tui_gru.nothing': "nothing",
}  # fmt: skip


@pytest.fixture(scope="module")
def said(tmp_path_factory):
    """What mypy says of both scripts, by script and line. They are read in one run, which takes most of its time for torch."""
    folder = tmp_path_factory.mktemp("scripts")
    (folder / "right.py").write_text(RIGHT, encoding="utf-8")
    (folder / "wrong.py").write_text("import tui_gru\n" + "\n".join(WRONG) + "\n", encoding="utf-8")
    command = [sys.executable, "-m", "mypy", "--strict", "--no-error-summary", str(folder / "right.py"), str(folder / "wrong.py")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.stderr == ""
    found = [re.fullmatch(r".*?(\w+)\.py:(\d+): error: (.*)", line) for line in done.stdout.splitlines()]
    return [(match[1], int(match[2]), match[3]) for match in found if match]


def test_a_right_script_has_no_errors(said):
    assert [each for each in said if each[0] == "right"] == []


def test_every_mistake_is_found_at_its_line(said):
    of = {line: words for script, line, words in said if script == "wrong"}
    assert set(of) == set(range(2, len(WRONG) + 2))
    assert [(code, of[line]) for line, (code, named) in enumerate(WRONG.items(), 2) if named not in of[line]] == []


def test_every_public_name_is_there_and_says_what_it_is():
    assert sorted(tui_gru.__all__) == sorted({*tui_gru.__all__})
    for name in tui_gru.__all__:
        public = getattr(tui_gru, name)
        assert name in ("Level", "__version__") or inspect.getdoc(public), name
    assert set(tui_gru.__all__) <= set(dir(tui_gru))


def test_the_levels_are_those_that_a_session_takes():
    session = tui_gru.Session()
    for level in tui_gru.Level.__args__:
        assert session.step(level).tick > 0
        assert session.step(level, -1).tick == 0
    line = session.step("line", 2)
    session.step("op", -2)
    assert session.step("op", 2) == line


def test_every_public_object_says_in_a_line_what_it_is(tmp_path):
    session = tui_gru.Session()
    at_the_start = repr(session)
    session.learning = True
    session.step("batch", 2)
    session.sample("Ma", 5)
    module = torch.nn.GRU(3, 4, num_layers=2)
    torch.save({"encoder": module}["encoder"].state_dict(), tmp_path / "model.pt")
    (gru,) = tui_gru.inspect(tmp_path / "model.pt")
    said = [
        (at_the_start, "<Session on gru (V 4 H 2 B 2 T 3): at the start, on main>"),
        (session, "<Session on gru (V 4 H 2 B 2 T 3): epoch 1, batch 2, t 3, update, on main, loss 1.41573>"),
        (session.position, "Position(tick=204, epoch=0, batch=1, t=2, phase='update')"),
        (session.config, "Config()"),
        (tui_gru.Config.of(hidden_size=3, text="MathMathMathMathMath"), "Config(hidden_size=3)"),
        (session.explain("h", (0, 1)), "<h[row 1, unit 2] = -0.90502"),
        (session.samples[0], "<sample 'Ma"),
        (session.findings()[0], "<finding rows-do-not-continue: rows do not continue where they ended"),
        (session.check(), "<check of batch 2 of epoch 1: all 47 arrays agree: "),
        (session.what_if("Wz", (0, 1), 0.5), "<what if Wz[0, 1] were 0.5, not 0.267031: the loss 1.41425, not 1.41573>"),
        (
            session.summary("Wz"),
            "<summary of 8 entries from -1.523 to 0.6617, mean -0.01859: 0 saturated, 1 near",
        ),
        (session.units("h"), "<h over a text: 20 characters, 2 units>"),
        (session.units("h", row=1), "<h over row 2: 3 characters, 2 units>"),
        (session.influence(0, 1), "<influence of 6 inputs of row 1 on the prediction after input 5>"),
        (session.influence_of_rows(0, 1), "<influence of 2 rows on row 1: 0 from others>"),
        (session.losses(), "<losses of 6 characters, mean 1.41573 nats>"),
        (session.report(), "<report on a run: 1 finding, 3 samples>"),
        (session.state, "<state at tick 204 on main of Config()>"),
        (session.snapshot(), "<snapshot at Position(tick=204, "),
        (session.program, "<program of GRU, the reset gate before the product"),
        (gru, "<GRU '"),
    ]
    for public, words in said:
        written = public if isinstance(public, str) else repr(public)
        assert written.startswith(words)
        assert len(written) < 250
        assert "\n" not in written
    assert repr(gru).endswith(" of model.pt: 2 layers, forward, 3 inputs, 4 units; reset after, z keeps, sigmoid>")
    with tui_gru.record(tmp_path / "run.gru", module, every=10, last=2) as recorder:
        assert repr(recorder).endswith("run.gru: every 10, last 2, on 'nan or loss > 3*mean(loss)'; 0 steps written>")
    loaded = tui_gru.load(tmp_path / "model.pt", inputs=np.zeros((5, 2, 3)))
    assert repr(loaded) == "<Session on gru-reset-after (H 4 B 2 T 5 I 3): at the start, on main>"
    assert repr(loaded.config) == f"<config of {gru.name} of model.pt: 1 batch of 5 timesteps>"
    assert repr(session.explain("h", (0, 1)).derivation).startswith("<sum of <")
    long = tui_gru.Session(text="abcab" * 5000, hidden_size=2, batch_size=2, seq_length=3)
    assert len(repr(long.config)) < 200
