"""What is kept of GPUs, with stand-ins for their functions: the states of their generators, and memory for the states of a loop."""

import types

import pytest
import torch

import tui_gru
from tests.rewind.loops import Net, batches
from tui_gru.rewind.loop import MOST_MEMORY, TrainingLoop
from tui_gru.rewind.states import Generators, RewindError, free_memory

GPU = torch.device("cuda", 0)


def test_the_generators_of_all_devices_are_kept_and_put_back(monkeypatch):
    numbers = [torch.tensor([1], dtype=torch.uint8), torch.tensor([2], dtype=torch.uint8)]
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_rng_state_all", lambda: [each.clone() for each in numbers])
    monkeypatch.setattr(torch.cuda, "set_rng_state_all", lambda states: numbers.__setitem__(slice(None), states))
    kept = Generators.now()
    numbers[1] += 5
    kept.put()
    assert [each.item() for each in numbers] == [1, 2]


def test_states_on_a_gpu_take_of_its_memory(monkeypatch):
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (800 << 20, 900 << 20))
    assert free_memory({GPU, torch.device("cpu")}) == 800 << 20
    loop = TrainingLoop((), keep=32, also=(), body=None)
    state = types.SimpleNamespace(bytes=20 << 20, devices={GPU})
    loop._choose_spacing(state, 0.0)  # noqa: SLF001
    assert loop._spacing == 8  # noqa: SLF001  # four of 20 MiB beside the last one, in an eighth of 800
    state.bytes = 60 << 20
    loop._choose_spacing(state, 0.0)  # noqa: SLF001
    assert loop._spacing == 32  # noqa: SLF001
    assert MOST_MEMORY > 800 << 17
    state.bytes = 500 << 20
    with pytest.raises(RewindError, match=r"two states of this loop need 1.0 GB and 0.8 GB are free"):
        loop._choose_spacing(state, 0.0)  # noqa: SLF001


def test_steps_that_differ_on_a_gpu_are_told_with_its_way_to_repeat_them():
    model, said = Net(), []
    optimizer = torch.optim.SGD(model.parameters(), 1e-2)

    def attempt(run):
        for state in run._loop.states.values():  # noqa: SLF001
            state.devices = {GPU}
        said.append(run._loop.reason_to_differ())  # noqa: SLF001

    for x, y in tui_gru.steps(batches(4), model, optimizer, pause=3, screen=attempt):
        optimizer.zero_grad()
        (model(x)[0] - y).pow(2).mean().backward()
        optimizer.step()
    assert "torch.use_deterministic_algorithms(True)" in said[0]
