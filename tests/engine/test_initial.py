"""Initial weights equal those that PyTorch draws, bit for bit."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
import torch

from tui_gru import torch_loading
from tui_gru.engine.config import Config
from tui_gru.engine.training import initial_weights

VOCABULARY = "".join(map(chr, range(0x4E00, 0x4E00 + 96)))


def model(V, H, seed, **options):
    """Return a config of these sizes that draws as the tutorial does."""
    vocabulary = VOCABULARY[:V]
    return Config.of(text=vocabulary * 7, vocabulary=vocabulary, hidden_size=H, seed=seed, **{"init": "tutorial", **options})


def drawn_as_the_tutorial_does(V, H, seed):
    torch.manual_seed(seed)
    shapes = {"Wz": (V, H), "Wr": (V, H), "Wh": (V, H), "Uz": (H, H), "Ur": (H, H), "Uh": (H, H), "Wy": (H, V)}
    return {name: torch.randn(shape).numpy() for name, shape in shapes.items()}


def assert_same_bits(ours, theirs):
    """Check that the matrices are these, in their order, and that everything else is zero."""
    drawn = {name: value for name, value in ours.items() if value.ndim == 2}
    assert list(drawn) == list(theirs)
    for name, value in theirs.items():
        assert drawn[name].dtype == value.dtype
        assert drawn[name].shape == value.shape
        assert drawn[name].tobytes() == value.tobytes(), name
    assert not any(value.any() for name, value in ours.items() if name not in theirs)


@pytest.mark.parametrize("config", [Config.of(), model(4, 2, 1)], ids=["tutorial", "another text"])
def test_shipped_weights(config):
    assert_same_bits(initial_weights(config), drawn_as_the_tutorial_does(4, 2, 1))


@pytest.mark.parametrize("sizes", [(4, 2, 1), (4, 2, 2), (7, 5, 0), (33, 17, 12345), (96, 64, 2**63 - 1)])
def test_drawn_weights(sizes):
    assert_same_bits(initial_weights(model(*sizes)), drawn_as_the_tutorial_does(*sizes))


@pytest.mark.parametrize("sizes", [(4, 2, 2), (3, 3, 5), (4, 4, 1), (7, 5, 0), (33, 17, 12345), (96, 64, 2**63 - 1)])
def test_without_torch_the_same_numbers_are_drawn_up_to_rounding(sizes, monkeypatch):
    monkeypatch.setattr(torch_loading, "is_installed", lambda: False)
    for name, expected in drawn_as_the_tutorial_does(*sizes).items():
        ours = initial_weights(model(*sizes))[name]
        # torch may round an angle up to 2π to float32, and turns a radius up to √(−2 log 2⁻²⁴) = 5.8 by it.
        allowed = np.finfo(np.float32).eps * (2 * np.pi * 5.8 if expected.size >= 16 else 5.8)
        np.testing.assert_allclose(ours, expected, rtol=0, atol=allowed, err_msg=name)


def test_drawing_leaves_pytorchs_own_generator_alone():
    torch.manual_seed(3)
    expected = torch.rand(1)
    torch.manual_seed(3)
    initial_weights(model(7, 5, 0))
    assert torch.rand(1) == expected


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
@pytest.mark.parametrize("reset", ["before", "after"])
@pytest.mark.parametrize("sizes", [(4, 2, 1), (5, 3, 0)], ids=["tutorial", "drawn"])
def test_a_fresh_model(sizes, reset, optimizer):
    ours = initial_weights(model(*sizes, reset=reset, dtype="float64", optimizer=optimizer))
    drawn = drawn_as_the_tutorial_does(*sizes)
    assert {"bz", "br", "bh", "by", *drawn} <= set(ours.names)
    assert ("bhn" in ours.names) == (reset == "after")
    for name, value in ours.items():
        assert value.dtype == np.float64
        np.testing.assert_array_equal(value, drawn.get(name, 0))
    assert ours.updates == 0
    assert not ours.flat[ours.layout.count :].any()


def test_the_tutorials_model_starts_without_torch():
    program = (
        "import sys; from tui_gru.engine.config import Config; from tui_gru.engine.training import initial_weights\n"
        "import tui_gru.engine.reference\n"
        "initial_weights(Config.of()); sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


OWN = "state h : H\nparameters Wf g = 1 bf = −0.5 Uf\nf = σ(g ⊙ (x Wf + h_prev Uf) + bf)\nh = f ⊙ h_prev + (1 − f) ⊙ x Wf\n"


@pytest.mark.parametrize("init", ["tutorial", "torch"])
@pytest.mark.parametrize("layers", [1, 2])
def test_a_number_in_the_equations_is_what_all_entries_begin_with(init, layers):
    """The other weights are drawn as without it."""
    ours, without = (
        initial_weights(model(6, 5, 3, init=init, layers=layers, cell="my.cell", cell_text=text))
        for text in (OWN, OWN.replace("g = 1", "g").replace("bf = −0.5", "bf"))
    )
    for name, value in ours.items():
        wanted = {"g": 1, "bf": -0.5}.get(name.partition("_l")[0])
        np.testing.assert_array_equal(value, without[name] if wanted is None else wanted, err_msg=name)


# As torch's own modules do


def bounds(config):
    """Return the largest absolute value that a draw can have, by name."""
    H, reads = config.hidden_size, config.hidden_size * (2 if config.bidirectional else 1)
    return {name: (reads if name in ("Wy", "by") else H) ** -0.5 for name in config.model.parameters if name != "E"}


@pytest.mark.parametrize("options", [{}, {"cell": "lstm", "layers": 2}, {"bidirectional": True}, {"embedding": 40}], ids=str)
def test_uniform_draws_within_torchs_bounds(options):
    config = model(50, 30, 3, init="torch", **options)
    ours = initial_weights(config)
    for name, bound in bounds(config).items():
        value = ours[name]
        assert np.abs(value).max() <= bound
        assert np.unique(value).size > 0.99 * value.size
        if value.size > 500:
            assert np.abs(value).max() > 0.98 * bound
            assert abs(value.mean()) < 4 * bound / np.sqrt(3 * value.size)
            assert value.std() == pytest.approx(bound / np.sqrt(3), rel=0.1)
    if config.embedding:
        assert ours["E"].mean() == pytest.approx(0, abs=4 / np.sqrt(ours["E"].size))
        assert ours["E"].std() == pytest.approx(1, rel=0.1)


def test_uniform_draws_are_those_of_torchs_generator():
    config = model(7, 5, 12345, init="torch")
    torch.manual_seed(12345)
    drawn = torch.cat([torch.rand(value.size) for _, value in initial_weights(config).items()]).numpy()
    expected = np.concatenate([np.full(value.size, bounds(config)[name]) for name, value in initial_weights(config).items()])
    np.testing.assert_allclose(initial_weights(config).parameters, (2 * drawn - 1) * expected, rtol=1e-5, atol=1e-8)


def test_the_seed_decides_the_draws():
    first, again, other = (initial_weights(model(7, 5, seed, init="torch")).tobytes() for seed in (1, 1, 2))
    assert first == again != other


def test_draws_like_torchs_need_no_torch():
    program = (
        "import sys; from tui_gru.engine.config import Config; from tui_gru.engine.training import initial_weights\n"
        "initial_weights(Config.of(text='hello world', embedding=3)); sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
