"""Every command of the guide for programs that use tools works on a recording and at a pause of a loop; `test_tools.py` has runs of
this program."""

import re
from importlib import resources
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import tui_gru
from tui_gru.cli.tools import Tools
from tui_gru.tui.console import Console

GUIDE = resources.files("tui_gru").joinpath("AGENTS.md").read_text(encoding="utf-8")
#: The commands of the guide that go with any run, as they are written in it.
QUOTED = [
    command.strip()
    for code in re.findall(r"`([^`]+)`", GUIDE)
    for part in (re.findall(r'run "([^"]+)"', code) or [code])
    for command in part.split(";")
    if re.match(r"(facts|findings|print .|arrays|losses|story|why|k$|n$|rates$|diagnose$|go step|branches|again)", command.strip())
]
FACTS = [command for command in QUOTED if command.startswith("facts ")]


def script(steps: int) -> tuple[nn.ModuleDict, torch.optim.Optimizer, list[tuple[torch.Tensor, torch.Tensor]]]:
    """Return the model, the optimizer and the batches of a small training."""
    torch.compiler.reset()  # what another test has compiled: in such a process the loss of a script is not followed
    torch.manual_seed(0)
    model = nn.ModuleDict({"rnn": nn.GRU(3, 4), "head": nn.Linear(4, 2)})
    optimizer = torch.optim.Adam(model.parameters(), 1e-2)
    return model, optimizer, [(torch.randn(5, 6, 3), torch.randint(0, 2, (6,))) for _ in range(steps)]


def loss_of(model: nn.ModuleDict, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    return nn.functional.cross_entropy(model["head"](model["rnn"](x)[0][-1]), y)


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("guide") / "run.gru"
    model, optimizer, batches = script(12)
    with tui_gru.record(folder, model, optimizer, every=10) as rec:
        for x, y in batches:
            optimizer.zero_grad()
            loss = loss_of(model, x, y)
            loss.backward()
            optimizer.step()
            rec.step(loss)
    return folder


def test_the_guide_names_all_parts_of_the_facts() -> None:
    assert {command.split()[1] for command in FACTS} >= {"rate", "targets", "inputs", "criterion", "parameters", "step"}
    assert len(GUIDE.splitlines()) <= 65


def test_the_commands_of_the_guide_answer_on_a_recording(recording: Path) -> None:
    tools = Tools()
    try:
        opened = tools.open(str(recording))
        assert len(opened.splitlines()) <= 10
        assert "12 steps, of which " in opened
        assert "findings: " in opened
        own = {"why NAME[row 1, unit 1]": "why h[row 1, unit 1]", "go step 100 t 4": "go step 10 t 4"}
        of_loops = ("rates", "diagnose", "branches", "again")
        commands = [own.get(command, command).replace("_l0", "") for command in QUOTED if not command.startswith(of_loops)]
        for command in sorted(dict.fromkeys(commands), key=lambda command: command != "n"):
            assert tools.run(command, characters=100_000), command
    finally:
        tools.close()


def test_the_facts_answer_at_a_pause_of_a_loop() -> None:
    model, optimizer, batches = script(6)
    answers: dict[str, str] = {}

    def look(run: Any) -> None:
        console = Console(run.session())
        try:
            for command in ("findings", *FACTS, "print h", "print h[row 1]"):
                answers[command] = console.execute(command).text
        finally:
            console.close()

    for x, y in tui_gru.steps(batches, model, optimizer, pause=4, screen=look):
        optimizer.zero_grad()
        loss = loss_of(model, x, y)
        loss.backward()
        optimizer.step()
    assert "cross_entropy" in answers["facts targets"]
    assert "rnn.weight_hh_l0" in answers["facts parameters"]
    assert "rate is 0.01" in answers["facts rate"]
    assert answers["print h"].startswith("numbers\n")
