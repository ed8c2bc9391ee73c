"""The cell in PyTorch, in the tutorial's words."""

from __future__ import annotations

import torch
from torch import Tensor


def cell_step(p: dict[str, Tensor], x: Tensor, h: Tensor) -> Tensor:
    """The next state (B, H) after one-hot x (B, V); reset after the product where `p` has recurrent biases."""
    z = torch.sigmoid(x @ p["Wz"] + h @ p["Uz"] + p["bz"] + p.get("bhz", 0))
    r = torch.sigmoid(x @ p["Wr"] + h @ p["Ur"] + p["br"] + p.get("bhr", 0))
    recurrent = r * (h @ p["Uh"] + p["bhn"]) if "bhn" in p else (r * h) @ p["Uh"]
    h_tilde = torch.tanh(x @ p["Wh"] + p["bh"] + recurrent)
    return z * h + (1 - z) * h_tilde
