"""A record holds everything of a batch under the names that people read."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from tui_gru.engine.backward import gradients_from
from tui_gru.engine.record import BACKWARD_NAMES, FORWARD_NAMES

from tests.engine.checking import epoch, random_config
from tui_gru.engine.config import RESETS

T, B, H, V = 4, 2, 3, 5
WIDTHS = {"x": V, "y": V, "logits": V, "y_hat": V, "term1": V, "dlogits": V}


def shape(name):
    return {"term2": (T, B), "term3": (T,)}.get(name, (T, B, WIDTHS.get(name, H)))


@pytest.fixture(params=RESETS)
def record(request):
    (record, _), *_ = epoch(random_config(reset=request.param, dtype="float64"))
    return record


def test_every_name_has_its_shape(record):
    foreign = "dm" if record.parameters.reset == "before" else "drh"
    for name in (*FORWARD_NAMES, *BACKWARD_NAMES):
        if name == foreign:
            with pytest.raises(KeyError, match=name):
                record.array(name)
        else:
            assert record.array(name).shape == shape(name), name


@pytest.mark.parametrize("name", ["flow", "a", "nonsense", "Wz"])
def test_an_unknown_name(record, name):
    with pytest.raises(KeyError, match=name):
        record.array(name)


def test_the_parts_add_up(record):
    a = record.array
    np.testing.assert_allclose(a("dh"), a("dh_output") + a("dh_future"), rtol=1e-12)
    np.testing.assert_allclose(
        a("dh_prev"), a("dh_carry") + a("dh_candidate") + a("dh_update") + a("dh_reset"), rtol=1e-12, atol=1e-15
    )
    np.testing.assert_array_equal(a("dh_future")[:-1], a("dh_prev")[1:])
    np.testing.assert_array_equal(a("dh_future")[-1], np.zeros((B, H)))
    np.testing.assert_array_equal(a("h_prev")[1:], a("h")[:-1])


def test_a_copy_is_its_own(record):
    copy = record.copy()
    for name in copy.activations.owned:
        getattr(copy.activations, name)[...] = 1
    for name in copy.deltas.owned:
        getattr(copy.deltas, name)[...] = 1
    copy.gradients.flat[...] = 1
    (again, _), *_ = epoch(record.activations.config)
    for name in record.activations.owned:
        np.testing.assert_array_equal(getattr(record.activations, name), getattr(again.activations, name))
    for name in record.deltas.owned:
        np.testing.assert_array_equal(getattr(record.deltas, name), getattr(again.deltas, name))
    np.testing.assert_array_equal(record.gradients.flat, again.gradients.flat)


def test_gradients_grow_from_the_last_timestep_to_the_first(record):
    sums = [gradients_from(record, start) for start in range(T, -1, -1)]
    assert not sums[0].flat.any()
    assert sums[-1].flat.tobytes() == record.gradients.flat.tobytes()
    for t, (later, now) in enumerate(pairwise(sums)):
        step = T - 1 - t
        share = now.flat - later.flat
        h_prev, daz = record.array("h_prev")[step], record.array("daz")[step]
        np.testing.assert_allclose(now.like(share)["Uz"], h_prev.T @ daz, rtol=1e-10, atol=1e-14)
        np.testing.assert_allclose(now.like(share)["by"], record.array("dlogits")[step].sum(0), rtol=1e-10, atol=1e-14)
