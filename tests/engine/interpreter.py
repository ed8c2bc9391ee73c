"""A batch as its listing reads: line after line, each on its own, in plain NumPy. Slow, and with nothing to get wrong.

It is what `Trainer.resume` is held to: it can stop after any line, have its parameters changed, and go on.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

Memory = dict[str, Any]  # parameters and their gradients by name; values and deltas by name, (T, …)


def sigmoid(a):
    return 1 / (1 + np.exp(-a))


def set_z(m: Memory, t: int) -> None:
    m["az"][t] = m["x"][t] @ m["Wz"] + m["h_prev"][t] @ m["Uz"] + m["bz"] + m.get("bhz", 0)
    m["z"][t] = sigmoid(m["az"][t])


def set_r(m: Memory, t: int) -> None:
    m["ar"][t] = m["x"][t] @ m["Wr"] + m["h_prev"][t] @ m["Ur"] + m["br"] + m.get("bhr", 0)
    m["r"][t] = sigmoid(m["ar"][t])


def set_h_tilde(m: Memory, t: int) -> None:
    if "bhn" in m:
        m["hUh"][t] = m["h_prev"][t] @ m["Uh"] + m["bhn"]
        m["ah"][t] = m["x"][t] @ m["Wh"] + m["bh"] + m["r"][t] * m["hUh"][t]
    else:
        m["hUh"][t] = (m["r"][t] * m["h_prev"][t]) @ m["Uh"]
        m["ah"][t] = m["x"][t] @ m["Wh"] + m["bh"] + m["hUh"][t]
    m["h_tilde"][t] = np.tanh(m["ah"][t])


def set_h(m: Memory, t: int) -> None:
    m["h"][t] = m["z"][t] * m["h_prev"][t] + (1 - m["z"][t]) * m["h_tilde"][t]
    if t + 1 < len(m["h"]):
        m["h_prev"][t + 1] = m["h"][t]


def set_logits(m: Memory, t: int) -> None:
    m["logits"][t] = m["h"][t] @ m["Wy"] + m["by"]


def set_y_hat(m: Memory, t: int) -> None:
    e = np.exp(m["logits"][t])
    m["y_hat"][t] = e / e.sum(-1, keepdims=True)


def set_term1(m: Memory, t: int) -> None:
    m["term1"][t] = m["y"][t] * np.log(m["y_hat"][t])


def set_term2(m: Memory, t: int) -> None:
    m["term2"][t] = m["term1"][t].sum(-1)


def set_term3(m: Memory, t: int) -> None:
    m["term3"][t] = -m["term2"][t].mean()


def set_dlogits(m: Memory, t: int) -> None:
    m["dlogits"][t] = (m["y_hat"][t] - m["y"][t]) / m["term2"].size


def set_dh(m: Memory, t: int) -> None:
    m["dh_future"][t] = m["dh_prev"][t + 1] if t + 1 < len(m["h"]) else 0
    m["dh_output"][t] = m["dlogits"][t] @ m["Wy"].T
    m["dh"][t] = m["dh_output"][t] + m["dh_future"][t]


def set_dz(m: Memory, t: int) -> None:
    m["dz"][t] = m["dh"][t] * (m["h_prev"][t] - m["h_tilde"][t])


def set_daz(m: Memory, t: int) -> None:
    m["daz"][t] = m["dz"][t] * m["z"][t] * (1 - m["z"][t])


def set_dh_tilde(m: Memory, t: int) -> None:
    m["dh_tilde"][t] = m["dh"][t] * (1 - m["z"][t])


def set_dah(m: Memory, t: int) -> None:
    m["dah"][t] = m["dh_tilde"][t] * (1 - m["h_tilde"][t] ** 2)


def set_drh_or_dm(m: Memory, t: int) -> None:
    if "bhn" in m:
        m["dm"][t] = m["dah"][t] * m["r"][t]
    else:
        m["drh"][t] = m["dah"][t] @ m["Uh"].T


def set_dr(m: Memory, t: int) -> None:
    m["dr"][t] = m["dah"][t] * m["hUh"][t] if "bhn" in m else m["drh"][t] * m["h_prev"][t]


def set_dar(m: Memory, t: int) -> None:
    m["dar"][t] = m["dr"][t] * m["r"][t] * (1 - m["r"][t])


def set_dh_prev(m: Memory, t: int) -> None:
    m["dh_carry"][t] = m["dh"][t] * m["z"][t]
    m["dh_candidate"][t] = m["dm"][t] @ m["Uh"].T if "bhn" in m else m["drh"][t] * m["r"][t]
    m["dh_update"][t] = m["daz"][t] @ m["Uz"].T
    m["dh_reset"][t] = m["dar"][t] @ m["Ur"].T
    m["dh_prev"][t] = m["dh_carry"][t] + m["dh_candidate"][t] + m["dh_update"][t] + m["dh_reset"][t]


Line = Callable[[Memory, int], None]
FORWARD: tuple[Line, ...] = (set_z, set_r, set_h_tilde, set_h, set_logits, set_y_hat, set_term1, set_term2, set_term3)
BACKWARD: tuple[Line, ...] = (
    set_dlogits, set_dh, set_dz, set_daz, set_dh_tilde, set_dah, set_drh_or_dm, set_dr, set_dar, set_dh_prev,
)  # fmt: skip
# What each line writes; h_prev and dh_future are h and dh_prev of the timestep next to it, written there.
WRITES = {
    set_z: ("az", "z"), set_r: ("ar", "r"), set_h_tilde: ("ah", "h_tilde"), set_h: ("h",), set_logits: ("logits",),
    set_y_hat: ("y_hat",), set_term1: ("term1",), set_term2: ("term2",), set_term3: ("term3",),
    set_dlogits: ("dlogits",), set_dh: ("dh", "dh_output"), set_dz: ("dz",), set_daz: ("daz",),
    set_dh_tilde: ("dh_tilde",), set_dah: ("dah",), set_drh_or_dm: ("drh", "dm"), set_dr: ("dr",), set_dar: ("dar",),
    set_dh_prev: ("dh_prev", "dh_carry", "dh_candidate", "dh_update", "dh_reset"),
}  # fmt: skip


def gradient(m: Memory, name: str) -> np.ndarray:
    """The gradient of a parameter, from the deltas of all timesteps."""
    h_prev, T = m["h_prev"], range(len(m["h"]))
    if name in ("Wy", "by"):
        return sum(m["h"][t].T @ m["dlogits"][t] if name == "Wy" else m["dlogits"][t].sum(0) for t in T)
    da = m["dm" if name in ("bhn", "Uh") and "bhn" in m else f"da{name[-1]}"]
    if name[0] == "b":
        return sum(da[t].sum(0) for t in T)
    source = m["x"] if name[0] == "W" else m["r"] * h_prev if name == "Uh" and "bhn" not in m else h_prev
    return sum(source[t].T @ da[t] for t in T)


def finish(m: Memory, names: tuple[str, ...], phase: str, t: int, done: int, learning_rate: float) -> None:
    """Execute what is left of a batch, of whose timestep `t` in `phase` the first `done` lines have been executed."""
    T = len(m["h"])
    if phase == "forward":
        for step in range(t, T):
            for line in FORWARD[done if step == t else 0 :]:
                line(m, step)
        m["loss"] = m["term3"].mean()
    for step in range(T - 1 if phase == "forward" else t, -1, -1):
        for line in BACKWARD[done if step == t and phase == "backward" else 0 :]:
            line(m, step)
    for name in names:
        m[f"d{name}"] = gradient(m, name)
        m[name] = m[name] - learning_rate * m[f"d{name}"]
