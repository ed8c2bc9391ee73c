"""Units over the timesteps of recordings and of other runs that read numbers."""

import numpy as np
import pytest
import torch
from torch import nn

import tui_gru
from tui_gru.errors import TuiGruError

T, B, IN, H, STEPS = 7, 4, 3, 5, 3


@pytest.fixture(scope="module")
def recording(tmp_path_factory):
    torch.manual_seed(0)
    model = nn.ModuleDict({"gru": nn.GRU(IN, H), "head": nn.Linear(H, 2)})
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    recorder, outputs, gradients = tui_gru.record(tmp_path_factory.mktemp("run") / "r.gru", model, optimizer, every=1), [], []
    for _ in range(STEPS):
        optimizer.zero_grad()
        out = model["gru"](torch.randn(T, B, IN))[0]
        out.retain_grad()
        loss = model["head"](out).square().mean()
        loss.backward()
        optimizer.step()
        recorder.step(loss)
        outputs.append(out.detach().numpy())
        gradients.append(out.grad.numpy())
    recorder.close()
    return recorder.folder, np.stack(outputs), np.stack(gradients)


@pytest.fixture
def session(recording):
    session = tui_gru.Session.open(recording[0])
    session.seek(session.end)
    return session


def test_units_are_those_of_all_recorded_steps_row_by_row(recording, session):
    activity = session.units()
    expected = recording[1].transpose(0, 2, 1, 3).reshape(-1, H)
    np.testing.assert_allclose(activity.values, expected, rtol=0, atol=64 * np.finfo(np.float32).eps)
    assert activity.place_words(T * B + 2 * T + 3) == "step 1 row 3 t 4"
    assert activity.moment_at(T * B + 2 * T + 3) == "e1 b2 t4"
    assert [feature.name for feature in activity.own] == ["timestep", "x[input 1]", "x[input 2]", "x[input 3]"]


def test_a_unit_follows_an_array_that_is_itself(recording, session, tmp_path):
    own = recording[1][..., 2]
    activity = session.units(features={"mine": own})
    assert activity.goes_with()[2].what == "mine"
    assert activity.goes_with()[2].r == pytest.approx(1, abs=1e-5)
    np.save(tmp_path / "third.npy", own)
    assert session.feature(str(tmp_path / "third.npy")).name == "third"
    assert session.units().goes_with()[2].what == "third"


def test_arrays_that_do_not_fit_are_refused(session):
    with pytest.raises(TuiGruError, match=rf"mine has the shape \(2, {T}, {B}\); .*\({T}, {B}\), or .*\({STEPS}, {T}, {B}\)"):
        session.units(features={"mine": np.zeros((2, T, B))})
    with pytest.raises(TuiGruError, match="mine has no finite number"):
        session.units(features={"mine": np.full((T, B), np.nan)})
    with pytest.raises(TuiGruError, match="they are timestep, x"):
        session.feature("digits")
    with pytest.raises(TuiGruError, match="is that of a text"):
        session.units(without=True)


def test_the_rows_with_the_largest_gradients_are_found(recording, session):
    norms = np.linalg.norm(recording[2].astype(np.float64), axis=-1)  # (steps, T, B)
    by_row = np.linalg.norm(norms, axis=1)
    (place, norm), *_ = session.largest_gradients(3)
    assert (place.batch, place.row) == np.unravel_index(by_row.argmax(), by_row.shape)
    assert place.t == norms[place.batch, :, place.row].argmax()
    assert norm == pytest.approx(by_row.max(), rel=1e-4)
