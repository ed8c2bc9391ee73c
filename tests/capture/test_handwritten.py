"""Hand-written cells are captured as what they compute, whatever their form; what is none is said, and the script goes on."""

import json
import random
import warnings
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

import tui_gru
from tests.capture.handwritten import (
    FORMS,
    IN,
    Chunked,
    Concatenated,
    Functional,
    H,
    SideBySide,
    debugged_and_recorded,
    loop,
    parameter,
)
from tests.capture.test_borders import capture
from tests.capture.test_putting_back import hooks
from tests.imported.recomputed import compare_gradients, compare_outputs
from tests.rounding import of_call
from tui_gru.capture import cells
from tui_gru.capture.calls import Note
from tui_gru.capture.hooks import Capture
from tui_gru.errors import CaptureError, RecordingError
from tui_gru.imported.module import forget
from tui_gru.imported.recompute import recompute, sequences

T, B = 6, 3
EXACT = 5e-7  # the largest relative difference of p.grad from the derived gradient, in float32


class Script(nn.Module):
    def __init__(self, cell):
        super().__init__()
        self.cell, self.head = cell, nn.Linear(H, 2)

    def forward(self, x, start=None):
        return self.head(loop(self.cell, x, start))


def trained(make, inputs=IN, begin=lambda module, optimizer: None, steps=2):
    """Train a few steps. Returns the model, and what it has learned, as bytes, with the generators' states."""
    torch.manual_seed(3)
    random.seed(3)
    model = Script(make())
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    run = begin(model, optimizer)
    for _ in range(steps):
        optimizer.zero_grad()
        loss = (model(torch.randn(T, B, inputs)) + 1).pow(2).mean()
        loss.backward()
        optimizer.step()
        if run is not None:
            run.step(loss)
    learned = [value.detach().numpy().tobytes() for value in model.parameters()]
    return model, (learned, torch.get_rng_state().numpy().tobytes(), random.getstate())


def captured(make, inputs=IN, **options):
    steps, captures = [], []

    def begin(model, optimizer):
        captures.append(Capture(model, optimizer, on_step=steps.append, **options))
        return captures[0]

    _, result = trained(make, inputs, begin)
    captures[0].close()
    return steps, result


@pytest.mark.parametrize("form", FORMS)
def test_every_form_is_captured_as_the_cell_that_it_is(form):
    make, inputs, convention = FORMS[form]
    steps, result = captured(make, inputs, cell="cell" if make is SideBySide else None)
    assert result == trained(make, inputs)[1]  # the script has computed the same, and drawn the same numbers
    for step in steps:
        whole = replace(step, calls=sequences(step))
        (call,) = whole.calls  # one sequence
        assert (call.module.name, call.module.convention, call.x.shape) == ("cell", convention, (T, B, inputs))
        assert max(each.error for each in compare_outputs(call, recompute(call))) <= of_call(call)
        compared = compare_gradients(whole)
        assert compared.cause == "equal"
        assert compared.error <= EXACT
        assert {each.name.rpartition(".")[2] for each in compared.differences} >= {"weight_ih", "weight_hh"}
        assert not step.notes


def test_the_weights_are_the_parts_of_the_parameters():
    steps, captures = [], []
    model, _ = trained(
        Concatenated, begin=lambda m, o: captures.append(Capture(m, o, on_step=steps.append)) or captures[0], steps=1
    )
    captures[0].close()
    model.cell.requires_grad_(False)
    values, gradients = steps[0].calls[0].weights.values, steps[0].gradients
    after = [getattr(model.cell, f"W_{gate}") for gate in "rzh"]  # torch's order
    for name, side in (("weight_ih", slice(0, IN)), ("weight_hh", slice(IN, None))):
        own = np.concatenate([linear.weight[:, side] for linear in after])
        np.testing.assert_allclose(values[name] - 0.1 * gradients[f"cell.{name}"], own, rtol=1e-5, atol=1e-7)
        grads = np.concatenate([linear.weight.grad[:, side] for linear in after])
        np.testing.assert_array_equal(gradients[f"cell.{name}"], grads)
    np.testing.assert_array_equal(gradients["cell.bias_ih"], np.concatenate([linear.bias.grad for linear in after]))
    assert not values["bias_hh"].any()


def test_a_recording_of_a_hand_written_cell(tmp_path):
    recorders = []

    def begin(model, optimizer):
        recorders.append(tui_gru.record(tmp_path / "run.gru", model, optimizer, every=1))
        assert json.loads((tmp_path / "run.gru" / "run.json").read_text())["cells"] == []
        return recorders[0]

    model, _ = trained(Concatenated, begin=begin)
    recorders[0].close()
    assert [entry["name"] for entry in json.loads((tmp_path / "run.gru" / "run.json").read_text())["cells"]] == ["cell"]
    s = tui_gru.Session.open(tmp_path / "run.gru")
    assert (s.steps, s.config.cell) == ((0, 1), "gru-cho") or "z takes" in s.config.cell
    s.seek(s.end)
    assert s.expected.agrees
    np.testing.assert_allclose(s.gradient("Wz"), s.recorded_gradient("Wz"), rtol=1e-5, atol=1e-7)
    np.testing.assert_allclose(s.gradient("Uz"), model.cell.W_z.weight.grad[:, IN:].T, rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("damage", [{"reset": "between"}, {"kind": "lstm"}, {"order": "zz"}, {"more": 1}])
def test_a_damaged_convention(tmp_path, damage):
    recorders = []

    def begin(model, optimizer):
        recorders.append(tui_gru.record(tmp_path / "run.gru", model, optimizer, every=1))
        return recorders[0]

    trained(Chunked, begin=begin)
    recorders[0].close()
    about = json.loads((tmp_path / "run.gru" / "run.json").read_text())
    about["cells"][0]["convention"] |= damage
    (tmp_path / "run.gru" / "run.json").write_text(json.dumps(about))
    s = tui_gru.Session.open(tmp_path / "run.gru")
    assert "damaged" in s.notice or "can be read" in s.notice


def test_a_module_of_torch_and_a_cell_beside_it(tmp_path):
    class Both(nn.Module):
        def __init__(self):
            super().__init__()
            self.encoder, self.decoder = nn.GRU(IN, H), Script(Chunked())

        def forward(self, x):
            return self.decoder(x, self.encoder(x)[1][0])

    torch.manual_seed(1)
    model = Both()
    optimizer = torch.optim.SGD(model.encoder.parameters(), 0.1)
    steps, running = capture(model, optimizer)
    model(torch.randn(T, B, IN)).pow(2).mean().backward()
    optimizer.step()
    running.close()
    assert [call.module.name for call in sequences(steps[0])] == ["encoder", "decoder.cell"]
    compared = compare_gradients(replace(steps[0], calls=sequences(steps[0])))
    assert (compared.cause, len(compared.differences), compared.error < EXACT) == ("equal", 8, True)
    assert Note.NOT_IN_OPTIMIZER in steps[0].notes
    assert not any(hooks(part) for part in model.modules())


def test_a_state_set_in_some_rows_and_a_call_under_no_grad_before():
    torch.manual_seed(1)
    model = Script(Chunked())
    steps, running = capture(model, torch.optim.SGD(model.parameters(), 0.1))
    with torch.no_grad():
        model(torch.randn(T, B, IN))
    x, h = torch.randn(T, B, IN), torch.zeros(B, H)
    for t in range(T):
        h = model.cell(x[t], h)
        if t == 2:
            h = h * torch.tensor([1.0, 0, 1])[:, None]
    h.pow(2).mean().backward()
    running.step()
    running.close()
    (call,) = sequences(steps[0])
    assert call.keep is not None
    assert compare_gradients(replace(steps[0], calls=(call,))).cause == "equal"


class Normed(nn.Module):
    """With layer norm in the gates, it is another function."""

    def __init__(self):
        super().__init__()
        self.inner, self.norm = Chunked(), nn.LayerNorm(H)

    def forward(self, x, h):
        cell = self.inner
        i_r, i_z, i_n = cell.x2h(x).chunk(3, 1)
        h_r, h_z, h_n = cell.h2h(h).chunk(3, 1)
        r, z = torch.sigmoid(self.norm(i_r + h_r)), torch.sigmoid(i_z + h_z)
        return (1 - z) * torch.tanh(i_n + r * h_n) + z * h


class Dropped(Chunked):
    def forward(self, x, h):
        return nn.functional.dropout(super().forward(x, h), 0.5)


class Attention(nn.Module):
    """Computes what a plain RNN does, and is none."""

    def __init__(self):
        super().__init__()
        self.query, self.key = nn.Linear(IN, H), nn.Linear(H, H)

    def forward(self, query, key):
        return torch.tanh(self.query(query) + self.key(key))


class Peepholes(nn.Module):
    """Its products are those of no cell."""

    def __init__(self):
        super().__init__()
        self.W, self.U = nn.Linear(IN, 2 * H), nn.Linear(H, 2 * H)

    def forward(self, x, h):
        gate, new = (self.W(x) + self.U(h)).chunk(2, 1)
        return torch.sigmoid(gate) * torch.tanh(new)


WHY = {
    Normed: "another function than a GRU, an LSTM or a plain RNN: the nearest, a GRU with gates",
    Dropped: "is off by",
    Attention: "a plain RNN, which other modules do as well; name it with cell=",
    Peepholes: "3 in a GRU, 4 in an LSTM, 1 in a plain RNN",
}


@pytest.mark.parametrize("make", WHY)
def test_what_is_no_cell_is_said_once_and_the_script_goes_on(make):
    with pytest.warns(UserWarning, match=r"tui_gru: cell \(.*\) is not captured: ") as said:
        steps, result = captured(make)
    ours = [str(each.message) for each in said if "tui_gru" in str(each.message)]
    assert len(ours) == 1
    assert WHY[make] in ours[0]
    assert ours[0].endswith("training continues")
    assert result == trained(make)[1]
    assert not any(step.calls for step in steps)


class Wrapped(nn.LSTM):
    """Does something beside what torch's forward does."""

    def forward(self, x, hx=None):
        self.flatten_parameters()
        return super().forward(x, hx)


class ReturningStates(nn.GRU):
    """Returns another output than torch's forward."""

    def forward(self, x, hx=None, scale=None):
        out, h = super().forward(x, hx)
        return out if scale is None else out * scale, h


def test_a_subclass_is_torchs_if_its_forward_computes_what_torchs_does(tmp_path):
    model = nn.ModuleDict({"wrapped": Wrapped(IN, H, 2, bidirectional=True), "other": ReturningStates(IN, H)})
    recorder = tui_gru.record(tmp_path / "run.gru", model, every=1)
    x, scale = torch.randn(T, B, IN), torch.rand(T, B, H)
    with pytest.warns(UserWarning, match=r"tui_gru: other \(ReturningStates\) is not captured: "):
        scaled = model["other"](x, scale=scale)[0]
    (model["wrapped"](x)[0].sum() + scaled.sum()).backward()
    recorder.step(1.0)
    recorder.close()
    about = json.loads((tmp_path / "run.gru" / "run.json").read_text())
    assert [module["name"] for module in about["modules"]] == ["wrapped"]
    assert about["cells"] == []
    s = tui_gru.Session.open(tmp_path / "run.gru")
    s.seek(s.end)
    assert s.expected.agrees


class WithoutMemory(nn.LSTM):
    """Returns h alone of its last states."""

    def forward(self, x, hx=None):
        out, (h, _) = super().forward(x, hx)
        return out, h


def test_an_lstm_that_returns_h_alone_is_captured_with_its_memory(tmp_path):
    model = nn.ModuleDict({"rnn": WithoutMemory(IN, H, 2)})
    with tui_gru.record(tmp_path / "run.gru", model) as recorder:
        out, h = model["rnn"](torch.randn(T, B, IN))
        (out.sum() + h.square().sum()).backward()
        recorder.step(1.0)
    s = tui_gru.Session.open(tmp_path / "run.gru")
    s.seek(s.end)
    assert s.expected.agrees
    assert s.check().agrees


@pytest.mark.filterwarnings("ignore:.*torch.jit.*")
def test_nothing_compiled_by_torchscript_is_tried():
    """A call of a copy would count as one of the script's, after which TorchScript computes in another way."""
    model = nn.ModuleDict({"rnn": nn.GRU(IN, H), "own": Chunked()})
    model["own"].x2h = torch.jit.script(model["own"].x2h)
    assert Capture(model).names == ["rnn"]


def test_a_named_cell_is_taken_where_others_compute_the_same():
    steps, _ = captured(Attention, cell="cell")
    assert [call.module.family for call in sequences(steps[0])] == ["RNN"]
    assert steps[0].calls[0].module.written_as == "Attention"


def test_nothing_is_said_of_other_modules_if_a_cell_is_found():
    class Beside(nn.Module):
        def __init__(self):
            super().__init__()
            self.attention, self.cell = Attention(), Functional()

        def forward(self, x):
            h = self.cell(x[0])
            for one in x[1:]:
                h = self.cell(one, self.attention(one, h))
            return h

    model = Beside()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        steps, running = capture(model)
        model(torch.randn(T, B, IN)).sum().backward()
        running.step()
        running.close()
    assert {call.module.name for call in steps[0].calls} == {"cell"}


def test_what_is_no_cell_is_left_alone_after_its_first_call():
    model = Script(nn.GRUCell(IN, H))
    model.attention = Attention()
    steps, running = capture(model)
    running.watch.close()  # which has hooks on all modules in the first steps
    assert hooks(model.attention)
    model(torch.randn(T, B, IN)).sum().backward()
    model.attention(torch.randn(B, IN), torch.randn(B, H))
    assert not hooks(model.attention)
    assert hooks(model.cell)
    running.step()
    running.close()
    assert not hooks(model.cell)
    assert len(sequences(steps[0])) == 1


@pytest.mark.parametrize("rows", [0, B])
def test_a_first_call_in_inference_mode_or_without_rows(rows):
    torch.manual_seed(1)
    model = Script(Chunked())
    steps, running = capture(model)
    with torch.inference_mode():
        model(torch.randn(T, rows, IN))
    model(torch.randn(T, B, IN)).sum().backward()
    running.step()
    running.close()
    assert [call.x.shape for call in sequences(steps[0]) if call.learned] == [(T, B, IN)]


class Storing(Chunked):
    """It stores its last state, which has a graph."""

    def forward(self, x, h):
        self.last = {"states": [super().forward(x, h)]}
        return self.last["states"][0]


class Keywords(Chunked):
    def forward(self, x, **states):
        return super().forward(x, states["h"])


@pytest.mark.parametrize("make", [Storing, Keywords])
def test_a_cell_that_stores_its_state_or_takes_any_keyword(make):
    torch.manual_seed(1)
    model = make()
    steps, running = capture(model)
    h = torch.zeros(B, H)
    for x in torch.randn(T, B, IN):
        h = model(x, h=h)
    h.sum().backward()
    running.step()
    running.close()
    assert [call.x.shape for call in sequences(steps[0])] == [(T, B, IN)]


class Unrolled(nn.Module):
    """Computes many timesteps from one x and h, and returns all states."""

    def __init__(self):
        super().__init__()
        self.x2h, self.h2h = nn.Linear(IN, H), nn.Linear(H, H)

    def forward(self, x, h):
        states = [h]
        for _ in range(100):
            states.append(torch.tanh(self.x2h(x) + self.h2h(states[-1])))
        return states[1:]


class ManyResults(Chunked):
    def forward(self, x, h):
        h = super().forward(x, h)
        return [2 * h + i for i in range(100)]


@pytest.mark.parametrize(("make", "most"), [(Unrolled, 0), (ManyResults, 13)])  # the last one, and the six at either end
def test_of_a_module_with_many_products_or_results_few_readings_are_tried(make, most, monkeypatch):
    read, tried = cells._read, []  # noqa: SLF001
    monkeypatch.setattr(cells, "_read", lambda *args: tried.append(args) or read(*args))
    model = nn.ModuleList([make()])
    _, running = capture(model, cell="0")
    with pytest.warns(UserWarning, match="is not captured: it"), running:
        model[0](torch.randn(B, IN), torch.randn(B, H))
    assert len(tried) == most


def test_a_named_module_that_returns_a_single_number():
    class Summed(nn.Module):
        def __init__(self):
            super().__init__()
            self.linear = nn.Linear(IN, H)

        def forward(self, x):
            return self.linear(x).sum()

    model = nn.ModuleList([Summed()])
    _, running = capture(model, cell="0")
    with pytest.warns(UserWarning, match=r"a cell computes one timestep, .* and was called with \(3, 4\)"):
        model[0](torch.randn(B, IN))
    running.close()


def test_a_wrong_name_of_a_cell_is_refused_again_in_a_later_call():
    model = Script(Chunked())
    assert tui_gru.debug(model, screen=False) is None
    model(torch.randn(T, B, IN)).sum().backward()
    for _ in range(2):
        with pytest.raises(CaptureError, match="there is no module 'sell' in Script"):
            tui_gru.debug(model, cell="sell", screen=False)
    forget(model)


def test_a_recording_without_any_captured_call_says_so(tmp_path):
    def begin(model, optimizer):
        return tui_gru.record(tmp_path / "run.gru", model, optimizer, every=1)

    with pytest.warns(UserWarning, match="is not captured"):
        trained(Normed, begin=begin)
    with pytest.raises(RecordingError, match="its steps have no call of a recurrent module"):
        tui_gru.Session.open(tmp_path / "run.gru")


@pytest.mark.parametrize(
    ("cell", "why"),
    [
        ("sell", "there is no module 'sell' in Script; write one of cell"),
        (3, "there is no module 3 in Script; write one of"),
        ("cell.x2h.weight", "there is no module 'cell.x2h.weight'"),
    ],
)
def test_wrong_names_of_cells(cell, why):
    for begin in (lambda model: Capture(model, cell=cell), lambda model: tui_gru.debug(model, cell=cell, screen=False)):
        with pytest.raises(CaptureError) as error:
            begin(Script(Chunked()))
        assert error.value.option == "cell"
        assert why in str(error.value)


def test_a_named_module_that_cannot_be_a_cell():
    with pytest.raises(CaptureError, match="it has GRU inside, which is captured itself; leave cell out"):
        Capture(nn.ModuleDict({"a": nn.Sequential(nn.GRU(2, 3))}), cell="a")
    with pytest.raises(CaptureError, match="since it has no matrix"):
        Capture(nn.ModuleDict({"a": nn.Tanh(), "b": nn.GRU(2, 3)}), cell="a")
    with pytest.raises(
        CaptureError, match=r"there is no torch\.nn\.GRU, LSTM, RNN or cell of them in Sequential; give a module that has one, or"
    ):
        Capture(nn.Sequential(nn.Linear(2, 3)))


def test_debug_shows_a_hand_written_cell():
    model = Script(Concatenated())
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    assert tui_gru.debug(model, optimizer, screen=False, name="cell") is None
    model(torch.randn(T, B, IN)).pow(2).mean().backward()
    optimizer.step()
    s = tui_gru.debug(model, optimizer, screen=False)
    assert "Concatenated is hand-written: it computes a GRU, reset before, z takes, sigmoid, proved on" in s.notice
    assert "p.grad is the derived gradient" in s.notice
    s.seek(s.end)
    assert s.value("h", t=5).shape == (B, H)
    assert s.expected.agrees
    forget(model)


def test_parameters_that_are_changed_in_between_and_some_without_gradient():
    torch.manual_seed(1)
    model = Script(Chunked())
    model.cell.x2h.weight.requires_grad_(False)
    steps, running = capture(model, torch.optim.SGD(model.parameters(), 0.1))
    x = torch.randn(T, B, IN)
    for change in (lambda: None, lambda: model.cell.h2h.weight.data.mul_(0.5)):
        change()
        model.zero_grad()
        model(x).pow(2).mean().backward()
        running.step()
    running.close()
    first, second = (step.calls[0].weights.values["weight_hh"] for step in steps)
    np.testing.assert_array_equal(second, 0.5 * first)
    assert "cell.weight_ih" not in steps[0].gradients
    compared = compare_gradients(replace(steps[0], calls=sequences(steps[0])))
    assert (compared.cause, len(compared.differences)) == ("equal", 3)


@pytest.mark.parametrize("names", ["WUWUVS", "WUXTVU"])
def test_a_shared_matrix_is_refused(names):
    """Two gates that use one matrix have one gradient for both."""

    class Shared(nn.Module):
        def __init__(self):
            super().__init__()
            for name in "WVX":
                setattr(self, name, parameter(IN, H))
            for name in "UST":
                setattr(self, name, parameter(H, H))

        def forward(self, x, h):
            W_r, U_r, W_z, U_z, W_n, U_n = (getattr(self, name) for name in names)
            r, z = torch.sigmoid(x @ W_r + h @ U_r), torch.sigmoid(x @ W_z + h @ U_z)
            return (1 - z) * torch.tanh(x @ W_n + (r * h) @ U_n) + z * h

    with pytest.warns(UserWarning, match="one part of a parameter for several gates"):
        steps, _ = captured(Shared)
    assert not steps[0].calls


# Cells with equations of their own, as a script gives them

MGU = """# Minimal gated unit (Zhou et al. 2016)
state h : H
parameters Wf Wg Uf Ug bf bg
f = σ(x Wf + h_prev Uf + bf)             # forget gate
g = tanh(x Wg + (f ⊙ h_prev) Ug + bg)    # candidate
h = (1 − f) ⊙ h_prev + f ⊙ g
"""


class Gated(nn.Module):
    """A minimal gated unit with matrices stored in four ways."""

    def __init__(self, inputs=IN):
        super().__init__()
        self.W_f = nn.Linear(inputs, H)
        self.U_f = nn.Linear(H, H, bias=False)
        self.wg = nn.Parameter(torch.randn(inputs, H) / 2)
        self.Ug = nn.Parameter(torch.randn(H, H) / 2)
        self.bg = nn.Parameter(torch.randn(1, H))

    def forward(self, x, h):
        f = torch.sigmoid(self.W_f(x) + self.U_f(h))
        return h + f * (torch.tanh(x @ self.wg + (f * h) @ self.Ug + self.bg) - h)


class Peeping(nn.Module):
    """A cell with a memory, and with weights that multiply element by element."""

    def __init__(self, inputs=IN):
        super().__init__()
        self.w, self.u = nn.Linear(inputs, H), nn.Linear(H, H, bias=False)
        self.peep = nn.Parameter(torch.randn(H))

    def forward(self, x, states):
        h, c = states
        c = torch.sigmoid(self.w(x) + self.peep * c) * c + torch.tanh(self.u(h))
        h = torch.tanh(c)
        return h, c


PEEPING = """state h : H, c : H
parameters W U p b
g = σ(x W + p ⊙ c_prev + b)
c = g ⊙ c_prev + tanh(h_prev U)
h = tanh(c)
"""
NAMES = {"W": "w.weight", "b": "w.bias", "p": "peep"}


@pytest.fixture
def mgu(tmp_path):
    path = tmp_path / "mgu.cell"
    path.write_text(MGU, encoding="utf-8")
    return path


@pytest.mark.parametrize("inputs", [IN, H])
def test_a_cell_is_captured_as_its_equations(mgu, inputs):
    torch.manual_seed(4)
    model = Script(Gated(inputs))
    steps, running = capture(model, cell=str(mgu))
    x = torch.randn(T, B, inputs)
    model(x).square().sum().backward()
    running.step()
    (call,) = sequences(steps[0])
    assert (call.module.name, call.module.equations.name, call.timesteps) == ("cell", "mgu.cell", T)
    assert compare_outputs(call, recompute(call))[0].error < of_call(call)
    compared = compare_gradients(steps)
    assert compared.cause == "equal"
    assert compared.error < of_call(call)
    cell = model.cell
    own = {"Wf": cell.W_f.weight, "bf": cell.W_f.bias, "Uf": cell.U_f.weight, "Wg": cell.wg, "Ug": cell.Ug, "bg": cell.bg}
    for name, stored in own.items():
        expected = stored.grad.numpy()
        expected = expected.T if name in ("Wf", "Uf") else expected.reshape(steps[0].gradients[f"cell.{name}"].shape)
        np.testing.assert_array_equal(steps[0].gradients[f"cell.{name}"], expected)
    running.close()
    assert not hooks(model)


def test_a_cell_with_a_memory_is_captured_with_the_names_that_are_given(tmp_path):
    torch.manual_seed(4)
    (tmp_path / "peeping.cell").write_text(PEEPING, encoding="utf-8")
    cell = Peeping()
    steps, running = capture(cell, cell=(tmp_path / "peeping.cell", NAMES))
    states = torch.zeros(B, H), torch.zeros(B, H)
    total = 0
    for x in torch.randn(T, B, IN):
        states = cell(x, states)
        total = total + states[0].square().sum()
    total.backward()
    running.step()
    running.close()
    (call,) = sequences(steps[0])
    assert call.h0.shape == (2, B, H)
    assert compare_outputs(call, recompute(call))[0].error < of_call(call)
    compared = compare_gradients(steps)
    assert (compared.cause, compared.error < of_call(call)) == ("equal", True)


def test_equations_are_debugged_and_recorded(mgu, tmp_path):
    torch.manual_seed(4)
    model = Script(Gated())
    session, opened = debugged_and_recorded(model, (T, B, IN), tmp_path, cell=mgu)
    assert "Gated is hand-written, and read as mgu.cell: the output is the same to" in session.notice
    session.step("batch")
    for name in ("f", "h", "dWf", "dUg"):
        np.testing.assert_array_equal(opened.value(name), session.value(name))
    gradient = model.cell.U_f.weight.grad.numpy().T
    assert np.abs(session.value("dUf") - gradient).max() < 1e-5 * np.abs(gradient).max()
    forget(model)


def test_a_file_with_the_name_of_the_class_is_said_to_be_read(mgu, tmp_path):
    torch.manual_seed(4)
    model, path = Script(Gated()), mgu.with_name("Gated.cell")
    mgu.rename(path)
    session, _ = debugged_and_recorded(model, (T, B, IN), tmp_path, cell=path)
    assert "Gated is hand-written, and read as Gated.cell: the output is the same to" in session.notice
    forget(model)


def test_equations_of_another_cell_say_so(mgu):
    class Other(Gated):
        def forward(self, x, h):
            f = torch.sigmoid(self.W_f(x) + self.U_f(h))
            return f * h + (1 - f) * torch.tanh(x @ self.wg + (f * h) @ self.Ug + self.bg)

    torch.manual_seed(4)
    model = Script(Other())
    tui_gru.debug(model, screen=False, cell=str(mgu))
    model(torch.randn(T, B, IN)).sum().backward()
    session = tui_gru.debug(model, screen=False, cell=str(mgu))
    assert "read as mgu.cell, which computes something else: its output is off by" in session.notice
    forget(model)


@pytest.mark.parametrize(
    ("text", "names", "why"),
    [
        (MGU.replace("Ug", "Ux"), {}, r"no module has parameters for all of mgu.cell: .* has none for Ux, but "),
        (MGU, {"Ug": "nowhere"}, r"has none for Ug, but .*; give the names, as in cell=\(\"mgu.cell\", \{\"Ug\": "),
        (MGU, "Ug", "it must be the name of a module, a .cell file, or such a file with the names"),
        ("h = ", {}, "mgu.cell"),
        (MGU.replace("Wf + h_prev Uf", "Ug + h_prev Uf"), {}, "does not fit"),
        (
            MGU.replace("parameters Wf Wg", "parameters Wf(I H) Wg").replace("f = σ(x Wf + ", "k = x Wf\nf = σ("),
            {},
            "the loss does not depend on Wf, so it has no gradient",
        ),
    ],
)
def test_equations_that_do_not_fit_are_refused(mgu, text, names, why):
    mgu.write_text(text, encoding="utf-8")
    with pytest.raises(tui_gru.TuiGruError, match=why):
        tui_gru.debug(Script(Gated()), screen=False, cell=(str(mgu), names))


def test_equations_that_do_not_fit_a_call_are_refused_with_a_warning(mgu):
    text = MGU.replace("state h : H", "state c : H, h : H").replace("h = (1", "c = c_prev ⊙ f\nh = (1")
    mgu.write_text(text, encoding="utf-8")
    model = Script(Gated())
    _, running = capture(model, cell=str(mgu))
    with pytest.warns(UserWarning, match="the first state of mgu.cell"):
        model(torch.randn(T, B, IN))
    running.close()
