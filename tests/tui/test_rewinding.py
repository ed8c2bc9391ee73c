"""`:again` and `:rates` on the screen, in a loop of a script."""

import pytest
import torch

import tui_gru
from tests.rewind.loops import LOOPS
from tests.tui.test_main_screen import driving_app
from tui_gru.errors import TuiGruError
from tui_gru.tui.app import TuiGruApp
from tui_gru.tui.panels.story import RatesPanel
from tui_gru.tui.panels.trials import TrialsList
from tui_gru.tui.rewinding import add_edited_weights, typed_change


def plain_run():
    """Return a run whose loop is over, and what it has trained."""
    torch.manual_seed(0)
    runs = []

    def wrap(loader, *stateful):
        runs.append(tui_gru.steps(loader, *stateful, keep=8, screen=False))
        return runs[0]

    losses, model = LOOPS["plain"](wrap)
    return runs[0], losses, [value.clone() for value in model.state_dict().values()], model


async def test_trials_are_made_listed_opened_and_adopted():
    run, losses, weights, model = plain_run()
    session = run.session()
    assert session.loss == pytest.approx(losses[-1])
    async with driving_app(TuiGruApp(session)) as d:
        for line, start in {
            ":again": "8 steps run again: all losses equal bit for bit",
            ":again step 10 lr=1e-1": "from step 10: loss",
            ":again skip": "from step 14: loss",
            ":again clip=0.001": "from step 7: loss",
            ":again seed=7": "8 steps run again: all losses equal bit for bit",
        }.items():
            await d.type(line)
            assert d.says.startswith(start), line
        panel = d.screen.overlay
        assert isinstance(panel, TrialsList)
        assert [trial.words for trial in panel.trials] == ["", "lr=0.1", "skip 14", "clip=0.001", "seed=7"]
        await d.type(":again line 3 x = 1")
        assert "line 3: no statement of the body begins there" in d.says
        await d.type(":again file")
        assert "is the one that was started" in d.says
        await d.type(":rates")
        assert isinstance(d.screen.overlay, RatesPanel)
        assert len(d.screen.overlay.trials) == 7
        assert all(torch.equal(a, b) for a, b in zip(weights, model.state_dict().values(), strict=True))
        await d.type(":again lr=1e-1")
        await d.type("k", "y")
        assert "the script goes on from the end of the trial" in d.says
    assert not any(torch.equal(a, b) for a, b in zip(weights, model.state_dict().values(), strict=True))


async def test_a_trial_that_is_opened_is_a_branch_to_compare_with_the_run():
    run, losses, *_ = plain_run()
    session = run.session()
    async with driving_app(TuiGruApp(session)) as d:
        await d.type(":again step 10 lr=1e-1")
        trial = d.screen.overlay.trials[-1]
        await d.type("enter")
        assert d.says.startswith("this is the trial lr=0.1; = compares it with main")
        assert d.screen.session is session
        assert session.branches == ("main", "lr=0.1")
        assert session.branch == "lr=0.1"
        assert session.loss == pytest.approx(trial.losses[-1])
        assert d.screen.snapshot.forks[1].tick == 3 * session.program.ticks  # the steps 7 to 9 are those of the run
        await d.type("escape", "=")
        assert "lr=0.1 minus main in matrices · first differ at step 10 t1 ←: Wz" in d.says  # after its update
        other = d.screen.snapshot.other
        assert other.losses[7] == pytest.approx(losses[-1])
        assert session.apart().furthest.difference != 0
        await d.type(":branch main")
        assert session.loss == pytest.approx(losses[-1])
        await d.type(":again step 9 skip 12", "enter")
        assert session.branches[-1] == "skip-12"
        assert session.config.source.places[5] == "step 12, left out of the trial"
        assert not [finding for finding in session.findings() if finding.name == "loss-not-finite"]
        session.edit("Uz", (0, 0), 1.0)
        with pytest.raises(TuiGruError, match="is a trial, and the script stands after its own steps"):
            add_edited_weights(session, {}, step=14, loop=run)
        session.undo()
        session.delete_branch("lr=0.1")
        with pytest.raises(TuiGruError, match="main is the run of the script"):
            session.delete_branch("main")
        session.step("batch", -4)
        weights = session.value("Uz")
        session.switch("main")
        assert (session.value("Uz") == weights).all()  # step 10, of which both have the weights
    assert list(run.again(since=9, skip=12).session.steps) == [9, 10, 11, 13, 14]
    with pytest.raises(TuiGruError, match="all of them are left out"):
        _ = run.again(since=14, skip=14).session


def test_a_saved_session_leaves_the_trials_out(tmp_path):
    run, *_ = plain_run()
    session, trial = run.session(), run.again(since=10, lr=0.1)
    assert session.add_trial(trial.session, trial.since, "lr=0.1")
    session.save(tmp_path / "live.tui-gru")
    assert session.branch == "lr=0.1"
    other = tui_gru.Session.open(tmp_path / "live.tui-gru")
    assert other.branches == ("main",)
    assert other.position == session.position


def test_what_is_typed_becomes_the_arguments():
    run, *_ = plain_run()

    def change(text):
        return typed_change(text, step=12, loop=run)

    assert change("step 9 lr=1e-3 clip=1 seed=3 weight_decay=0.1") == {
        "since": 9, "lr": 1e-3, "clip": 1.0, "seed": 3, "weight_decay": 0.1,
    }  # fmt: skip
    assert change("skip") == {"skip": 12, "since": 12}
    assert change("skip 8") == {"skip": 8, "since": 8}
    assert change("line 31 loss = f(a,  b)") == {"lines": {31: "loss = f(a,  b)"}}
    for text, reason in {"often": "takes no 'often'", "lr=fast": "takes a number", "step one": "whole number"}.items():
        with pytest.raises(TuiGruError, match=reason):
            change(text)


async def test_an_edited_weight_is_tried_in_the_loop():
    run, _, weights, model = plain_run()
    session = run.session()
    session.seek("b5 t1")

    def edit(names):
        names["model"].rnn.weight_hh_l0.data[7, 0] = 2.5  # unit 1 of z reads unit 0
        names["model"].rnn.bias_ih_l0.data[8] = 1.0

    direct = run.again(since=11, edit=edit)
    async with driving_app(TuiGruApp(session)) as d:
        await d.type(":set Uz[0, 1] 2.5")
        await d.type(":set bz[2] 1")
        await d.type(":again step 12")
        assert "the edited weights are those of step 11, where the trial then begins" in d.says
        await d.type(":again")
        trial = d.screen.overlay.trials[-1]
    assert (trial.since, trial.words) == (11, "Uz, bz edited")
    assert trial.losses == direct.losses != trial.own
    assert all(torch.equal(a, b) for a, b in zip(weights, model.state_dict().values(), strict=True))


@pytest.mark.parametrize("is_part", [True, False])
def test_an_edited_weight_of_the_head_is_tried_in_the_loop(is_part):
    torch.manual_seed(0)
    gru, head = torch.nn.GRU(3, 4), torch.nn.Linear(4, 2)
    model = torch.nn.ModuleDict({"gru": gru, "out": head}) if is_part else gru
    optimizer = torch.optim.SGD([*gru.parameters(), *head.parameters()], 0.1)
    run = tui_gru.steps([torch.randn(5, 2, 3) for _ in range(5)], model, optimizer, head=head, screen=False)
    for x in run:
        optimizer.zero_grad()
        head(gru(x)[0]).pow(2).mean().backward()
        optimizer.step()
    session, change = run.session(), {}
    session.seek("b3 t1")
    session.edit("Wy", (2, 1), 1.5)
    session.edit("by", (0,), -0.5)
    session.edit("Uz", (0, 1), 0.25)
    add_edited_weights(session, change, step=3, loop=run)

    def edit(names):
        names["head"].weight.data[1, 2] = 1.5
        names["head"].bias.data[0] = -0.5
        names["gru"].weight_hh_l0.data[5, 0] = 0.25

    assert run.again(**change).losses == run.again(since=3, edit=edit).losses


def test_an_edited_bias_that_is_a_sum_changes_the_first_of_both():
    torch.manual_seed(0)
    model = torch.nn.LSTM(2, 3)
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    run = tui_gru.steps([torch.randn(4, 2, 2) for _ in range(4)], model, optimizer, screen=False)
    for x in run:
        optimizer.zero_grad()
        model(x)[0].pow(2).mean().backward()
        optimizer.step()
    session, change = run.session(), {}
    session.edit("bf", (1,), 3.0)
    add_edited_weights(session, change, step=4, loop=run)
    (value,) = change["edit"].values.values()
    parameter, numbers = value
    assert parameter is model.bias_ih_l0
    assert numbers[4] + session.config.source.batch(3).steps[0][1][0].weights.values["bias_hh_l0"][4] == 3.0
    assert run.again(**change).words == "bf edited"
