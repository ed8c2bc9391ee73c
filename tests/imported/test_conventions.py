"""Equations of every convention: their states equal those of plain formulas on the numbers as stored."""

from itertools import product

import numpy as np
import pytest

import tui_gru
from tests.imported.running import run
from tests.rounding import of_found
from tui_gru.equations.functions import GATE_NAMES
from tui_gru.files.kinds import RESETS, Z_MEANINGS, Convention
from tui_gru.imported.inspect import inspect
from tui_gru.imported.recompute import cell_in

T, B, INPUTS, H = 5, 3, 2, 4
CONVENTIONS = list(product(RESETS, Z_MEANINGS, GATE_NAMES))


@pytest.fixture
def stored(tmp_path, random):
    """Return a file of stacked gates, with numbers that are large enough to saturate a hard gate sometimes."""

    def stored(dtype=np.float32):
        path = tmp_path / "model.npz"
        shapes = {"g_W": (3 * H, INPUTS), "g_U": (3 * H, H), "g_b": (3 * H,), "g_bh": (3 * H,)}
        np.savez(path, **{name: (2 * random.normal(size=shape)).astype(dtype) for name, shape in shapes.items()})
        return path

    return stored


@pytest.mark.parametrize(("reset", "z", "gate"), CONVENTIONS)
def test_the_states_are_those_of_the_convention(stored, random, reset, z, gate):
    path, x = stored(), random.normal(size=(T, B, INPUTS)).astype(np.float32)
    h0 = random.normal(size=(1, B, H)).astype(np.float32)
    given = {"order": "zrn", "reset": reset, "z": z, "gate": gate}
    s = tui_gru.load(path, inputs=x, h0=h0, **given)
    s.step("batch")
    (found,) = inspect(path, **given)
    wanted = run(found, x, h0)
    ours = np.stack([s.value("h", t=t) for t in range(T)])
    assert np.abs(ours - wanted).max() < of_found(found, x, h0) * max(1, np.abs(wanted).max())
    # No weight is negated: the update gate is shown with the meaning that it has in the file.
    with np.load(path) as arrays:
        assert np.array_equal(s.parameter("Uz"), arrays["g_U"][:H].T)
    assert s.expected is None


@pytest.mark.parametrize(("reset", "z", "gate"), CONVENTIONS)
def test_the_listing_says_the_convention(stored, reset, z, gate):
    text = tui_gru.load(stored(), order="zrn", reset=reset, z=z, gate=gate).program_text()
    assert ("(r⊙hₜ₋₁) Uh" in text) == (reset == "before")
    assert ("(1 − z)⊙hₜ₋₁ + z⊙h̃" in text) == (z == "takes")
    assert {"sigmoid": "z = σ(", "hard_sigmoid": "z = clamp(0.2", "hard_sigmoid_6": "/6 + 0.5)"}[gate] in text.replace(" / ", "/")


def test_a_convention_that_ships_is_the_cell_that_ships():
    assert cell_in(Convention("rzn", "after")) == ("gru-reset-after", "")
    assert cell_in(Convention("zrn", "before")) == ("gru", "")
    assert cell_in(Convention("zrn", "before", "takes")) == ("gru-cho", "")


def test_a_note_says_what_z_means_here():
    name, text = cell_in(Convention("zrn", "after", "takes", "hard_sigmoid"))
    assert name == "gru, reset after, z takes, hard_sigmoid"
    assert "near 1 takes the candidate" in text
    assert "near 1 keeps the old state" not in text
