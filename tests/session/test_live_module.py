"""Sessions on the batch that a script's module has just computed."""

import gc
import os
import sys
import warnings
import weakref
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.utils.checkpoint import checkpoint

import tui_gru
from tests.capture.scripts import HALF, SCRIPTS, B, Model, T, a_parametrized_cell, loss_of, trained
from tests.capture.test_putting_back import hooks
from tests.capture.test_scripts import captured
from tests.capture.test_sequences import BETWEEN, KINDS, Decoder, each
from tests.debugger.deriving import combined
from tests.rounding import of_session
from tests.session.acting import assert_every_level_leads_through_and_back
from tui_gru import Session, TuiGruError
from tui_gru.cli.models import INSTEAD, WATCHING
from tui_gru.engine.data import ImportedConfig
from tui_gru.imported import recompute
from tui_gru.imported.module import SAME_BATCH, captured_run, forget


@pytest.fixture
def model():
    torch.manual_seed(5)
    model = Model(num_layers=2, bidirectional=True)
    yield model
    forget(model)


def a_step(model, optimizer, change=lambda: None, x=None):
    optimizer.zero_grad()
    loss = loss_of(model(torch.randn(T, B, 4) if x is None else x)[0])
    loss.backward()
    change()
    optimizer.step()
    return loss


def watched(model, change=lambda: None, **options):
    """Return the session after a step, from the second call of debug."""
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    assert tui_gru.debug(model, optimizer, screen=False) is None
    a_step(model, optimizer, change)
    return tui_gru.debug(model, optimizer, screen=False, **options)


def names(script):
    return script.__name__


@pytest.mark.parametrize("script", SCRIPTS, ids=names)
def test_every_kind_of_script_is_computed_again(script):
    """The output, and p.grad, from the session of the last step."""
    steps, _ = captured(script)
    given, said = captured_run(steps[-1])
    s = Session.on(ImportedConfig.of_source(given))
    assert s.learning
    s.seek(s.end)
    bound = HALF.get(names(script), of_session(s))
    assert s.expected.whole.worst <= max(bound * s.expected.whole.largest, bound)
    assert s.expected.agrees
    everything = len({call.module.name for call in steps[-1].calls}) == 1
    # With spectral norm each call of the cell has its own weights; the gradient of the shared biases is that of all calls.
    compared = [name for name in s.parameter_names if script is not a_parametrized_cell or not name.startswith("b")]
    pairs = [(s.gradient(name), s.recorded_gradient(name)) for name in compared]
    known = [(ours, theirs) for ours, theirs in pairs if theirs is not None]
    assert known
    largest = max(np.abs(theirs).max() for _, theirs in known)
    worst = max(np.abs(ours - theirs).max() for ours, theirs in known)
    assert worst <= bound * max(largest, 1), said
    if script.__name__ in HALF:
        assert "the tolerance of half precision" in s.expected.sentence
        assert "agree only to about" in said
    if everything:
        assert said.startswith("p.grad is the derived gradient") or "no gradient" in said, said


@pytest.mark.parametrize("calls", [1, 2, 3])
def test_a_module_lives_no_longer_than_in_the_script(calls):
    model = Model(num_layers=2)
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    for _ in range(calls):
        tui_gru.debug(model, optimizer if calls > 2 else None, screen=False)
        a_step(model, optimizer)
    module, weight = weakref.ref(model), weakref.ref(model.rnn.weight_hh_l0)
    del model, optimizer
    gc.collect()
    assert module() is None
    assert weight() is None


def test_the_first_call_begins_to_watch_and_the_next_one_opens(model):
    s = watched(model)
    assert s.config.source.title == "rnn of your script"
    assert (s.config.batch_size, s.config.seq_length, s.config.layers) == (B, T, 2)
    assert s.position.tick == 0
    assert s.notice.startswith("p.grad is the derived gradient, neither clipped nor scaled")
    assert s.loss is None


def test_it_is_the_batch_just_computed_however_seldom_it_is_asked(model):
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    tui_gru.debug(model, optimizer, screen=False)
    for _ in range(3):
        a_step(model, optimizer)
    x = torch.randn(T, B, 4)
    with torch.no_grad():
        wanted = model.embed(x).numpy()
    a_step(model, optimizer, x=x)
    s = tui_gru.debug(model, optimizer, screen=False)
    assert np.array_equal(s.value("x", t=2), wanted[2]) or s.value("x", t=2) is None
    s.seek(s.end)
    assert np.array_equal(s.value("x", t=2), wanted[2])
    a_step(model, optimizer, x=x)
    again = tui_gru.debug(model, optimizer, screen=False)
    assert not np.array_equal(again.parameter("Wz_l0"), s.parameter("Wz_l0"))


def test_before_the_optimizer_and_after_a_forward_pass_alone(model):
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    tui_gru.debug(model, optimizer, screen=False)
    loss = loss_of(model(torch.randn(T, B, 4))[0])
    s = tui_gru.debug(model, optimizer, screen=False)
    assert not s.learning
    assert "backward" not in {row.line.phase for row in s.program.rows if row.line is not None}
    with pytest.raises(TuiGruError, match="belongs to your script"):
        s.sgd()
    del loss
    optimizer.zero_grad()
    loss_of(model(torch.randn(T, B, 4))[0]).backward()
    s = tui_gru.debug(model, optimizer, screen=False)
    s.seek(s.end)
    worst = max(np.abs(s.gradient(name) - s.recorded_gradient(name)).max() for name in s.parameter_names)
    assert worst < of_session(s)


def test_the_gradient_from_outside_is_a_line_of_its_own(model):
    s = watched(model)
    lines = [line.strip() for line in s.program_text().splitlines()]
    at = lines.index("dout_given_l1 = from your head and loss")
    assert lines[at - 1] == "out_l1 = [h_l1, h_l1_reverse]"
    assert lines[at + 3].startswith("dout_l1 = dout_given_l1")
    assert s.value("dout_given_l1", t=2) is None
    s.step("phase")
    assert s.value("dout_given_l1", t=2) is None
    s.step("op")
    assert s.position.line.target == "dout_given_l1"
    outside = s.value("dout_given_l1", t=2)
    assert outside.shape == (B, 10)
    assert s.explain("dout_given_l1", (0, 1), t=2).derivation.note == "the gradient from outside: your head and loss"
    s.seek(s.end)
    node = s.explain("dh_l1", (0, 1), t=2)
    assert abs(combined(node.derivation) - node.value) < 1e-9
    what = s.what_if("dout_given_l1", (0, 1), 0.5, t=2)
    assert any(difference.name == "dUz_l0" for difference in what.differences)
    s.seek("e1 b1 t1")
    assert s.run_until("dh_prev_l0[0,0] > -1e9")
    assert s.position.phase == "backward"


def test_every_level_of_steps_leads_through_the_backward_pass_and_back(model):
    assert_every_level_leads_through_and_back(watched(model), "op", "timestep", "phase", "batch", "epoch")


def test_a_clip_and_a_scale_are_named(model):
    def clip():
        torch.nn.utils.clip_grad_norm_(model.parameters(), 0.01)

    s = watched(model, clip)
    assert "one common factor, as of a clip" in s.remarks
    s.seek(s.end)
    ratio = s.recorded_gradient("Uz_l1") / s.gradient("Uz_l1")
    assert ratio.max() < 1
    assert ratio.max() - ratio.min() < 1e-5

    def scale():
        for p in model.parameters():
            p.grad *= 1024

    forget(model)
    assert "1024 times the derived gradient" in watched(model, scale).remarks


def test_what_a_reentrant_checkpoint_computes_again_has_the_gradient(model):
    """Its first call, under no_grad, is one of the latest calls without a gradient, which are kept here, but not in a recording."""
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    tui_gru.debug(model, optimizer)
    x = torch.randn(T, B, 4, requires_grad=True)
    loss_of(checkpoint(lambda x: model(x)[0], x, use_reentrant=True)).backward()
    s = tui_gru.debug(model, optimizer, screen=False)
    s.seek(s.end)
    assert "p.grad is the derived gradient" in s.remarks
    assert "computed it twice" in s.remarks
    for name in s.parameter_names:
        largest = np.abs(s.recorded_gradient(name)).max()
        np.testing.assert_allclose(s.gradient(name), s.recorded_gradient(name), rtol=0, atol=of_session(s) * largest)


def test_a_penalty_on_a_gradient_is_in_the_step_of_its_loss(model):
    """The first pass leaves p.grad empty, as clearing it would, and the second goes through the same call."""
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    tui_gru.debug(model, optimizer)
    x = torch.randn(T, B, 4, requires_grad=True)
    loss = loss_of(model(x)[0])
    (penalty,) = torch.autograd.grad(loss, x, create_graph=True)
    (loss + penalty.pow(2).sum()).backward()
    optimizer.step()
    s = tui_gru.debug(model, optimizer, screen=False)
    s.seek(s.end)
    np.testing.assert_array_equal(s.recorded_gradient("Wz_l0"), model.rnn.weight_ih_l0.grad.numpy().reshape(3, -1, 4)[1].T)
    assert "Autograd gave another gradient than the derived one" in s.remarks
    assert "a backward pass had a graph of its own (create_graph), as for a penalty on a gradient" in s.remarks


def test_the_batch_is_checked_against_autograd(model):
    s = watched(model)
    s.seek(s.end)
    assert s.check().agrees


def test_the_head_goes_on_to_the_logits(model):
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    tui_gru.debug(model, optimizer, model.head, screen=False)
    a_step(model, optimizer)
    s = tui_gru.debug(model, optimizer, model.head, screen=False)
    s.seek(s.end)
    assert s.value("logits").shape == (B, 2)
    assert "dlogits_given = from your head and loss" in s.program_text()
    assert s.expected.agrees


def test_the_rows_of_several_calls_are_said_to_be_those_of_the_module():
    pair = torch.nn.ModuleDict({"reader": torch.nn.LSTM(3, 4)})
    tui_gru.debug(pair)
    sum(pair["reader"](torch.randn(T, B, 3))[0].sum() for _ in range(2)).backward()
    s = tui_gru.debug(pair, screen=False)
    assert s.config.sizes["B"] == 2 * B
    assert "The rows are those of 2 calls of reader in this step." in s.remarks


def test_each_of_several_modules_of_a_batch_can_be_asked_for_by_its_name():
    torch.manual_seed(2)
    pair = torch.nn.ModuleDict({"a": torch.nn.GRU(3, 4), "b": torch.nn.LSTM(4, 2), "c": torch.nn.GRU(4, 2)})
    optimizer = torch.optim.SGD([*pair["a"].parameters(), *pair["b"].parameters()], 0.1)
    tui_gru.debug(pair, optimizer, screen=False)
    for _ in range(2):
        optimizer.zero_grad()
        loss_of(pair["b"](pair["a"](torch.randn(5, 2, 3))[0])[0]).backward()
        optimizer.step()
        first = tui_gru.debug(pair, optimizer, screen=False)
        assert first.notice.endswith("Also captured: a; name= or :module shows another.")
        for name, size in (("a", 4), ("b", 2), ("a", 4)):
            session = tui_gru.debug(pair, optimizer, screen=False, name=name)
            assert session.config.hidden_size == size
            assert SAME_BATCH in session.notice
            session.seek(session.end)
            assert session.expected.agrees
        with pytest.warns(
            UserWarning, match="tui_gru.debug: c was not called since the last call of debug; these were: a, b; the sc"
        ):
            assert tui_gru.debug(pair, optimizer, screen=False, name="c") is None
    with pytest.raises(TuiGruError, match="there is no module 'd' in it; "):
        tui_gru.debug(pair, optimizer, screen=False, name="d")
    forget(pair)
    with pytest.raises(TuiGruError, match="there is no module 'd' in it; "):  # at once
        tui_gru.debug(pair, optimizer, screen=False, name="d")
    assert hooks(pair) == []


@pytest.mark.parametrize(("between", "resets"), [("attached", False), ("by mask", True), ("detached sometimes", True)])
@pytest.mark.parametrize("kind", ["GRU", "LSTMCell"])
def test_a_loop_of_single_timesteps_is_one_batch_over_t(kind, between, resets):
    states = []

    def remembered(t, h):
        states.append((h[0] if isinstance(h, tuple) else h).detach().reshape(B, -1).clone())
        return each(BETWEEN[between][0])(t, h)

    torch.manual_seed(4)
    decoder = Decoder(KINDS[kind](), between=remembered)
    optimizer = torch.optim.SGD(decoder.parameters(), 0.1)
    tui_gru.debug(decoder, optimizer, screen=False)
    for _ in range(2):
        states.clear()
        optimizer.zero_grad()
        loss_of(decoder(torch.randn(9, B, 4))).backward()
        optimizer.step()
    s = tui_gru.debug(decoder, optimizer, screen=False)
    assert s.notice.startswith("p.grad is the derived gradient")
    assert ("keep is 0 there" in s.notice) is resets
    assert ("h_in = keep⊙hₜ₋₁" in s.program_text()) is resets
    s.seek(s.end)
    for t, h in enumerate(states):
        np.testing.assert_allclose(s.value("h", t=t), h.numpy(), atol=of_session(s))
    assert s.expected.agrees
    recorded = s.recorded_gradient("Uz" if kind == "GRU" else "Uf")
    np.testing.assert_allclose(s.gradient("Uz" if kind == "GRU" else "Uf"), recorded, atol=1e-6 * np.abs(recorded).max() + 1e-8)
    assert s.check().agrees
    assert_every_level_leads_through_and_back(s)
    forget(decoder)


@pytest.mark.parametrize(
    ("kind", "reads", "said"),
    [
        ("LSTMCell", lambda out, h: h[0] + h[1], "c, which gets"),
        ("LSTM of two layers", lambda out, h: h[1].sum(0) + out[0], "c_l0 and c_l1, which get"),
    ],
)
def test_what_the_script_reads_of_c_between_timesteps_is_a_gradient_from_outside(kind, reads, said):
    torch.manual_seed(4)
    decoder = Decoder(KINDS[kind](), reads=reads)
    optimizer = torch.optim.SGD(decoder.parameters(), 0.1)
    tui_gru.debug(decoder, optimizer, screen=False)
    loss_of(decoder(torch.randn(9, B, 4))).backward()
    optimizer.step()
    s = tui_gru.debug(decoder, optimizer, screen=False)
    assert s.notice.startswith("p.grad is the derived gradient")
    assert f"Between timesteps the script also reads {said} a gradient from outside." in s.notice
    assert "dc_given" in s.program_text()
    s.seek(s.end)
    assert s.expected.agrees
    for name in s.parameter_names:
        recorded = s.recorded_gradient(name)
        np.testing.assert_allclose(s.gradient(name), recorded, atol=1e-6 * np.abs(recorded).max() + 1e-8)
    assert s.check().agrees
    assert_every_level_leads_through_and_back(s)
    forget(decoder)


@pytest.mark.parametrize("gain", [1.0, 1.6, 2.2, 3.0])
@pytest.mark.parametrize("elsewhere", [False, True], ids=["one rounding", "another rounding"])
def test_a_batch_whose_rounding_is_amplified_is_stepped_from_the_states_of_the_script(gain, elsewhere, monkeypatch):
    """At a gain of 2.2 the gradient grows by half in a timestep. End to end, the derived gradient would be another number.

    On some processors a timestep alone is rounded differently from the same one among others.
    """
    if elsewhere:
        alone = recompute.stepwise

        def stepwise(*arguments):
            found = alone(*arguments)
            return replace(found, ours=np.nextafter(found.ours, np.float32(2)))

        monkeypatch.setattr(recompute, "stepwise", stepwise)
    torch.manual_seed(1)
    gru = torch.nn.GRU(8, 48)
    with torch.no_grad():
        torch.nn.init.orthogonal_(gru.weight_hh_l0[96:]).mul_(3 * gain)
        gru.weight_hh_l0[:96] *= 3 * gain
    optimizer = torch.optim.SGD(gru.parameters(), 1e-12)
    tui_gru.debug(gru, optimizer, screen=False)
    out, _ = gru(torch.randn(60, 8, 8))
    out[-1].sum().backward()
    optimizer.step()
    s = tui_gru.debug(gru, optimizer, screen=False)
    notice = s.notice
    s.seek(s.end)
    recorded = s.recorded_gradient("Uh")
    assert np.abs(s.gradient("Uh") - recorded).max() <= 1e-4 * np.abs(recorded).max()
    assert notice.startswith("p.grad is the derived gradient, neither clipped nor scaled")
    assert ("Rounding is amplified ×1." in notice) == (gain > 1)
    assert s.expected.agrees
    forget(gru)


def test_a_call_before_anything_was_computed_is_a_warning(model):
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    tui_gru.debug(model, optimizer, screen=False)
    with pytest.warns(
        UserWarning, match="no recurrent module was called since the last call of debug; call debug after a forward pass"
    ):
        assert tui_gru.debug(model, optimizer, screen=False) is None
    a_step(model, optimizer)
    assert tui_gru.debug(model, optimizer, screen=False).notice.startswith("p.grad is the derived gradient")


class Sorting(torch.nn.Module):
    """Computes a timestep from x and h, but not as a cell whose equations can be read off."""

    def __init__(self):
        super().__init__()
        self.of_x, self.of_h = torch.nn.Linear(4, 5), torch.nn.Linear(5, 5)

    def forward(self, x, h):
        return torch.tanh(self.of_x(x) + self.of_h(h).sort(1).values)


class WithSorting(torch.nn.Module):
    def __init__(self, with_gru):
        super().__init__()
        self.gru, self.step = torch.nn.GRU(4, 5) if with_gru else None, Sorting()

    def forward(self, x):
        h = torch.zeros(x.shape[1], 5) if self.gru is None else self.gru(x)[1][0]
        for x_t in x:
            h = self.step(x_t, h)
        return h, h


@pytest.mark.parametrize("with_gru", [True, False])
def test_a_module_that_turns_out_to_be_no_cell_does_not_end_the_script(with_gru):
    """It is named in each call of debug: the first one cannot know that it is none."""
    model = WithSorting(with_gru)
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    assert tui_gru.debug(model, optimizer, screen=False, name="step") is None
    for name, said in (
        ("step", "step (Sorting) is not captured: "),
        ("step", "step (Sorting) is not captured: "),
        (None, "nothing"),
    ):
        with warnings.catch_warnings(record=True) as warned:
            warnings.simplefilter("always")
            a_step(model, optimizer)
            s = tui_gru.debug(model, optimizer, screen=False, name=name)
        if name is None and with_gru:
            assert s.config.source.modules == ("gru",)
            assert s.config.batch_size == B  # of this batch alone
        else:
            assert said in str(warned[-1].message)
            assert s is None
    with pytest.raises(TuiGruError, match="there is no module 'stop' in it"):
        tui_gru.debug(model, optimizer, screen=False, name="stop")
    forget(model)


def test_an_optimizer_and_a_head_given_later_are_captured_from_then_on(model):
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    assert tui_gru.debug(model, screen=False) is None
    a_step(model, optimizer)
    s = tui_gru.debug(model, optimizer, model.head, screen=False)
    assert s.notice.endswith(
        "The optimizer and the head of this call are captured from the next batch on; give them to the first call as well."
    )
    assert "logits" not in s.program_text()
    a_step(model, optimizer)
    s = tui_gru.debug(model, optimizer, model.head, screen=False)
    assert "captured from" not in s.notice
    assert "The optimizer did not run" not in s.notice
    assert "logits" in s.program_text()
    a_step(model, optimizer)
    s = tui_gru.debug(model, screen=False)
    assert "captured from" not in s.notice
    assert "logits" in s.program_text()
    a_step(model, optimizer)
    assert tui_gru.debug(model, torch.optim.Adam(model.parameters()), screen=False).notice.endswith(
        "The optimizer of this call is captured from the next batch on; give it to the first call as well."
    )
    a_step(model, optimizer)
    with pytest.raises(TuiGruError, match="optimizer must be a"):
        tui_gru.debug(model, 3, screen=False)


def test_a_call_without_numbers_says_why_nothing_is_shown():
    gru = torch.nn.GRU(3, 4, device="meta")
    tui_gru.debug(gru, screen=False)
    gru(torch.randn(5, 2, 3, device="meta"))
    with pytest.warns(UserWarning, match="nothing can be shown: a call on tensors without own numbers"):
        assert tui_gru.debug(gru, screen=False) is None
    forget(gru)


def test_the_script_computes_what_it_would_without(model):
    def run(watch):
        torch.manual_seed(7)
        other = Model(num_layers=2, dropout=0.5)

        class Run:
            def step(self, loss=None):
                if watch:
                    tui_gru.debug(other, optimizer_of[0], screen=False)

        optimizer_of = []

        def begin(module, optimizer):
            optimizer_of.append(optimizer)
            return Run()

        weights = [p.detach().numpy().copy() for p in trained(other, begin, steps=4)]
        forget(other)
        return weights

    for ours, theirs in zip(run(True), run(False), strict=True):
        assert np.array_equal(ours, theirs)


SCRIPT = """
import torch, tui_gru
gru = torch.nn.GRU(3, 4)
for _ in range(2):
    gru(torch.randn(5, 2, 3))[0].sum().backward()
    tui_gru.debug(gru)
print("went on")
"""


def test_without_a_terminal_the_script_goes_on_and_the_recording_is_offered(monkeypatch, capsys):
    with open(os.devnull, encoding="utf-8") as nothing:
        monkeypatch.setattr("sys.stdin", nothing)
        exec(SCRIPT, {})
    done = capsys.readouterr()
    assert done.out == "went on\n"
    first, second = done.err.splitlines()
    assert first == WATCHING
    assert "is not a terminal" in second
    assert "tui_gru.record" in second


def test_a_notebook_is_offered_the_session_and_the_recording(model, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "ipykernel", object())
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    tui_gru.debug(model, optimizer)
    a_step(model, optimizer)
    s = tui_gru.debug(model, optimizer)
    assert s.learning
    said = capsys.readouterr().err.splitlines()
    assert said == [WATCHING, f"tui_gru.debug: a notebook is not a terminal: {INSTEAD}"]


def test_the_first_call_after_a_batch_says_that_it_is_not_kept(model, capsys):
    """The module has only its weights and their gradients, not the values that the GRU computed."""
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    a_step(model, optimizer)
    assert tui_gru.debug(model, optimizer, screen=False) is None
    assert capsys.readouterr().err == f"{WATCHING}\n"
    assert "PyTorch does not keep what a GRU has computed" in WATCHING
    a_step(model, optimizer)
    assert tui_gru.debug(model, optimizer, screen=False).learning
    assert capsys.readouterr().err == ""


def test_what_is_no_module_is_refused():
    with pytest.raises(TuiGruError, match=r"module must be a torch\.nn\.Module"):
        tui_gru.debug(3)
    with pytest.raises(TuiGruError, match="optimizer"):
        tui_gru.debug(torch.nn.GRU(2, 2), 3)


def test_what_if_says_by_how_much_the_loss_would_change_to_first_order(model):
    """The head and the loss are the script's, so the change follows only from the gradient of the output."""
    optimizer = torch.optim.SGD(model.parameters(), 0.0)
    tui_gru.debug(model, optimizer, screen=False)
    x = torch.randn(T, B, 4)
    before = a_step(model, optimizer, x=x).item()
    s = tui_gru.debug(model, optimizer, screen=False)
    s.seek(s.end)
    was = float(s.parameter("Uz_l0")[1, 2])
    found = s.what_if("Uz_l0", (1, 2), was + 1e-2)
    with torch.no_grad():
        model.rnn.weight_hh_l0[5 + 2, 1] += 1e-2
    after = loss_of(model(x)[0]).item()
    assert found.first_order == pytest.approx(after - before, rel=0.05, abs=1e-7)
    assert Session().what_if("Wz", (0, 0), 1.0).first_order is None


@pytest.mark.parametrize("both", [False, True], ids=["one way", "both ways"])
@pytest.mark.parametrize("of", ["output", "last states", "both"])
def test_what_if_counts_every_way_to_the_loss(of, both):
    """The loss is linear in the output and in the last states, so that central differences are its gradient."""
    torch.manual_seed(3)
    gru = torch.nn.GRU(3, 4, 2, bidirectional=both, dtype=torch.float64)
    x = torch.randn(5, 2, 3, dtype=torch.float64)
    factors = [torch.randn_like(each) for each in gru(x)]
    used = {"output": [True, False], "last states": [False, True], "both": [True, True]}[of]

    def loss():
        return sum((each * factor).sum() for each, factor, is_used in zip(gru(x), factors, used, strict=True) if is_used)

    optimizer = torch.optim.SGD(gru.parameters(), 0.0)
    tui_gru.debug(gru, optimizer, screen=False)
    loss().backward()
    optimizer.step()
    s = tui_gru.debug(gru, optimizer, screen=False)
    s.seek(s.end)
    forget(gru)
    size = 1e-5
    for name, index, theirs in (("Uz_l0", (1, 2), "weight_hh_l0"), ("Uh_l1", (3, 0), "weight_hh_l1")):
        was, first = float(s.parameter(name)[index]), {"Uz_l0": 4, "Uh_l1": 8}[name]  # torch stacks r, z and n
        found = [s.what_if(name, index, was + change).first_order for change in (size, -size)]
        losses = []
        with torch.no_grad():
            for change in (size, -2 * size):
                getattr(gru, theirs)[first + index[1], index[0]] += change
                losses.append(loss().item())
            getattr(gru, theirs)[first + index[1], index[0]] += size
        assert found[0] - found[1] == pytest.approx(losses[0] - losses[1], rel=1e-6, abs=1e-12), name
