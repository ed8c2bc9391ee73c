"""Numbers that scripts read, against autograd on cells that are written by hand, and against a plain loop of PyTorch."""

import json
import re

import numpy as np
import pytest
import torch
from torch import nn

from tests.capture.runs import IN, B, H, T, trained
from tui_gru import Session

# ------------------------------------------------------------------------------
# The derivations of `run --json`, in float64.


TEXT = {"text": "the cat sat on the mat and the dog sat", "hidden_size": 3, "batch_size": 2, "seq_length": 3}
OPTIONS = {
    "gru": {"seed": 4},
    "rnn": {**TEXT, "cell": "rnn", "optimizer": "sgd", "clip": 0.0},
    "lstm": {**TEXT, "cell": "lstm", "seed": 6, "optimizer": "sgd", "clip": 0.0},
}


def cell_of(kind, p, x, h, c):
    """Return the named values of one timestep, in the order of computation."""
    if kind == "rnn":
        a = x @ p["Wh"] + h @ p["Uh"] + p["bh"]
        return {"ah": a, "h": torch.tanh(a)}
    if kind == "gru":
        az, ar = (x @ p[f"W{g}"] + h @ p[f"U{g}"] + p[f"b{g}"] for g in "zr")
        z, r = torch.sigmoid(az), torch.sigmoid(ar)
        rh = r * h
        ah = x @ p["Wh"] + rh @ p["Uh"] + p["bh"]
        h_tilde = torch.tanh(ah)
        return {"az": az, "ar": ar, "z": z, "r": r, "rh": rh, "ah": ah, "h_tilde": h_tilde, "h": z * h + (1 - z) * h_tilde}
    ai, af, ag, aq = (x @ p[f"W{g}"] + h @ p[f"U{g}"] + p[f"b{g}"] for g in "ifgo")
    i, f, g, q = torch.sigmoid(ai), torch.sigmoid(af), torch.tanh(ag), torch.sigmoid(aq)
    c = f * c + i * g
    return {"ai": ai, "af": af, "ag": ag, "aq": aq, "i": i, "f": f, "g": g, "q": q, "c": c, "h": q * torch.tanh(c)}


def by_autograd(kind, first):
    """Return the values and gradients of the first batch, by name and timestep (from 1); None for what has no timestep."""
    p = {name: torch.tensor(np.array(first.parameter(name)), requires_grad=True) for name in first.parameter_names}
    steps = range(first.config.seq_length)
    xs, ys = ([torch.tensor(np.array(first.value(name, t))) for t in steps] for name in ("x", "y"))
    h = c = torch.zeros(first.config.batch_size, first.config.hidden_size, dtype=torch.float64)
    values, losses = {}, []
    for t, (x, y) in enumerate(zip(xs, ys, strict=True), 1):
        values["h_prev", t] = h
        computed = cell_of(kind, p, x, h, c)
        h, c = computed["h"], computed.get("c", c)
        logits = h @ p["Wy"] + p["by"]
        y_hat = torch.softmax(logits, 1)
        term2 = (y * torch.log(y_hat)).sum(1)
        computed |= {"logits": logits, "y_hat": y_hat, "term2": term2, "term3": -term2.mean()}
        losses.append(computed["term3"])
        for name, value in computed.items():
            value.retain_grad()
            values[name, t] = value
    loss = torch.stack(losses).mean()
    loss.backward()
    computed = {("loss", None): loss.detach().numpy()}
    computed |= {(name, None): value.detach().numpy() for name, value in p.items()}
    computed |= {(f"d{name}", None): value.grad.numpy() for name, value in p.items()}
    computed |= {key: value.detach().numpy() for key, value in values.items()}
    computed |= {(f"d{name}", t): value.grad.numpy() for (name, t), value in values.items() if value.retains_grad}
    return computed


def numbers_in(node):
    """Yield the named numbers of a derivation: name, timestep, index and value."""
    if (number := node.get("number")) is not None:
        assert abs(node["value"]) == abs(number["value"])
        yield number["name"], number.get("t"), tuple(number["index"]), number["value"]
    for term in node.get("terms", ()):
        yield from numbers_in(term)


@pytest.mark.parametrize("kind", OPTIONS)
def test_derivations_have_the_numbers_of_autograd(run, kind):
    options = {**OPTIONS[kind], "dtype": "float64"}
    first = Session(**options)
    first.seek("e1 b1 t3")
    computed, random, seen, asked = by_autograd(kind, first), np.random.default_rng(1), 0, ["n"]
    gradients = [key for key in computed if key[0].startswith("d") and key[1] is None]
    for name, t in [gradients[i] for i in random.integers(len(gradients), size=4)] + [("loss", None), ("h", 3), ("y_hat", 3)]:
        index = tuple(int(random.integers(size)) for size in computed[name, t].shape)
        asked.append(f"why {name}{list(index) if index else ''}")
    typed = [word for name, value in options.items() for word in (f"--{name.replace('_', '-')}", str(value))]
    code, out, err = run("run", "--json", *typed, "--learn", "-x", "; ".join(asked))
    assert (code, err) == (0, "")
    for answer in map(json.loads, out.splitlines()):
        for name, t, index, value in numbers_in(answer["data"]) if answer["command"].startswith("why ") else ():
            if (name, t) in computed:
                right = float(computed[name, t][index])
                size = max(1.0, float(np.abs(computed[name, t]).max()))
                assert abs(value - right) <= 2.0**-40 * size, (answer["command"], name, t, index)  # a thousand roundings of 2⁻⁵³
                seen += 1
    assert seen > 40


# ------------------------------------------------------------------------------
# The report of a recording.


def plainly_trained(steps):
    """Return the losses and the norms of the gradients of the recorded script, without recording it."""
    torch.manual_seed(2)
    model = nn.GRU(IN, H)
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    losses, norms = [], []
    for _ in range(steps):
        optimizer.zero_grad()
        out, _ = model(torch.randn(T, B, IN))
        loss = (out + 1).pow(2).mean()
        loss.backward()
        losses.append(float(loss.detach()))
        norms.append(float(torch.sqrt(sum((p.grad.double() ** 2).sum() for p in model.parameters()))))
        optimizer.step()
    return losses, norms


def test_the_report_of_a_recording_has_the_numbers_of_the_script(run, tmp_path):
    trained(tmp_path / "run.gru", steps=21, every=4, last=0)
    losses, norms = plainly_trained(21)
    code, _, err = run("report", tmp_path / "run.gru", "-o", tmp_path / "run.md")
    assert (code, err) == (0, "")
    written = (tmp_path / "run.md").read_text(encoding="utf-8")

    def number(pattern):
        match = re.search(pattern, written)
        assert match is not None, pattern
        digits = len(match[1].replace(".", "").lstrip("0"))
        return float(match[1]), 0.51 * 10.0 ** -len(match[1].partition(".")[2]), digits

    largest = max(range(0, 21, 4), key=norms.__getitem__)
    for pattern, right in (
        (r"\| first loss \| ([\d.]+) \|", losses[0]),
        (r"\| last loss \| ([\d.]+) \|", losses[20]),
        (rf"\| largest gradient norm \| ([\d.]+) in step {largest} \|", norms[largest]),
        (r"its norm is ([\d.]+)\.", norms[20]),
    ):
        value, most, digits = number(pattern)
        assert digits >= 2
        assert abs(value - right) <= most, (pattern, value, right)
    session = Session.open(tmp_path / "run.gru")
    assert [loss for _, loss in session.report().curve] == losses
