"""One flat vector, and every parameter by name a view of it."""

from __future__ import annotations

import numpy as np
import pytest

from tests.engine.checking import random_config, random_parameters

SHAPES = {"W": (5, 3), "U": (3, 3), "b": (3,)}


def shape(name):
    return {"Wy": (3, 5), "by": (5,)}.get(name, SHAPES[name[0]])


@pytest.mark.parametrize("reset", ["before", "after"])
def test_the_names_share_out_the_vector(reset):
    parameters = random_parameters(random_config(reset=reset))
    for name, value in parameters.items():
        assert value.shape == shape(name), name
        assert np.shares_memory(value, parameters.flat)
        value += 1000  # each entry must be reached once
    assert ((parameters.flat > 900) & (parameters.flat < 1100)).all()
    assert [name for name, _ in parameters.items()] == list(parameters.names)


@pytest.mark.parametrize("reset", ["before", "after"])
def test_the_recurrent_part_is_all_but_the_output(reset):
    parameters = random_parameters(random_config(reset=reset))
    parameters.recurrent[...] = 0
    for name, value in parameters.items():
        assert value.any() == (name in ("Wy", "by")), name


def test_the_fused_matrices_are_the_named_ones_side_by_side():
    p = random_parameters(random_config(reset="after"))
    np.testing.assert_array_equal(p.W, np.hstack([p["Wz"], p["Wr"], p["Wh"]]))
    np.testing.assert_array_equal(p.U, np.hstack([p["Uz"], p["Ur"], p["Uh"]]))
    np.testing.assert_array_equal(p.b, np.hstack([p["bz"], p["br"], p["bh"]]))
    np.testing.assert_array_equal(p.c, np.hstack([p["bhz"], p["bhr"], p["bhn"]]))
    np.testing.assert_array_equal(p.Ur_T, p["Ur"].T)


def test_a_copy_is_its_own():
    parameters = random_parameters(random_config())
    copy = parameters.copy()
    copy["Uh"][0, 1] = 99
    assert parameters["Uh"][0, 1] != 99
    assert copy.names == parameters.names


@pytest.mark.parametrize(("reset", "name"), [("before", "bhn"), ("before", "Wx"), ("after", "Bz"), ("after", "h")])
def test_an_unknown_name(reset, name):
    with pytest.raises(KeyError, match=name):
        random_parameters(random_config(reset=reset))[name]
