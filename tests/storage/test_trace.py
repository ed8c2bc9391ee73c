"""The contents of a trace: the engine's numbers, bit for bit, under the names of the debugger, in both formats."""

import io
import json

import numpy as np
import pytest

from tests.debugger import models
from tests.debugger.models import MODELS
from tests.extent import SOAK
from tui_gru import Session
from tui_gru.debugger.program import CHARACTERS, COUNTERS, ValueKind, program_of
from tui_gru.engine.config import Config
from tui_gru.engine.training import initial_weights, train
from tui_gru.errors import TuiGruError
from tui_gru.storage.trace import Trace

NOT_A_NUMBER = {"learning_rate": 3e38}  # overflows in the first epoch
RUNS = MODELS | {"float64, reset": {"carry": "reset", "dtype": "float64"}, "not a number": NOT_A_NUMBER}
every_run = pytest.mark.parametrize("options", RUNS.values(), ids=RUNS)


def as_json(config, **options):
    out = io.BytesIO()
    Trace.of_new_run(config, **options).write_json(out)
    return json.loads(out.getvalue(), parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))


def as_npz(config, **options):
    out = io.BytesIO()
    Trace.of_new_run(config, **options).write_npz(out)
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
        "dh_tilde": (B, H), "daz": (B, H), "dar": (B, H), "dah": (B, H), "drh": (B, H), "dh_prev": (B, H), "log_p": (B, V),
        "hUz": (B, H), "hUr": (B, H), "hUh": (B, H), "rh": (B, H), "one_minus_z": (B, H), "new": (B, H),
        "dh_carry": (B, H), "dh_candidate": (B, H), "dh_update": (B, H), "dh_reset": (B, H),
    }  # fmt: skip


@models.parametrize()
def test_everything_that_the_debugger_shows_is_written(model):
    config = Config.of(**model)
    program, batch = program_of(config), as_json(config)["batches"][0]
    on_the_way = program.names_of(ValueKind.UPDATE_VALUE)  # of the update, which can be computed from the written numbers
    shown = set(program.readable) - {*COUNTERS, *CHARACTERS, *on_the_way, *program.config.settings, "max_weight"}
    written = {*batch, *batch["timesteps"][0], *batch["parameters"], *(f"d{name}" for name in batch["gradients"])}
    assert shown - written - set(batch.get("optimizer", ())) == set()


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
    assert set(batches[0]["timesteps"][0]) == {"t", *program_of(Config.of()).values}
    assert batches[0]["loss"] == batches[3]["loss"]


@every_run
def test_json_holds_the_engines_numbers(options):
    config = Config.of(**options)
    trace, program = as_json(config, epochs=3), program_of(config)
    assert Config.of(**trace["config"]) == config
    same_bits(trace["initial_parameters"], dict(initial_weights(config).items()), config)
    batches = iter(trace["batches"])
    for epoch, number, record in train(config, epochs=3):
        batch = next(batches)
        assert (batch["epoch"], batch["batch"]) == (epoch, number)
        for name, computed in {**record.numbers, "loss": record.loss, "grad_norm": record.grad_norm}.items():
            np.testing.assert_equal(float(batch[name]), float(computed))
        same_bits(batch["gradients"], dict(record.gradients.items()), config)
        same_bits(batch["parameters"], dict(record.after.items()), config)
        same_bits(
            batch.get("optimizer", {}), {name: record.after[name] for name in program.names_of(ValueKind.OPTIMIZER_STATE)}, config
        )
        for t, timestep in enumerate(batch["timesteps"]):
            assert timestep.pop("t") == t
            timed = [name for name in (*program.values, *program.deltas) if program.names[name].timed]
            same_bits(timestep, {name: record.array(name)[t] for name in timed}, config)
    assert next(batches, None) is None


def same_bits(written, computed, config):
    assert list(written) == list(computed)
    for name, value in written.items():
        np.testing.assert_array_equal(np.array(value, config.dtype), np.asarray(computed[name]), err_msg=name, strict=True)


WAYS = ({}, {"learn": False}, {"from_epoch": 2})
#: Every model with one of the ways in turn; in the soak with all of them.
WRITTEN = [(name, way) for i, name in enumerate(RUNS) for k, way in enumerate(WAYS) if SOAK or k == i % len(WAYS)]


@pytest.mark.parametrize(("name", "run"), WRITTEN, ids=str)
def test_npz_holds_what_json_holds(name, run):
    options = RUNS[name]
    config = Config.of(**options)
    trace, npz = as_json(config, epochs=3, **run), as_npz(config, epochs=3, **run)
    assert json.loads(str(npz.pop("config"))) == trace["config"]
    assert json.loads(str(npz.pop("run"))) == trace["run"]
    assert (str(npz.pop("format")), int(npz.pop("version"))) == ("tui-gru-trace", 2)
    assert str(npz.pop("vocabulary")) == config.vocabulary
    assert npz["loss"].dtype == np.float64
    assert npz["timesteps/logits"].dtype == config.dtype
    stacked = {f"initial_parameters/{name}": value for name, value in trace["initial_parameters"].items()}
    stacked |= stack(trace["batches"])
    assert set(npz) == set(stacked)
    for name, value in stacked.items():
        np.testing.assert_array_equal(npz[name], np.array(value, npz[name].dtype), err_msg=name, strict=True)


def stack(items):
    """Convert a list of dicts to a dict of lists, also for inner dicts and lists of dicts; names are joined by slashes."""
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
        Trace.of_new_run(Config.of()).write_npz(out)
    assert first.getvalue() == second.getvalue()


@pytest.mark.parametrize(("epochs", "from_epoch", "option"), [(-1, 0, "epochs"), (3, 3, "from_epoch"), (3, -1, "from_epoch")])
def test_epochs_that_make_no_sense(epochs, from_epoch, option):
    with pytest.raises(TuiGruError) as caught:
        Trace.of_new_run(Config.of(), epochs=epochs, from_epoch=from_epoch)
    assert caught.value.option == option


def test_npz_is_weighed_before_it_is_begun():
    with pytest.raises(TuiGruError, match="GiB"):
        Trace.of_new_run(Config.of(), epochs=10**9).write_npz(io.BytesIO())


def test_an_epoch_behind_the_last_is_refused_with_those_that_there_are():
    with pytest.raises(TuiGruError, match="from_epoch must be from 0 to 2, not 3: epochs count from 0, and epochs is 3"):
        Trace.of_new_run(Config.of(), epochs=3, from_epoch=3)


def test_a_run_that_has_learned_in_some_of_its_batches_has_no_gradients():
    session = Session()
    session.step("batch")
    session.step("op")  # learning begins in the second batch
    session.learning = True
    session.step("batch", 2)
    arrays = session.trace()
    assert not [name for name in arrays if name.startswith(("gradients", "parameters", "grad_norm"))]
    assert "gradients/Wz" in session.trace(1)
