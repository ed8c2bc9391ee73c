"""Derivations in imported runs: every number adds up at every position."""

import random

import numpy as np
import pytest
import torch
from torch import nn

import tui_gru
from tests.capture.runs import trained
from tests.capture.scripts import Model, loss_of
from tests.debugger.deriving import assert_adds_up, numbers_here
from tui_gru import Session
from tui_gru.imported.module import forget


def of_a_file(tmp_path):
    torch.manual_seed(1)
    torch.save(nn.GRU(3, 4, 2, bidirectional=True).state_dict(), tmp_path / "m.pt")
    return tui_gru.load(tmp_path / "m.pt", inputs=torch.randn(4, 2, 3), h0=torch.randn(4, 2, 4), lengths=[4, 2])


def of_another_convention(tmp_path):
    torch.manual_seed(2)
    torch.save(nn.GRU(3, 4).state_dict(), tmp_path / "m.pt")
    return tui_gru.load(tmp_path / "m.pt", inputs=2 * torch.randn(4, 2, 3), reset="before", z="takes", gate="hard_sigmoid")


def of_tokens(tmp_path):
    torch.manual_seed(2)
    torch.save(nn.GRU(3, 4).state_dict(), tmp_path / "m.pt")
    return tui_gru.load(tmp_path / "m.pt", inputs=torch.randint(0, 5, (4, 2)), embedding=torch.randn(5, 3))


def of_a_module(tmp_path):
    torch.manual_seed(3)
    model = Model(num_layers=2, dropout=0.5)
    tui_gru.debug(model, screen=False)
    loss_of(model(torch.randn(5, 2, 4))[0]).backward()
    session = tui_gru.debug(model, screen=False)
    forget(model)
    return session


def of_a_recording(tmp_path):
    trained(tmp_path / "run.gru", steps=5, every=2)
    return Session.open(tmp_path / "run.gru")


@pytest.mark.parametrize("make", [of_a_file, of_another_convention, of_tokens, of_a_module, of_a_recording])
def test_every_number_adds_up(tmp_path, make):
    session, chance = make(tmp_path), random.Random(5)
    checked = 0
    for tick in [*sorted(chance.sample(range(1, session.end.tick + 1), 12)), session.end.tick]:
        session.seek(tick)
        for name, index, value in numbers_here(session, chance, most=12):
            if name in ("loss", "learning_rate"):
                continue
            node = session.explain(name, index)
            assert node.value == value or np.isnan(value)
            checked += assert_adds_up(node, 3, session.config.dtype)
    assert checked > 100
