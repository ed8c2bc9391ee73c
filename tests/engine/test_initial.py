"""Initial weights are those that PyTorch draws, bit for bit."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
import torch

from tests.engine.checking import random_config
from tui_gru.engine.config import Config
from tui_gru.engine.initial import draw, initial_parameters, shipped


def drawn_as_the_tutorial_does(V, H, seed):
    torch.manual_seed(seed)
    shapes = {"Wz": (V, H), "Wr": (V, H), "Wh": (V, H), "Uz": (H, H), "Ur": (H, H), "Uh": (H, H), "Wy": (H, V)}
    return {name: torch.randn(shape).numpy() for name, shape in shapes.items()}


def assert_same_bits(ours, theirs):
    assert list(ours) == list(theirs)
    for name, value in theirs.items():
        assert ours[name].dtype == value.dtype
        assert ours[name].shape == value.shape
        assert ours[name].tobytes() == value.tobytes(), name


def test_shipped_weights():
    assert_same_bits(shipped(), drawn_as_the_tutorial_does(4, 2, 1))


@pytest.mark.parametrize("sizes", [(4, 2, 1), (4, 2, 2), (7, 5, 0), (33, 17, 12345), (96, 64, 2**63 - 1)])
def test_drawn_weights(sizes):
    assert_same_bits(draw(*sizes), drawn_as_the_tutorial_does(*sizes))


def test_drawing_leaves_pytorchs_own_generator_alone():
    torch.manual_seed(3)
    expected = torch.rand(1)
    torch.manual_seed(3)
    draw(7, 5, 0)
    assert torch.rand(1) == expected


@pytest.mark.parametrize("reset", ["before", "after"])
@pytest.mark.parametrize("config", [Config.of(), random_config()], ids=["tutorial", "drawn"])
def test_a_fresh_model(config, reset):
    config = Config.of(**{**vars(config), "reset": reset, "dtype": "float64"})
    parameters = initial_parameters(config)
    weights = drawn_as_the_tutorial_does(config.vocab_size, config.hidden_size, config.seed)
    for name, value in parameters.items():
        assert value.dtype == np.float64
        np.testing.assert_array_equal(value, weights.get(name, 0))


def test_the_tutorials_model_starts_without_torch():
    program = (
        "import sys; from tui_gru.engine.config import Config; from tui_gru.engine.initial import initial_parameters\n"
        "import tui_gru.engine.reference\n"
        "initial_parameters(Config.of()); sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
