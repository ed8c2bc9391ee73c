"""The facts of a training as tables: of a recording, of a batch of a script, of runs of this program, and of a model file."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import tui_gru
from tui_gru.analysis import measured
from tui_gru.capture.facts import StepFacts
from tui_gru.errors import TuiGruError
from tui_gru.tui.console import Console


class Tagger(nn.Module):
    """A GRU whose head is frozen in part, with a layer that no optimizer has."""

    def __init__(self) -> None:
        super().__init__()
        self.gru = nn.GRU(3, 4)
        self.head = nn.Linear(4, 2)
        self.beside = nn.Linear(4, 2)
        self.head.bias.requires_grad_(False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out = self.gru(x)[0][-1]
        return self.head(out) + self.beside(out)


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A recording of 30 steps with two groups, a rate that is halved every ten steps, gradients that the second step adds up, and a
    clip after that."""
    torch.manual_seed(0)
    model = Tagger()
    groups = [
        {"params": model.gru.parameters(), "lr": 0.1, "weight_decay": 0.5},
        {"params": [model.head.weight, model.head.bias], "lr": 0.0},
    ]
    optimizer = torch.optim.SGD(groups)
    schedule = torch.optim.lr_scheduler.StepLR(optimizer, 10, 0.5)
    x, y = torch.zeros(5, 6, 3), torch.tensor([1, 1, 1, 1, 0, -100])
    x[..., 0] = 2.0
    folder = tmp_path_factory.mktemp("facts") / "run.gru"
    with tui_gru.record(folder, model, optimizer, every=10) as rec:
        for number in range(30):
            if number > 1:
                optimizer.zero_grad()
            loss = nn.functional.cross_entropy(model(x), y, label_smoothing=0.25, reduction="sum")
            loss.backward()
            if number > 1:
                nn.utils.clip_grad_norm_(model.parameters(), 1e-2)
            optimizer.step()
            schedule.step()
            rec.step(loss)
    return folder


def facts(session: tui_gru.Session, part: str) -> measured.FactTable:
    (table,) = session.facts(part)
    return table


def test_the_rate_of_every_step_of_a_recording_is_known(recorded: Path) -> None:
    session = tui_gru.Session.open(recorded)
    rate = facts(session, "rate")
    assert rate.rows == ((0, 0.1, 1.0), (10, 0.05, 0.5), (20, 0.025, 0.25))
    assert rate.sentences[0].startswith("the rate begins at 0.1 and ends at 0.025, after 2 changes in 30 steps")
    assert "optimizer 1 group 1: 0.025, optimizer 1 group 2: 0" in rate.sentences[-1]
    assert not rate.missing


def test_targets_and_inputs_say_what_the_loss_and_the_model_read(recorded: Path) -> None:
    session = tui_gru.Session.open(recorded)
    targets = facts(session, "targets")
    row = dict(zip(targets.columns, targets.rows[-1], strict=True))
    assert (row["type"], row["shape"], row["low"], row["high"], row["ignored"]) == ("int64", "(6,)", -100.0, 1.0, 1)
    assert row["as before"]
    assert "classes in step 28: 3 different among 6 targets; 1: 4, -100: 1, 0: 1" in targets.sentences
    inputs = facts(session, "inputs")
    row = dict(zip(inputs.columns, inputs.rows[-1], strict=True))
    assert (row["shape"], row["different along axis 0"], row["axis 1"]) == ("(5, 6, 3)", "1 of 5", "1 of 6")
    assert row["zeros"] == pytest.approx(2 / 3)
    assert "gru reads (5, 6, 3) as 5 timesteps of 6 rows, batch_first=False" in inputs.sentences
    assert any("all rows and all timesteps alike: " in sentence for sentence in inputs.sentences)


def test_the_criterion_has_its_arguments_and_the_path_of_the_loss(recorded: Path) -> None:
    criterion = facts(tui_gru.Session.open(recorded), "criterion")
    assert criterion.sentences[0].endswith("Tagger (5, 6, 3) → (6, 2); cross_entropy (6, 2) (6,) → a number")
    assert "cross_entropy(input (6, 2), target (6,), reduction=sum, label_smoothing=0.25)" in criterion.sentences[1]
    assert "5 times that of its plain mean" in criterion.sentences[2]  # five targets are not ignored


def test_parameters_say_which_train_have_a_rate_and_move(recorded: Path) -> None:
    table = facts(tui_gru.Session.open(recorded), "parameters")
    rows = {row[0]: dict(zip(table.columns, row, strict=True)) for row in table.rows}
    gru, head, beside = rows["gru.weight_hh_l0"], rows["head.weight"], rows["beside.weight"]
    assert (gru["group"], gru["decay"], gru["rate"]) == (1, 0.5, 0.025)
    assert gru["‖ΔW‖/‖W‖"] > 0
    assert gru["since start"] > gru["‖ΔW‖/‖W‖"]
    assert (head["rate"], head["‖ΔW‖/‖W‖"], head["since start"]) == (0.0, 0.0, 0.0)
    assert head["‖gradient‖"] > 0
    assert (beside["optimizer"], beside["rate"]) == (None, None)
    assert "requires_grad is False: 1 of 8: head.bias" in table.sentences
    assert "in no optimizer that ran: 2 of 8: beside.weight, beside.bias" in table.sentences


def test_what_step_saw(recorded: Path) -> None:
    table = facts(tui_gru.Session.open(recorded), "step")
    rows = [dict(zip(table.columns, row, strict=True)) for row in table.rows]
    assert [row["cleared"] for row in rows[:4]] == [None, False, True, True]
    assert [row["scale"] for row in rows[:2]] == [pytest.approx(1), None]
    assert 0 < rows[2]["scale"] < 0.1  # the clip
    assert any(sentence.startswith("p.grad still had the gradient of the step before") for sentence in table.sentences)


def test_a_target_is_read_off_a_loss_of_the_script_itself(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model, x, y = nn.RNN(2, 3), torch.randn(4, 5, 2), torch.rand(4, 5, 3)
    optimizer = torch.optim.Adam(model.parameters())
    with tui_gru.record(tmp_path / "run.gru", model, optimizer) as rec:
        for _ in range(2):
            optimizer.zero_grad()
            loss = ((model(x)[0] - y) ** 2).mean()
            loss.backward()
            optimizer.step()
            rec.step(loss)
    session = tui_gru.Session.open(tmp_path / "run.gru")
    targets, criterion = facts(session, "targets"), facts(session, "criterion")
    assert targets.sentences[0].startswith("sub reads float32 (4, 5, 3): ")
    assert "sub (4, 5, 3) (4, 5, 3) → (4, 5, 3)" in criterion.sentences[0]
    assert criterion.missing


def test_facts_of_a_run_of_this_program() -> None:
    session = tui_gru.Session()
    session.learning = True
    session.step("batch", 3)
    Console(session).execute("set learning_rate 0.5")
    session.step("batch", 2)
    assert facts(session, "rate").rows == ((1, 0.01), (4, 0.5))
    parameters = facts(session, "parameters")
    row = dict(zip(parameters.columns, parameters.rows[0], strict=True))
    name = session.parameter_names[0]
    assert row["‖W‖"] == pytest.approx(float(np.linalg.norm(session.parameter(name).astype(np.float64))))
    assert row["‖ΔW‖/‖W‖"] > 0
    targets = facts(session, "targets")
    assert sum(targets.columns["in this batch"]) == session.config.batch_size * session.config.seq_length
    assert facts(session, "criterion").columns["guess"][0] == "blind guess"
    assert facts(session, "step").rows[-1][:2] == (5, True)
    assert len(facts(session, "inputs").sentences) == 3


def test_every_part_is_answered_by_commands_and_another_is_refused(recorded: Path) -> None:
    console = Console(tui_gru.Session.open(recorded))
    try:
        for part in measured.PARTS:
            answer = console.execute(f"facts {part}")
            assert answer.data[0]["part"] == part
            assert f"facts: {part}" in answer.text
        every = console.execute("facts")
        assert [entry["part"] for entry in every.data] == list(measured.PARTS)
        with pytest.raises(TuiGruError, match="facts are about rate, targets"):
            console.execute("facts everything")
    finally:
        console.close()


def test_facts_of_an_earlier_version_are_read_and_blank(recorded: Path) -> None:
    session = tui_gru.Session.open(recorded)
    entry = json.loads(json.dumps(session.config.source.batches.recording.facts[-2].encoded()))
    assert StepFacts.decoded(entry).encoded() == entry
    for name in ("targets", "path", "table", "rows_left_out"):
        del entry[name]
    for name in ("dtype", "low", "high", "zeros", "slices", "counts", "distinct"):
        del entry["inputs"][0][name]
    earlier = StepFacts.decoded(entry)
    assert earlier.table == ()
    from tui_gru.analysis.causes import WatchedSteps

    (table,) = measured.facts_of_script(WatchedSteps((earlier,)), session.config.source, ["parameters"])
    assert table.missing == measured.NOT_WATCHED
    (inputs,) = measured.facts_of_script(WatchedSteps((replace(earlier),)), session.config.source, ["inputs"])
    assert inputs.rows
