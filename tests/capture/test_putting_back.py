"""A closed capture leaves no traces in the module, and copies of the module have no hooks."""

import copy
import io
import pickle
import subprocess
import sys
import warnings

import pytest
import torch
from torch import nn
from torch.optim.optimizer import _global_optimizer_post_hooks, register_optimizer_step_post_hook

import tui_gru
from tests.capture.scripts import IN, B, H, Model, Seq2seq, T
from tests.capture.test_borders import capture, forward, sgd
from tui_gru.capture.hooks import Capture
from tui_gru.errors import CaptureError


def hooks(*modules):
    return [
        (name, len(value))
        for module in modules
        for part in module.modules()
        for name, value in vars(part).items()
        if "hooks" in name and value
    ]


def test_every_hook_is_taken_off():
    model, optimizer = Seq2seq(), None
    nn.utils.parametrizations.weight_norm(model.cell, "weight_hh")
    optimizer = sgd(model)
    before = hooks(model)
    out = []
    with Capture(model, optimizer, head=model.head):
        assert len(hooks(model)) > len(before)
        out.append(model.encoder(torch.randn(T, B, IN))[0])
    assert hooks(model) == before
    assert not optimizer._optimizer_step_pre_hooks
    assert not optimizer._optimizer_step_post_hooks
    assert not out[0]._backward_hooks
    out[0].sum().backward()


def test_a_capture_that_ends_with_an_error_of_the_script_is_closed():
    model = Model()
    with pytest.raises(RuntimeError, match="of the script"), Capture(model, sgd(model)):
        raise RuntimeError("of the script")
    assert hooks(model) == []


@pytest.mark.parametrize("options", [{}, {"num_layers": 2, "dropout": 0.5}])
def test_a_call_that_raises_is_none(options):
    model = Model(**options)
    steps, running = capture(model)
    with pytest.raises(RuntimeError):
        model.rnn(torch.randn(T, B, IN + 1))
    forward(model).backward()
    running.step()
    assert len(steps[0].calls) == 1


def test_a_parametrized_cell_that_raises_leaves_no_cache_behind():
    cell = nn.GRUCell(IN, H)
    nn.utils.parametrizations.weight_norm(cell, "weight_hh")
    with Capture(cell), pytest.raises(RuntimeError):
        cell(torch.randn(B, IN + 1))
    assert nn.utils.parametrize._cache_enabled == 0
    assert nn.utils.parametrize._cache == {}


def pickled(model):
    return pickle.loads(pickle.dumps(model))


def plain():
    return Model(num_layers=2, dropout=0.1)


def cell():
    return Seq2seq()


def parametrized():
    model = Model()
    nn.utils.parametrizations.weight_norm(model.rnn, "weight_hh_l0")
    return model


@pytest.mark.parametrize(
    ("make", "duplicate"),
    [(plain, copy.deepcopy), (plain, pickled), (cell, copy.deepcopy), (cell, pickled), (parametrized, copy.deepcopy)],
)
def test_a_copy_of_the_module_is_not_captured(make, duplicate):
    model = make()
    before = hooks(model)
    steps, running = capture(model, head=model.head)
    twin = duplicate(model)
    for each in (twin, duplicate(twin)):
        each(torch.randn(T, B, IN))
    if make is not parametrized:  # which copies its attributes itself; those hooks do nothing
        assert hooks(twin) == []
        assert not any("__reduce_ex__" in vars(part) for part in twin.modules())
    running.close()
    assert steps == []
    assert hooks(model) == before
    assert not any("__reduce_ex__" in vars(part) for part in model.modules())


def test_hooks_of_the_script_stay_in_a_copy():
    model = Model()
    model.rnn.register_forward_hook(print)
    with Capture(model):
        twin = copy.deepcopy(model)
    assert list(twin.rnn._forward_hooks.values()) == [print]


def test_one_of_two_captures_goes_on_without_a_trace_in_copies():
    model = Model()
    first, second = Capture(model), Capture(model)
    first.close()
    assert hooks(copy.deepcopy(model)) == []
    second.close()
    assert hooks(model) == []


def test_a_module_saved_whole_is_loaded_without_this_package_and_as_weights_only(tmp_path):
    """The word language model of PyTorch's examples saves its best model whole."""
    model = nn.GRU(IN, H)
    with Capture(model):
        torch.save(model, tmp_path / "model.pt")
    with torch.serialization.safe_globals([nn.GRU]):
        loaded = torch.load(tmp_path / "model.pt", weights_only=True)
    assert hooks(loaded) == []
    code = (
        "import sys; sys.modules['tui_gru'] = None\nimport torch\n"
        f"model = torch.load({str(tmp_path / 'model.pt')!r}, weights_only=False)\n"
        f"print(model(torch.zeros(2, 1, {IN}))[0].shape)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path, timeout=120)
    assert done.stdout.strip() == f"torch.Size([2, 1, {H}])", done.stderr


@pytest.mark.parametrize("where", ["pending_call", "PendingCall.add", "Parameters.all_gradients", "PendingCall.frozen"])
def test_a_failure_of_the_capture_is_a_warning_and_the_training_goes_on(monkeypatch, where):
    def fail(*args, **options):
        raise MemoryError(f"no memory in {where}")

    model = Model()
    optimizer = sgd(model)
    steps, running = capture(model, optimizer)
    monkeypatch.setattr(f"tui_gru.capture.hooks.{where}", fail)
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        for _ in range(3):
            forward(model).backward()
            optimizer.step()
            running.step()
        running.close()
    assert [str(one.message) for one in said] == [
        f"tui_gru could not capture a call (MemoryError: no memory in {where}); training continues without it"
    ]
    assert [step.number for step in steps] == [0, 1, 2]
    assert hooks(model) == []


def test_the_state_of_the_module_is_not_changed():
    model = Model()
    names = list(model.state_dict())
    with Capture(model):
        assert list(model.state_dict()) == names
        buffer = io.BytesIO()
        torch.save(model.state_dict(), buffer)


class ConvGRUCell(nn.Module):
    def __init__(self):
        super().__init__()
        self.gates, self.new = nn.Conv2d(5, 6, 3, padding=1), nn.Conv2d(5, 3, 3, padding=1)


class OneLayer(nn.Module):
    def __init__(self, rnn):
        super().__init__()
        self.rnn, self.head = rnn, nn.Linear(3, 2)

    def forward(self, x):
        return self.head(self.rnn(x)[0])


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: nn.Linear(2, 3), r"there is no torch\.nn\.GRU, LSTM, RNN or cell of them in Linear; give a module that has one"),
        (
            lambda: nn.Sequential(nn.Linear(2, 2), nn.LSTM(2, 3, proj_size=1)),
            r"in Sequential: 1 has a projection \(proj_size 1\), which cannot be shown; give a module that has one",
        ),
        (
            lambda: OneLayer(torch.jit.script(nn.GRU(2, 3))),
            r"in OneLayer: rnn is GRU, compiled by TorchScript; run the script with PYTORCH_JIT=0, so that it is computed",
        ),
        (
            lambda: nn.Sequential(ConvGRUCell()),
            r"in Sequential: the gates of 0 \(ConvGRUCell\) are convolutions, which cannot be shown; give a module",
        ),
        (lambda: "gru", r"module must be a torch\.nn\.Module, not str"),
    ],
    ids=["no GRU", "a projection", "scripted", "convolutions", "no module"],
)
@pytest.mark.filterwarnings("ignore:.*torch.jit.*")
def test_what_cannot_be_captured_is_refused_in_one_line(make, message):
    with pytest.raises(CaptureError, match=message) as caught:
        Capture(make())
    assert "\n" not in str(caught.value)
    assert caught.value.option == "module"


def test_other_arguments_that_do_not_fit():
    model = Model()
    with pytest.raises(CaptureError, match=r"optimizer must be a torch\.optim\.Optimizer, or a list of them, not str"):
        Capture(model, "adam")
    with pytest.raises(CaptureError, match=r"head must be the torch\.nn\.Linear that reads the GRU's output, not ReLU"):
        Capture(model, head=nn.ReLU())
    assert hooks(model) == []


@pytest.mark.parametrize("place", ["of all optimizers", "of one"])
def test_a_recording_within_a_hook_of_an_optimizer_raises_nothing_into_the_script(place, tmp_path):
    """It begins, ends steps, and closes there, while PyTorch goes through the hooks; other hooks are called as well."""
    torch.manual_seed(1)
    model, steps = Seq2seq(), 8
    optimizer, recorders, counts, before = sgd(model), [], [], len(_global_optimizer_post_hooks)

    def record(*_):
        if not recorders:
            recorders.append(tui_gru.record(tmp_path / "run.gru", model, optimizer, every=1))
        elif len(counts) < steps - 1:
            recorders[0].step(0.5)
        else:
            recorders[0].close()

    registers = register_optimizer_step_post_hook if place == "of all optimizers" else optimizer.register_step_post_hook
    handles = [registers(record), registers(lambda *_: counts.append(1))]
    for _ in range(steps):
        optimizer.zero_grad()
        model(torch.randn(T, 3, 4)).pow(2).mean().backward()
        optimizer.step()
    for handle in handles:
        handle.remove()
    assert len(counts) == steps
    session = tui_gru.Session.open(recorders[0].folder)
    assert session.steps == tuple(range(steps - 1))
    session.seek(session.end)
    assert "the optimizer did not run" not in session.remarks
    with Capture(model, optimizer):
        pass
    assert not optimizer._optimizer_step_post_hooks
    assert len(_global_optimizer_post_hooks) == before
