"""The table of what runs on a device, on the CPU."""

from tests import gpu


def test_every_way_of_following_a_module_is_right_on_the_cpu():
    """But for what PyTorch itself cannot compute on this processor."""
    rows = [row for row in gpu.rows("cpu") if not row.outcome.startswith("cannot run here: ")]
    assert not [row for row in rows if not row.outcome.startswith("right: ")]
    assert len([row for row in rows if row.how.endswith("float32")]) == 3 * len(gpu.MODULES)


def test_a_wrong_state_is_a_wrong_row(monkeypatch):
    right = gpu.states_in_float64
    monkeypatch.setattr(gpu, "states_in_float64", lambda module: 1.001 * right(module))
    assert next(gpu.rows("cpu")).is_wrong
