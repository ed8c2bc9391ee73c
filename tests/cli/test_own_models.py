"""The commands on model files: inspect, open, and trace --model."""

import json
import os
import shlex
import subprocess
import sys
import textwrap

import numpy as np
import onnx
import pytest
import torch
from safetensors.torch import save_file

from tests.files.onnx_models import gru_model
from tests.terminal import Terminal
from tests.without_terminal import run_without_terminal
from tui_gru.imported.inspect import inspect, lines_of_python


@pytest.fixture
def model(tmp_path):
    """A file with two GRUs, an LSTM that is refused, an input for the first, and its output."""
    torch.manual_seed(2)
    modules = {"encoder": torch.nn.GRU(3, 4, bidirectional=True), "decoder": torch.nn.GRU(3, 4)}
    modules["other"] = torch.nn.LSTM(3, 4, proj_size=2)
    save_file(torch.nn.ModuleDict(modules).state_dict(), tmp_path / "model.safetensors")
    x = torch.randn(5, 2, 3)
    y, _ = modules["encoder"](x)
    np.save(tmp_path / "x.npy", x.numpy())
    np.save(tmp_path / "y.npy", y.detach().numpy())
    return tmp_path / "model.safetensors", tmp_path / "x.npy", tmp_path / "y.npy"


def test_inspect_lists_what_is_in_a_file(run, model):
    code, out, err = run("inspect", model[0])
    assert (code, err) == (0, "")
    lines = out.splitlines()
    assert lines[0] == "decoder"
    assert lines[5] == "  GRU, 1 layer, both directions, 3 inputs, 4 units, float32, safetensors"
    assert lines[6] == "  gates r z n, reset after, z keeps, sigmoid; biases: two"
    assert lines[7].startswith("  known by: ")
    assert lines[lines.index("") - 1].startswith(
        "not opened: other: it is an LSTM with a projection (proj_size), which is not supported"
    )
    assert "reset before" in run("inspect", model[0], "--reset", "before")[1]


class Loop(torch.nn.Module):
    """A model that calls a cell once a timestep."""

    def __init__(self, cell):
        super().__init__()
        self.cell = cell

    def forward(self, x):
        state = None
        for each in x:
            state = self.cell(each, state)


class Square(torch.nn.Module):
    """A hand-written GRU."""

    def __init__(self):
        super().__init__()
        self.x2h, self.h2h = torch.nn.Linear(3, 12), torch.nn.Linear(4, 12)

    def forward(self, x, h):
        h = torch.zeros(len(x), 4) if h is None else h
        (a, b, c), (d, e, f) = self.x2h(x).chunk(3, 1), self.h2h(h).chunk(3, 1)
        return torch.sigmoid(b + e) * h + torch.sigmoid(-b - e) * torch.tanh(c + torch.sigmoid(a + d) * f)


MODELS = {
    "batch first, both directions": lambda: torch.nn.ModuleDict(
        {"rnn": torch.nn.GRU(3, 4, 2, batch_first=True, bidirectional=True)}
    ),
    "time first": lambda: torch.nn.ModuleDict({"rnn": torch.nn.LSTM(3, 4)}),
    "the module itself": lambda: torch.nn.GRU(3, 4),
    "a loop of a cell": lambda: Loop(torch.nn.LSTMCell(3, 4)),
    "a loop of a hand-written cell": lambda: Loop(Square()),
}


@pytest.mark.parametrize("name", MODELS)
def test_the_lines_of_python_write_what_check_compares(run, tmp_path, monkeypatch, name):
    torch.manual_seed(5)
    model, path = MODELS[name](), tmp_path / "m.pt"
    torch.save(model.state_dict(), path)
    if isinstance(model, torch.nn.ModuleDict):
        model.forward = lambda x: model["rnn"](x)
    out = run("inspect", path)[1]
    assert_the_lines_work(run, out, tmp_path, monkeypatch, {"model": model, "batch": torch.randn(6, 2, 3)})


def test_check_says_what_explains_another_output(run, tmp_path):
    torch.manual_seed(5)
    module, x = torch.nn.GRU(3, 4, batch_first=True), torch.randn(6, 2, 3)  # rows, timesteps
    torch.save(module.state_dict(), tmp_path / "m.pt")
    y = module(x)[0].detach().numpy()
    cases = (
        (x.numpy(), y, "the batch and time axes are swapped: set batch_first=True in the module, or pass X.swapaxes(0, 1)"),
        (np.full((6, 2, 3), np.nan, np.float32), y, "x is NaN in batch 1 of epoch 1: look for it in the data"),
    )
    for inputs, expected, why in cases:
        np.save(tmp_path / "x.npy", inputs)
        np.save(tmp_path / "y.npy", expected)
        code, out, err = run("check", tmp_path / "m.pt", "--input", tmp_path / "x.npy", "--expect", tmp_path / "y.npy")
        assert (code, err) == (1, "")
        assert why in out
    np.savez(tmp_path / "x.npz", x=x.numpy())
    code, _, err = run("check", tmp_path / "m.pt", "--input", tmp_path / "x.npz", "--expect", tmp_path / "y.npy")
    assert code == 2
    assert "x.npz: it is not an array written by numpy.save: it is a zip of arrays (npz)" in err


def assert_the_lines_work(run, out, folder, monkeypatch, names):
    """Run the lines of Python that inspect has printed, and then the command."""
    monkeypatch.chdir(folder)
    exec("\n".join(line[2:] for line in out.split("\n\n")[1].splitlines()[1:-1]), names)
    command = shlex.split(out.splitlines()[-1].removeprefix("and then: tui-gru "))
    code, compared, err = run(*command)
    assert (code, err) == (0, ""), compared


def test_the_lines_of_python_of_an_onnx_model(run, tmp_path, monkeypatch, random):
    onnx.save(gru_model(random, directions=2, direction="bidirectional"), tmp_path / "m.onnx")
    out = run("inspect", tmp_path / "m.onnx")[1]
    assert_the_lines_work(run, out, tmp_path, monkeypatch, {"batch": random.normal(size=(5, 2, 3)).astype(np.float32)})


KERAS_MODELS = """
from keras import Input, Model, Sequential
from keras.layers import *
of = lambda *layers: Sequential([Input((5, 3)), *layers])
words = lambda *layers: Sequential([Input((None,), dtype="int64"), Embedding(9, 3, mask_zero=True), *layers, Dense(2)])
x, e, d = Input((5, 3)), Input((None, 3)), Input((None, 2))
_, h, c = LSTM(4, return_state=True, name="enc")(e)
MODELS = {
    "last": of(GRU(4, name="rnn"), Dense(2)),
    "masked": words(GRU(4, name="rnn")),
    "both": words(Bidirectional(LSTM(4), name="rnn")),
    "sum": of(Bidirectional(GRU(4, return_sequences=True), merge_mode="sum", name="rnn")),
    "backwards": of(GRU(4, go_backwards=True, name="rnn")),
    "second": of(GRU(5, return_sequences=True, dropout=0.5), GRU(4, return_state=True, name="rnn")),
    "cells": of(RNN([GRUCell(4), GRUCell(5, name="upper")], name="rnn")),
    "stateful": Sequential([Input((5, 3), batch_size=2), LSTM(4, stateful=True, name="rnn")]),
    "nested": Model(x, Dense(2)(of(SimpleRNN(4, return_sequences=True, name="rnn"))(x))),
    "decoder": Model([e, d], LSTM(4, name="rnn")(d, initial_state=[h, c])),
}
"""


def test_the_lines_of_python_of_keras_models(run, tmp_path):
    """Keras runs in a process of its own, since its backend is chosen when it is imported."""
    in_keras(f"{KERAS_MODELS}\nfor name, model in MODELS.items(): model.save(name + '.keras')", tmp_path)
    program = [
        "import os, numpy as np",
        "r = np.random.default_rng(4)",
        "ids, rows = r.integers(0, 9, (2, 5)), r.random((2, 5, 3))",
        "batches = {'masked': ids, 'both': ids, 'decoder': [rows, r.random((2, 6, 2))]}",
    ]
    commands = {}
    for path in sorted(tmp_path.glob("*.keras")):
        name = {"cells": "rnn/upper"}.get(path.stem, "rnn")
        found = next(gru for gru in inspect(path) if gru.name == name)
        program += [f"batch = batches.get({path.stem!r}, rows)", *lines_of_python(found)]
        program += [f"os.rename('{letter}.npy', '{path.stem}-{letter}.npy')" for letter in "xy"]
        arrays = (f"--{option}={tmp_path / path.stem}-{letter}.npy" for option, letter in (("input", "x"), ("expect", "y")))
        commands[path.stem] = [path, "--name", name, *arrays]
    in_keras("\n".join(program), tmp_path)
    assert len(commands) == 10
    for name, command in commands.items():
        code, compared, err = run("check", *command)
        assert (code, err) == (0, ""), (name, compared)


def test_the_lines_of_python_of_a_file_with_weights_alone_load_them_into_the_model(run, tmp_path):
    made = "import keras; keras.Sequential([keras.Input((5, 3)), keras.layers.GRU(4)]).save_weights('m.weights.h5')"
    in_keras(made, tmp_path)
    assert "  model.load_weights('m.weights.h5')\n" in run("inspect", tmp_path / "m.weights.h5")[1]


def in_keras(code, folder):
    environment = {**os.environ, "KERAS_BACKEND": "torch"}
    subprocess.run([sys.executable, "-c", textwrap.dedent(code)], check=True, cwd=folder, env=environment, capture_output=True)


def test_trace_writes_the_states(run, model, tmp_path):
    path, x, y = model
    code, out, err = run("trace", "--model", path, "--name", "encoder", "--input", x)
    assert (code, err) == (0, "")
    trace = json.loads(out)
    assert trace["config"] == {"model": "encoder of model.safetensors", "dtype": "float32", "H": 4, "B": 2, "T": 5, "I": 3}
    (batch,) = trace["batches"]
    assert "loss" not in batch
    ours = np.array([step["out_l0"] for step in batch["timesteps"]])
    assert np.abs(ours - np.load(y)).max() < 5e-7
    assert run("trace", "--model", path, "--name", "encoder", "--input", x, "--format", "npz", "-o", tmp_path / "s.npz")[0] == 0
    with np.load(tmp_path / "s.npz") as arrays:
        assert np.abs(arrays["timesteps/h_l0_reverse"][0] - np.load(y)[..., 4:]).max() < 5e-7
    before = json.loads(run("trace", "--model", path, "--name", "decoder", "--input", x, "--reset", "before")[1])
    assert "bhn" not in before["initial_parameters"]


def test_open_stands_in_it(model):
    path, x, y = model
    terminal = Terminal("open", str(path), "--name", "encoder", "--input", str(x), "--expect", str(y))
    try:
        terminal.wait("encoder of model.safetensors")
        terminal.wait("the output is the expected one")
        terminal.type("sssq")
        assert terminal.wait_for_the_end() == 0
    finally:
        terminal.close()


MISTAKES = {
    "a foreign file": (("inspect", "x.npy"), "x.npy: it is one array of NumPy"),
    "no file": (("open", "nothing.pt"), "nothing.pt: it cannot be opened: no such file or directory; check the name"),
    "no name": (("open", "model.safetensors"), "--name: "),
    "another width": (
        ("trace", "--model", "model.safetensors", "--name", "decoder", "--input", "y.npy"),
        "--input: the inputs have",
    ),
    "a text as well": (("trace", "--model", "model.safetensors", "--text", "abc"), "--text: it cannot be used with --model"),
    "no model": (
        ("trace", "--input", "x.npy"),
        "--input: it applies to a model file; name the file with --model, or",
    ),
    "training": (("trace", "--model", "model.safetensors", "--name", "decoder", "--learn"), "--learn: with --model the states"),
    "epochs": (
        ("trace", "--model", "model.safetensors", "--name", "decoder", "--epochs", "2"),
        "--epochs: with --model the states",
    ),
    "no file to trace": (("trace", "--model", "nothing.pt"), "--model: nothing.pt: it cannot be opened: no such file"),
    "no such order": (("open", "model.safetensors", "--order", "abc"), "--order is 'abc'"),
    "no terminal": (("open", "model.safetensors", "--name", "decoder"), "standard input is not a terminal"),
}


@pytest.mark.parametrize("what", MISTAKES)
def test_a_mistake_is_said_in_one_line(run, model, monkeypatch, what):
    arguments, reason = MISTAKES[what]
    monkeypatch.chdir(model[0].parent)
    code, out, err = run(*arguments)
    assert (code, out) == (2, "")
    assert err.count("\n") == 1
    assert reason in err


@pytest.fixture
def language_model(tmp_path):
    """A file with an embedding, a GRU and a head for four tokens, and files of token ids and of the tokens."""
    torch.manual_seed(3)
    parts = {"embed": torch.nn.Embedding(4, 3), "rnn": torch.nn.GRU(3, 5), "fc": torch.nn.Linear(5, 4)}
    torch.save(torch.nn.ModuleDict(parts).state_dict(), tmp_path / "m.pt")
    np.save(tmp_path / "ids.npy", np.arange(20) % 4)
    (tmp_path / "words.txt").write_text("the\ncat\nsat\ndown\n")
    return tmp_path


CHARACTERS = ("--text", "MathMathMathMath", "--vocabulary", "hatM")
IDS = ("--input", "ids.npy", "--tokens", "words.txt")


@pytest.mark.parametrize(("given", "shown"), [(CHARACTERS, "M→a a→t t→h"), (IDS, "the→cat cat→sat sat→down")])
def test_open_goes_on_to_predictions(language_model, monkeypatch, given, shown):
    monkeypatch.chdir(language_model)
    words = ("open", "m.pt", "--head", "fc", "--embedding", "embed", *given, "--seq-length", "3")
    code, seen = run_without_terminal(*words, keys="lnnq")
    assert code == 0
    assert "training loop" in seen
    assert shown in " ".join(seen.split())  # the first row of the sequence


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        (("--text", "the cow"), "--text: no token of the vocabulary begins at character 5"),
        (("--text", "the cat", "--vocabulary", "abcd"), "--tokens and vocabulary are both given"),
        (("--text", "the cat", "--input", "ids.npy"), "--input: inputs and text are both given"),
        (("--input", "none.npy"), "--input: none.npy"),
        (("--input", "ids.npy", "--batch-size", "9", "--seq-length", "3"), "the text has 20 tokens; 9 rows of 3 timesteps need 28"),
    ],
)
def test_a_mistake_about_tokens_is_said_in_one_line(run, language_model, monkeypatch, given, reason):
    monkeypatch.chdir(language_model)
    code, out, err = run("open", "m.pt", "--head", "fc", "--embedding", "embed", "--tokens", "words.txt", *given)
    assert (code, out) == (2, "")
    assert err.count("\n") == 1
    assert reason in err


def test_a_script_stands_still_until_q(tmp_path):
    script = tmp_path / "train.py"
    script.write_text(
        "import torch, tui_gru\n"
        "gru = torch.nn.GRU(3, 4)\n"
        "for step in range(3):\n"
        "    gru.zero_grad()\n"
        "    gru(torch.randn(5, 2, 3))[0].sum().backward()\n"
        "    tui_gru.debug(gru)\n"
        "    print('went on after step', step)\n"
    )
    terminal = Terminal(program=[sys.executable, str(script)])
    try:
        terminal.wait("went on after step 0")
        for step in (1, 2):
            terminal.wait("forward and backward")
            terminal.wait("p.grad is the derived gradient")
            terminal.type("ssq")
            terminal.wait(f"went on after step {step}")
        assert terminal.wait_for_the_end() == 0
    finally:
        terminal.close()
