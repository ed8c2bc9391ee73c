"""What a trace holds: the engine's numbers, bit for bit, under the names of the debugger, in either format."""

import io
import json

import numpy as np
import pytest
from tui_gru.engine.record import FORWARD_NAMES, delta_names

from tui_gru.debugger.moment import COUNTERS, readable_names
from tui_gru.debugger.trace import Trace
from tui_gru.engine.config import Config
from tui_gru.engine.errors import TuiGruError
from tui_gru.engine.initial import initial_parameters
from tui_gru.engine.training import train

NOT_A_NUMBER = {"learning_rate": 3e38}  # overflows in the first epoch
RUNS = [
    {},
    {"carry": "notebook"},
    {"carry": "reset", "dtype": "float64"},
    {"reset": "after", "seq_length": 2, "batch_size": 3},
    NOT_A_NUMBER,
]


def as_json(config, **options):
    out = io.BytesIO()
    Trace(config, **options).write_json(out)
    return json.loads(out.getvalue(), parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))


def as_npz(config, **options):
    out = io.BytesIO()
    Trace(config, **options).write_npz(out)
    out.seek(0)
    with np.load(out, allow_pickle=False) as npz:
        return dict(npz)


def test_a_timestep_has_every_name_and_its_shape():
    timestep = as_json(Config.of())["batches"][0]["timesteps"][2]
    assert timestep["t"] == 2
    shapes = {name: np.shape(value) for name, value in timestep.items() if name != "t"}
    B, H, V = 2, 2, 4
    assert shapes == {
        "x": (B, V), "y": (B, V), "h_prev": (B, H), "az": (B, H), "ar": (B, H), "ah": (B, H), "z": (B, H), "r": (B, H),
        "h_tilde": (B, H), "h": (B, H), "logits": (B, V), "y_hat": (B, V), "term1": (B, V), "term2": (B,), "term3": (),
        "dlogits": (B, V), "dh": (B, H), "dh_output": (B, H), "dh_future": (B, H), "dz": (B, H), "dr": (B, H),
        "dh_tilde": (B, H), "daz": (B, H), "dar": (B, H), "dah": (B, H), "drh": (B, H), "dh_prev": (B, H),
        "dh_carry": (B, H), "dh_candidate": (B, H), "dh_update": (B, H), "dh_reset": (B, H),
    }  # fmt: skip


@pytest.mark.parametrize("reset", ["before", "after"])
def test_every_delta_that_the_debugger_shows_is_written(reset):
    batch = as_json(Config.of(reset=reset))["batches"][0]
    shown = set(readable_names(reset)) - set(COUNTERS) - {"char", "target", "learning_rate", "max_weight"}
    written = {*batch, *batch["timesteps"][0], *batch["parameters"], *(f"d{name}" for name in batch["gradients"])}
    assert shown - written == set()


def test_the_four_paths_add_up_to_what_is_handed_back():
    timesteps = as_json(Config.of(dtype="float64"))["batches"][0]["timesteps"]
    for t, (here, before) in enumerate(zip(timesteps[1:], timesteps, strict=False), 1):
        paths = sum(np.array(here[name]) for name in ("dh_carry", "dh_candidate", "dh_update", "dh_reset"))
        np.testing.assert_allclose(paths, here["dh_prev"], rtol=1e-12, err_msg=str(t))
        assert before["dh_future"] == here["dh_prev"]
        np.testing.assert_allclose(np.add(before["dh_output"], before["dh_future"]), before["dh"], rtol=1e-12)


def test_without_learning_there_is_no_backward_pass():
    batches = as_json(Config.of(), epochs=2, learn=False)["batches"]
    assert all(set(batch) == {"epoch", "batch", "loss", "timesteps"} for batch in batches)
    assert set(batches[0]["timesteps"][0]) == {"t", *FORWARD_NAMES}
    assert batches[0]["loss"] == batches[3]["loss"]


@pytest.mark.parametrize("options", RUNS, ids=str)
def test_json_holds_the_engines_numbers(options):
    config = Config.of(**options)
    trace = as_json(config, epochs=3)
    assert Config.of(**trace["config"]) == config
    same_bits(trace["initial_parameters"], dict(initial_parameters(config).items()), config)
    batches = iter(trace["batches"])
    for epoch, number, record in train(config, epochs=3):
        batch = next(batches)
        assert (batch["epoch"], batch["batch"]) == (epoch, number)
        np.testing.assert_equal(float(batch["loss"]), record.loss)
        np.testing.assert_equal(float(batch["grad_norm"]), record.grad_norm)
        same_bits(batch["gradients"], dict(record.gradients.items()), config)
        same_bits(batch["parameters"], dict(record.updated.items()), config)
        for t, timestep in enumerate(batch["timesteps"]):
            assert timestep.pop("t") == t
            same_bits(timestep, {name: record.array(name)[t] for name in (*FORWARD_NAMES, *delta_names(config.reset))}, config)
    assert next(batches, None) is None


def same_bits(written, computed, config):
    assert list(written) == list(computed)
    for name, value in written.items():
        np.testing.assert_array_equal(np.array(value, config.dtype), np.asarray(computed[name]), err_msg=name, strict=True)


@pytest.mark.parametrize("run", [{}, {"learn": False}, {"from_epoch": 2}], ids=str)
@pytest.mark.parametrize("options", RUNS, ids=str)
def test_npz_holds_what_json_holds(options, run):
    config = Config.of(**options)
    trace, npz = as_json(config, epochs=3, **run), as_npz(config, epochs=3, **run)
    assert json.loads(str(npz.pop("config"))) == trace["config"]
    assert json.loads(str(npz.pop("run"))) == trace["run"]
    assert (str(npz.pop("format")), int(npz.pop("version"))) == ("tui-gru-trace", 1)
    assert str(npz.pop("vocabulary")) == "hatM"
    assert npz["loss"].dtype == np.float64
    assert npz["timesteps/z"].dtype == config.dtype
    stacked = {f"initial_parameters/{name}": value for name, value in trace["initial_parameters"].items()}
    stacked |= stack(trace["batches"])
    assert set(npz) == set(stacked)
    for name, value in stacked.items():
        np.testing.assert_array_equal(npz[name], np.array(value, npz[name].dtype), err_msg=name, strict=True)


def stack(items):
    """A list of dicts as a dict of lists, inner dicts and lists of dicts too, their names joined by slashes."""
    stacked = {}
    for name in items[0].keys() - {"t"}:
        values = [item[name] for item in items]
        if isinstance(values[0], dict):
            stacked |= {f"{name}/{inner}": value for inner, value in stack(values).items()}
        elif isinstance(values[0], list) and isinstance(values[0][0], dict):
            each = [stack(value) for value in values]
            stacked |= {f"{name}/{inner}": [value[inner] for value in each] for inner in each[0]}
        else:
            stacked[name] = values
    return stacked


def test_what_is_not_finite_is_a_string_in_json():
    loss = as_json(Config.of(**NOT_A_NUMBER))["batches"][-1]["loss"]
    assert loss == "NaN"


def test_no_epochs_is_an_empty_trace():
    assert as_json(Config.of(), epochs=0)["batches"] == []
    assert as_npz(Config.of(), epochs=0)["vocabulary"] == "hatM"


def test_the_same_run_is_the_same_bytes():
    first, second = io.BytesIO(), io.BytesIO()
    for out in (first, second):
        Trace(Config.of()).write_npz(out)
    assert first.getvalue() == second.getvalue()


@pytest.mark.parametrize(("epochs", "from_epoch", "option"), [(-1, 0, "epochs"), (3, 3, "from_epoch"), (3, -1, "from_epoch")])
def test_epochs_that_make_no_sense(epochs, from_epoch, option):
    with pytest.raises(TuiGruError) as caught:
        Trace(Config.of(), epochs=epochs, from_epoch=from_epoch)
    assert caught.value.option == option


def test_npz_is_weighed_before_it_is_begun():
    with pytest.raises(TuiGruError, match="GiB"):
        Trace(Config.of(), epochs=10**9).write_npz(io.BytesIO())
