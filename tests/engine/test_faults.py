"""The checks can fail: each fault here, planted in the engine's source, is caught by them."""

from __future__ import annotations

import inspect
from types import ModuleType

import pytest

from tests.engine.checking import ALL_WAYS, check
from tui_gru.engine import backward, cell, corpus, loss, trainer

FAULTS = {
    "z and r swapped": (cell, "np.multiply(s.z, s.h_prev, out=s.h)", "np.multiply(s.r, s.h_prev, out=s.h)"),
    "z keeps the new state, as in Cho's paper": (cell, "np.subtract(1, s.z, out=s.one_minus_z)", "np.copyto(s.one_minus_z, s.z)"),
    "no 1 - z before the candidate": (cell, "np.multiply(s.one_minus_z, s.h_tilde, out=s.new)", "np.copyto(s.new, s.h_tilde)"),
    "Uh transposed": (cell, "np.matmul(s.rh, p.Uh, out=s.hUh)", "np.matmul(s.rh, p.Uh_T, out=s.hUh)"),
    "reset after the product instead of before": (
        cell,
        "np.matmul(s.rh, p.Uh, out=s.hUh)",
        "np.multiply(s.r, s.h_prev @ p.Uh, out=s.hUh)",
    ),
    "reset before the product instead of after": (
        cell,
        "np.multiply(s.r, s.hUh, out=s.rh)",
        "np.add((s.r * s.h_prev) @ p.Uh, p.c[-s.r.shape[-1] :], out=s.rh)",
    ),
    "recurrent bias forgotten": (cell, "s.hU += p.c", "pass"),
    "input bias forgotten": (cell, "a += parameters.b", "pass"),
    "output bias forgotten": (cell, "logits += parameters.by", "pass"),
    "sigmoid for tanh": (cell, "np.tanh(s.ah, out=s.h_tilde)", "np.reciprocal(1 + np.exp(-s.ah), out=s.h_tilde)"),
    "softmax along the rows": (loss, "total = y_hat.sum(-1, keepdims=True)", "total = y_hat.sum(-2, keepdims=True)"),
    "mean for sum over the vocabulary": (loss, "s.term1[start:].sum(-1", "s.term1[start:].mean(-1"),
    "sum for mean over the rows": (loss, "s.term3[start:] /= -B", "s.term3[start:] *= -1"),
    "sum for mean over the timesteps": (loss, "s.term3.sum() / T", "s.term3.sum()"),
    "dlogits divided by T alone": (loss, "out /= out.shape[0] * out.shape[1]", "out /= out.shape[0]"),
    "y - y_hat": (loss, "np.subtract(s.y_hat, s.y, out=out)", "np.subtract(s.y, s.y_hat, out=out)"),
    "nothing from the future": (
        backward,
        "np.add(d.dh_output, d.dh_future, out=d.dh)",
        "np.copyto(d.dh, d.dh_output)",
    ),
    "wrong sign of dz": (
        backward,
        "np.subtract(s.h_prev, s.h_tilde, out=d.dh_by_dz)",
        "np.subtract(s.h_tilde, s.h_prev, out=d.dh_by_dz)",
    ),
    "sigmoid' without z and r": (backward, "d.zr_slope *= s.zr", "pass"),
    "sigmoid' without 1 - z and 1 - r": (backward, "np.subtract(1, s.zr, out=d.zr_slope)", "d.zr_slope[...] = 1"),
    "sigmoid' of z for that of r": (backward, "np.multiply(d.dr, d.r_slope", "np.multiply(d.dr, d.z_slope"),
    "no 1 - z in dh~": (backward, "np.multiply(d.dh, s.one_minus_z, out=d.dh_tilde)", "np.copyto(d.dh_tilde, d.dh)"),
    "tanh' without its square": (backward, "np.multiply(s.h_tilde, s.h_tilde,", "np.multiply(s.h_tilde, 1,"),
    "Uh not transposed in drh": (backward, "np.matmul(d.dah, p.Uh_T, out=d.drh)", "np.matmul(d.dah, p.Uh, out=d.drh)"),
    "Uz for Ur": (backward, "np.matmul(d.dar, p.Ur_T, out=d.dh_reset)", "np.matmul(d.dar, p.Uz_T, out=d.dh_reset)"),
    "candidate path not gated": (backward, "np.multiply(d.drh, s.r, out=d.dh_candidate)", "np.copyto(d.dh_candidate, d.drh)"),
    "reset path dropped": (backward, "d.dh_prev += d.dh_reset", "pass"),
    "dm not gated": (backward, "np.multiply(d.dah, s.r, out=d.dm)", "np.copyto(d.dm, d.dah)"),
    "h for h_prev in dU": (backward, "h_prev = rows(s.h_prev[start:])", "h_prev = rows(s.h[start:])"),
    "h_prev for r*h_prev in dUh": (backward, "rows(s.rh[start:]).T", "h_prev.T"),
    "h_prev for h in dWy": (backward, "rows(s.h[start:]).T, dlogits", "rows(s.h_prev[start:]).T, dlogits"),
    "y for x in dW": (backward, "rows(s.x[start:]).T", "rows(s.y[start:]).T"),
    "bias gradient forgotten": (backward, "da.sum(0, out=out.b)", "out.b[...] = 0"),
    "output bias gradient averaged": (backward, "dlogits.sum(0, out=out.by)", "dlogits.mean(0, out=out.by)"),
    "recurrent bias gradient not gated": (
        backward,
        "dm.sum(0, out=out.c[2 * H :])",
        "da[:, 2 * H :].sum(0, out=out.c[2 * H :])",
    ),
    "earlier batches add nothing": (backward, "gradients.recurrent += gain.recurrent", "pass"),
    "earlier batches only one back": (backward, "flow = scratch.flow[0]", "flow = 0 * flow"),
    "earlier batches add to Wy": (
        backward,
        "gradients.recurrent += gain.recurrent",
        "gradients.recurrent += gain.recurrent; gradients.Wy += flow.sum()",
    ),
    "update uphill": (trainer, "np.subtract(parameters.flat, step, out=step)", "np.add(parameters.flat, step, out=step)"),
    "update without the learning rate": (trainer, "g * g.dtype.type(record.learning_rate)", "g * 1"),
    "gradient norm squared": (trainer, "math.sqrt(float(np.dot(g.flat, g.flat)))", "float(np.dot(g.flat, g.flat))"),
    "state not carried": (trainer, 'batch == 0 or self.config.carry == "reset"', "True"),
    "state not reset": (trainer, 'batch == 0 or self.config.carry == "reset"', "batch == 0"),
    "targets are the inputs": (trainer, "self.corpus.targets[batch, t]", "self.corpus.inputs[batch, t]"),
    "rows and timesteps confused": (
        corpus,
        "used.reshape(self.num_batches, self._rows, self._length).swapaxes(1, 2)",
        "used.reshape(self.num_batches, self._length, self._rows)",
    ),
}


def plant(monkeypatch: pytest.MonkeyPatch, module: ModuleType, right: str, wrong: str) -> None:
    """Give `module` the functions and classes of its own source with one expression changed."""
    source = inspect.getsource(module)
    assert source.count(right) == 1, f"{right!r} must be in {module.__name__} once, to be replaced"
    namespace = {**vars(module)}
    exec(compile(source.replace(right, wrong), module.__file__, "exec"), namespace)
    for name, value in namespace.items():
        if getattr(value, "__module__", None) == module.__name__:
            monkeypatch.setattr(module, name, value)


def check_all() -> None:
    for config in ALL_WAYS:
        check(config)


@pytest.mark.parametrize("fault", FAULTS)
def test_caught(monkeypatch, fault):
    module, right, wrong = FAULTS[fault]
    plant(monkeypatch, module, right, wrong)
    monkeypatch.setattr("tests.engine.checking.Corpus", corpus.Corpus)
    with pytest.raises(AssertionError):
        check_all()


@pytest.mark.parametrize("module", [backward, cell, corpus, loss, trainer], ids=lambda module: module.__name__)
def test_planting_alone_changes_nothing(monkeypatch, module):
    plant(monkeypatch, module, "from __future__ import annotations", "from __future__ import annotations\n")
    monkeypatch.setattr("tests.engine.checking.Corpus", corpus.Corpus)
    check_all()
