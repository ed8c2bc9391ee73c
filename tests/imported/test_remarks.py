"""Remarks on how a script uses its GRU."""

import pytest
import torch
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

import tui_gru
from tui_gru.imported.module import forget

T, B, IN, H = 5, 3, 4, 6
ZERO, DETACHED, ATTACHED = "No h0 was given", "h0 was given without a graph, as after detach()", "h0 was given with its graph"
LAST, PADDING = "Only the output of the last timestep gets a gradient", "The rows that are shorter than others get no gradient"


def said_of(gru, loss_of):
    """Return the remarks of a session on the batch with the loss `loss_of(gru)`."""
    tui_gru.debug(gru, screen=False)
    try:
        loss_of(gru).backward()
        return tui_gru.debug(gru, screen=False).remarks
    finally:
        forget(gru)


def x():
    return torch.randn(T, B, IN)


def padded(gru):
    packed = pack_padded_sequence(x(), torch.tensor([5, 3, 5]), enforce_sorted=False)
    return pad_packed_sequence(gru(packed)[0])[0]


CASES = {
    "no h0": (False, lambda gru: gru(x())[0].sum(), [ZERO]),
    "detached": (False, lambda gru: gru(x(), torch.randn(1, B, H))[0].sum(), [DETACHED]),
    "attached": (False, lambda gru: gru(x(), torch.randn(1, B, H, requires_grad=True))[0].sum(), [ATTACHED]),
    "carried through two calls": (False, lambda gru: gru(x(), gru(x())[1])[0].sum(), [ZERO]),
    "the last output of both directions": (True, lambda gru: gru(x())[0][-1].sum(), [ZERO, LAST]),
    "the last output of one direction": (False, lambda gru: gru(x())[0][-1].sum(), [ZERO]),
    "the last output of the forward half": (True, lambda gru: gru(x())[0][-1, :, :H].sum(), [ZERO]),
    "all outputs of both directions": (True, lambda gru: gru(x())[0].sum(), [ZERO]),
    "the last states of both directions": (True, lambda gru: gru(x())[1].sum(), [ZERO]),
    "the last output of padded rows": (False, lambda gru: padded(gru)[-1].sum(), [ZERO, PADDING]),
    "all outputs of padded rows": (False, lambda gru: padded(gru).sum(), [ZERO]),
    "the last output of each row": (False, lambda gru: padded(gru)[torch.tensor([4, 2, 4]), torch.arange(3)].sum(), [ZERO]),
}


@pytest.mark.parametrize("what", CASES)
def test_a_script_is_told_what_it_does(what):
    both, loss_of, expected = CASES[what]
    torch.manual_seed(2)
    said = said_of(nn.GRU(IN, H, bidirectional=both), loss_of)
    assert [words for words in (ZERO, DETACHED, ATTACHED, LAST, PADDING) if words in said] == expected
    assert "  " not in said


DETACHES, SETS = "Between timesteps the script detached the state", "Between timesteps the script computes the state of some rows"
BETWEEN = {
    "nothing": (lambda h, new, t: new, []),
    "detached": (lambda h, new, t: new.detach(), [DETACHES]),
    "zoneout of rows": (lambda h, new, t: torch.where(torch.arange(B)[:, None] == t % B, h, new), [SETS]),
    "some rows begin anew": (lambda h, new, t: new * (torch.arange(B)[:, None] != t % B), [SETS]),
    "both": (lambda h, new, t: new.detach() if t == 2 else torch.where(torch.arange(B)[:, None] == 1, h, new), [DETACHES, SETS]),
}


@pytest.mark.parametrize("what", BETWEEN)
def test_only_a_state_without_a_graph_is_called_detached(what):
    between, expected = BETWEEN[what]

    def loss(cell):
        h, total = torch.zeros(B, H), 0
        for t, x_t in enumerate(x()):
            new = cell(x_t, h)
            total = total + new.square().sum()
            h = between(h, new, t)
        return total

    torch.manual_seed(2)
    said = said_of(nn.GRUCell(IN, H), loss)
    assert [words for words in (DETACHES, SETS) if words in said] == expected
    assert "p.grad is the derived gradient, neither clipped nor scaled" in said
