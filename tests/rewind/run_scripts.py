"""Runs scripts of the grammar plainly, watched, and with every public verb tried in them; compares what they train."""

import random
import warnings

import numpy as np
import torch
from torch import nn

import tui_gru
from tests.rewind.grammar import script
from tui_gru.errors import TuiGruError
from tui_gru.rewind import run as runs


def run_script(path, source, wrap):
    """Return the numbers that a script leaves: losses, carried state, weights, and the state of the generators."""
    torch.manual_seed(0)
    random.seed(0)
    np.random.seed(0)
    runs.last_loops.clear()
    names = {"WRAP": wrap, "kept": tui_gru.kept, "path": str(path), "__name__": "__main__"}
    with open(f"{path}.log", "w", encoding="utf-8"):
        pass
    exec(compile(source, str(path), "exec"), names)
    if "log_file" in names:
        names["log_file"].close()
    weights = [value.detach().clone() for value in names["model"].state_dict().values()]
    return names["losses"], names["rest"], weights, (torch.get_rng_state(), random.getstate(), np.random.get_state()[1].tolist())


def is_same(a, b):
    same = all(torch.equal(x, y) for x, y in zip(a[2], b[2], strict=True))
    return str(a[:2]) == str(b[:2]) and same and torch.equal(a[3][0], b[3][0]) and a[3][1:] == b[3][1:]


def spoil(names):
    for module in [value for value in names.values() if isinstance(value, nn.Module)]:
        for parameter in module.parameters():
            parameter.data.fill_(float("nan"))


def verbs(draw, seen):
    """Return a function of a run that calls its public verbs in a random order."""

    def use(run):
        try:
            again = run.again()
            seen["equal"], seen["why"] = again.is_equal, again.why or [
                (place + again.since, a, b) for place, (a, b) in enumerate(zip(again.losses, again.own, strict=True)) if a != b
            ][:2]  # fmt: skip
            calls = [
                lambda: run.again(rate=10.0), lambda: run.again(lr=0.3, since=run.step - 1), lambda: run.again(skip=run.step - 2),
                lambda: run.again(seed=7), lambda: run.again(clip=0.01, weight_decay=0.5), lambda: run.again(edit=spoil),
                lambda: run.again(edit=lambda names: 1 / 0), run.rates, run.session, lambda: run.again(since=10**9),
            ]  # fmt: skip
            draw.shuffle(calls)
            for call in calls[: draw.randint(3, 10)] if again.is_equal else ():
                try:
                    call()
                except TuiGruError as error:
                    seen.setdefault("errors", []).append(str(error))
        except TuiGruError as refusal:
            seen["refused"] = str(refusal)

    return use


def checked(seed, folder):
    """Return what was found of the script of a seed: "", or a sentence; and why it was refused."""
    source, parts = script(seed)
    path = folder / f"script_{seed}.py"
    path.write_text(source, encoding="utf-8")
    draw, seen = random.Random(seed), {}
    at = draw.sample(range(3, 16), draw.randint(1, 2))
    options = {"keep": draw.choice((4, 8, 32)), "pause": at, "screen": verbs(draw, seen)}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        plain = run_script(path, source, lambda loader: loader)
        watched = run_script(path, source, lambda loader: tui_gru.steps(loader, screen=False))
        if not is_same(plain, watched):
            return f"{seed} {parts}: watched, it trains otherwise", ""
        rewound = run_script(path, source, lambda loader: tui_gru.steps(loader, **options))
    if not is_same(plain, rewound):
        return f"{seed} {parts}: it trains otherwise after {seen}", ""
    if "refused" in seen:
        return "", seen["refused"]
    if not seen:
        return f"{seed} {parts}: it has not paused", ""
    if not seen["equal"]:
        return f"{seed} {parts}: computed again, the steps are others: {seen['why']}", ""
    return "", ""
