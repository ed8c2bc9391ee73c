"""Several modules in one batch or recording: from one to another, and along the state that the one hands on to the other."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import tui_gru
from tests.capture.scripts import IN, B, H, Seq2seq, T, loss_of
from tests.tui.test_main_screen import driving_app
from tui_gru.debugger.derivation import ValueRef
from tui_gru.imported.module import forget
from tui_gru.session.opening import on_recording, other_module
from tui_gru.session.session import Session
from tui_gru.tui.app import make_app
from tui_gru.tui.panels.derivation import DerivationPanel


class Layered(nn.Module):
    """The decoder begins with the last states of both layers of the encoder, forwards; h and c of an LSTM."""

    def __init__(self) -> None:
        super().__init__()
        self.decoder, self.encoder = nn.LSTM(IN, H, 2), nn.LSTM(IN, H, 2, bidirectional=True)  # not in the order of their calls

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        h, c = self.encoder(x)[1]
        return torch.as_tensor(self.decoder(x[:3], (h[::2].contiguous(), c[::2].contiguous()))[0])


def trained(model: nn.Module, begin: object = None, steps: int = 1) -> None:
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    for _ in range(steps):
        optimizer.zero_grad()
        loss = loss_of(model(torch.randn(T, B, IN)))
        loss.backward()
        optimizer.step()
        if isinstance(begin, tui_gru.Recorder):
            begin.step(loss)


def captured(model: nn.Module, name: str | None = None) -> Session:
    torch.manual_seed(3)
    tui_gru.debug(model, screen=False)
    trained(model)
    s = tui_gru.debug(model, screen=False, name=name)
    assert s is not None
    forget(model)
    notice = s.notice
    s.seek(s.end)
    s.notice = notice
    return s


def recorded(tmp_path: Path, steps: int = 3) -> Path:
    torch.manual_seed(3)
    model = Seq2seq()
    with tui_gru.record(tmp_path / "run.gru", model, every=1) as recorder:
        trained(model, recorder, steps)
    return tmp_path / "run.gru"


def at(s: Session, name: str, index: tuple[int, ...], t: int) -> ValueRef:
    return ValueRef(name, index, t, s.position.tick)


def test_modules_are_in_the_order_of_their_calls() -> None:
    s = captured(Layered())
    assert (s.config.source.module, s.config.source.modules) == ("decoder", ("encoder", "decoder"))
    assert "Also captured: encoder; name= or :module shows another." in s.notice
    other = other_module(s)
    assert other.notice.startswith("encoder of your script: p.grad is the derived gradient")
    assert (other.config.source.module, other.position.tick) == ("encoder", other.end.tick)
    assert other_module(other).config.source.module == "decoder"
    assert other_module(s, "encoder").notice == "encoder of your script"


def test_every_first_state_leads_to_the_last_state_of_the_encoder() -> None:
    s = captured(Layered())
    assert "The first h_l1 is the last state of encoder, and its gradient goes on there." in s.notice
    encoder = other_module(s)
    assert "The last c_l0 is the first state of decoder." in encoder.notice
    for name in ("h_l0", "c_l0", "h_l1", "c_l1"):
        begin = s.derive(at(s, f"{name[0]}_prev{name[1:]}", (1, 2), 0))
        link = begin.derivation.link
        assert link is not None
        assert (link.module, link.name, link.t) == ("encoder", name, T - 1)
        np.testing.assert_allclose(begin.value, encoder.value(link.name, t=link.t)[1, 2], rtol=1e-6)
    assert s.derive(at(s, "h_prev_l0", (1, 2), 1)).derivation.link is None


def test_the_gradient_of_the_encoders_last_state_is_what_the_decoder_hands_back() -> None:
    encoder = captured(Layered(), "encoder")
    decoder = other_module(encoder)
    for name in ("h_l0", "c_l0", "h_l1", "c_l1"):
        terms = [encoder.derive(at(encoder, f"d{name}", (1, 2), T - 1))]
        while (handed := next((each for each in terms if each.derivation.link is not None), None)) is None:
            terms = [term for each in terms for term in each.terms]
        link = handed.derivation.link
        assert link is not None
        assert (link.module, link.name, link.t) == ("decoder", f"d{name[0]}_prev{name[1:]}", 0)
        np.testing.assert_allclose(handed.value, decoder.value(link.name, t=0)[1, 2], rtol=1e-5, atol=1e-9)
        assert "which decoder begins with" in handed.derivation.note
    reverse = encoder.derive(at(encoder, "h_next_l1_reverse", (0, 0), T - 1))
    assert reverse.derivation.link is None


def test_unlike_states_are_not_linked() -> None:
    class Bridge(Seq2seq):
        def forward(self, x: torch.Tensor, steps: int = 4) -> torch.Tensor:
            h = 2 * self.encoder(x)[1][0]
            return torch.stack([h := self.cell(x[t, :, :2], h) for t in range(steps)])

    s = captured(Bridge())
    assert s.config.source.modules == ("encoder", "cell")
    assert s.derive(at(s, "h_prev", (0, 1), 0)).derivation.note == "h as given with the batch: h0"
    assert "The first" not in s.notice


def test_a_run_of_one_module_says_that_there_is_no_other() -> None:
    model = nn.GRU(IN, H)
    tui_gru.debug(model, screen=False)
    model(torch.randn(T, B, IN))
    s = tui_gru.debug(model, screen=False)
    forget(model)
    for session in (s, Session()):
        assert session is not None
        with pytest.raises(tui_gru.TuiGruError, match="this run has one module only"):
            other_module(session)


def test_modules_of_a_recording_at_the_same_step(tmp_path: Path) -> None:
    s = on_recording(recorded(tmp_path))
    assert s.config.source.modules == ("encoder", "cell")
    s.seek("step 1 t3")
    other = other_module(s)
    assert (other.config.source.module, other.position.batch, other.position.t) == ("cell", 1, 2)
    other.seek("step 2")
    assert other_module(other).position.batch == 2
    other.seek(0)
    assert other_module(other).position.tick == 0
    with pytest.raises(tui_gru.TuiGruError, match="there is no module 'sell'; did you mean cell"):
        other_module(s, "sell")


def test_a_step_in_which_a_module_has_nothing_gives_way_to_the_nearest(tmp_path: Path) -> None:
    torch.manual_seed(3)
    model = Seq2seq()
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    with tui_gru.record(tmp_path / "run.gru", model, optimizer, every=1) as recorder:
        for step in range(4):
            h = model.encoder(torch.randn(T, B, IN))[1][0]
            (h if step < 2 else model.cell(torch.randn(B, 2), h)).sum().backward()
            optimizer.step()
            recorder.step(1.0)
    s = on_recording(tmp_path / "run.gru", "encoder")
    s.seek("step 0 t2")
    other = other_module(s, "cell")
    assert other.steps == (2, 3)
    assert other.position.batch == 0
    assert other.config.source.modules == ("encoder", "cell")


def test_what_was_changed_in_a_module_stays(tmp_path: Path) -> None:
    s = on_recording(recorded(tmp_path))
    s.seek("step 1 t3")
    s.edit("h", (0, 0), 0.5)
    other = other_module(s)
    assert other_module(other) is s
    assert s.value("h")[0, 0] == 0.5
    assert other_module(s) is other


async def test_keys_go_from_module_to_module_and_along_the_state(tmp_path: Path) -> None:
    session = on_recording(recorded(tmp_path), "cell")
    async with driving_app(make_app(session), (120, 36)) as d:
        await d.type("s", "M")
        assert d.screen.session.config.source.module == "encoder"
        assert d.says.startswith("encoder of run.gru: ")
        await d.type("M", ":")
        await d.type(*"module cell", "enter")
        assert d.screen.session.config.source.module == "cell"
        await d.type(":")
        await d.type(*"why h[1,2] t 1", "enter")
        panel = d.screen.overlay
        assert isinstance(panel, DerivationPanel)
        at = next(i for i, row in enumerate(panel.rows) if row.node and row.node.number and row.node.number.name == "h_prev")
        panel.move_to(at)
        await d.type("enter")
        assert d.screen.session.config.source.module == "encoder"
        assert panel.leaf.root.number is not None
        assert (panel.leaf.root.number.name, panel.leaf.place.t) == ("h", T - 1)
        assert d.screen.session.position.t == T - 1
        await d.type("backspace")
        assert d.screen.session.config.source.module == "cell"
        assert panel.leaf.root.label.startswith("h[")
