"""Analyses on screen: findings, units, influence, losses and arrays, with their keys, on every screen size."""

from __future__ import annotations

import asyncio
import re
import threading
import time
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from textual.pilot import Pilot
from torch import nn

import tui_gru
from tests.analysis.test_influence import in_torch
from tests.analysis.torch_model import TorchModel
from tests.debugger.models import parametrize
from tests.tui.pressing import press
from tui_gru.analysis import diagnosis, losses
from tui_gru.analysis.units import feature_of
from tui_gru.debugger.state import State
from tui_gru.engine.config import Config
from tui_gru.engine.model import Model
from tui_gru.engine.numbers import significant
from tui_gru.equations.syntax import split
from tui_gru.tui.app import make_app
from tui_gru.tui.headless import headless, until_checked, until_idle
from tui_gru.tui.panels.derivation import DerivationPanel
from tui_gru.tui.panels.influence import InfluenceMap, LossPlaces
from tui_gru.tui.panels.lists import ArrayList, FindingsList
from tui_gru.tui.panels.units import UnitsMap
from tui_gru.tui.panels.values import Softmax, ValueMatrix
from tui_gru.tui.panels.weights import Overview, WeightsPanel
from tui_gru.tui.session_screen import BottomLine
from tui_gru.tui.terminal import drawn_lines
from tui_gru.tui.theme import ASCII

TEXT = (
    "It was the best of times, it was the worst of times, it was the age of wisdom, it was the age of foolishness, "
    "it was the epoch of belief, it was the epoch of incredulity, it was the season of Light, it was the season of Darkness, "
    "it was the spring of hope, it was the winter of despair.\n"
)
LARGE = {"text": TEXT * 3, "hidden_size": 24, "batch_size": 4, "seq_length": 12, "seed": 2}


@cache
def learned(epochs: int) -> State:
    """The large model after so many epochs, of which no test wants to wait for the first ones."""
    session = tui_gru.Session(**LARGE)
    session.learning = True
    session.step("epoch", epochs)
    return session.state


def opened(options: dict[str, Any], epochs: int = 0) -> Any:
    return make_app(tui_gru.Session(state=learned(epochs)) if epochs else Config.of(**options))


@asynccontextmanager
async def started(
    options: dict[str, Any], *typed: str, epochs: int = 0, size: tuple[int, int] = (160, 50)
) -> AsyncIterator[tuple[Any, Pilot[Any]]]:
    """Run the app, after epochs of the large model if there are any, type, and return the app and its pilot."""
    app = opened(options, epochs)
    async with headless(app, size, drawn=False) as pilot:
        await press(pilot, *typed)
        yield app, pilot


# Findings


async def test_the_tutorials_story_is_told() -> None:
    async with started({}, "l 300e", ":sample Ma 10 0.0", "!") as (app, pilot):
        panel = app.screen.overlay
        await until_checked(pilot)  # until then, the session belongs to the thread that looks for findings that have gone again
        assert isinstance(panel, FindingsList)
        assert [each.name for each in panel.findings] == ["sampler-without-feedback", "rows-do-not-continue"]
        assert panel.findings == app.screen.session.findings()
        assert "it says “" in panel.plain_text()
        assert "2 findings" in header(app)


async def test_enter_goes_to_a_finding_and_asks_where_its_numbers_come_from() -> None:
    async with started({}, "l 3n !") as (app, pilot):
        (finding,) = app.screen.overlay.findings
        await press(pilot, "enter")
        assert app.screen.session.position.tick == finding.tick
        await press(pilot, "! down enter")
        panel = app.screen.overlay
        assert isinstance(panel, DerivationPanel)
        assert panel.leaf.root.number == finding.evidence[-1].number


async def test_cures_are_tried_only_when_e_is_pressed_and_the_cursor_stays_at_its_finding(monkeypatch: pytest.MonkeyPatch) -> None:
    calls, of_runs = list[int](), diagnosis.diagnose_run
    monkeypatch.setattr(diagnosis, "diagnose_run", lambda *args, **options: (calls.append(1), of_runs(*args, **options))[1])
    async with started({}, "l 300e", ":sample Ma 10 0.0", "!") as (app, pilot):
        await until_checked(pilot)
        before = app.screen.overlay
        while before.chosen != "rows-do-not-continue":
            await press(pilot, "down")
        assert not calls
        await press(pilot, "e")
        await until_idle(pilot)
        after = app.screen.overlay
        assert len(calls) == 1
        assert after.chosen == "rows-do-not-continue"
        assert {finding.name for finding in after.findings} == {finding.name for finding in before.findings}
        assert all(finding.tried or finding.cure_label == "cure, not tried" for finding in after.findings)


async def test_a_healthy_run_says_which_of_the_rates_that_were_tried_falls_fastest() -> None:
    async with started(LARGE, "l 2e") as (app, pilot):
        trials = app.screen.session.rates()
        await press(pilot, "!")
        fastest = min(trials, key=lambda trial: trial.loss).rate
        words = " ".join(app.screen.overlay.plain_text().split())
        assert f"Of the {len(trials)} learning rates that were tried, {significant(fastest)} falls fastest." in words


async def test_a_healthy_run_has_none_and_says_so() -> None:
    async with started(LARGE, "!") as (app, pilot):
        assert "No batch has been finished yet" in app.screen.overlay.plain_text()
        await press(pilot, "escape l 2e !")
        assert "Nothing was found" in app.screen.overlay.plain_text()
        await press(pilot, "enter down")
        assert "finding" not in header(app)


async def test_a_branch_has_findings_of_its_own() -> None:
    async with started({}, "l 3n ! escape", ":go e1 b2 t1", ":set learning_rate 0.5") as (app, pilot):
        assert "finding" not in header(app)
        await press(pilot, "u")
        assert "1 finding" in header(app)


async def test_findings_are_looked_for_after_a_long_run() -> None:
    async with started({}, "l 80e") as (app, pilot):
        assert "finding" not in header(app)
        await press(pilot, "90e")
        assert "1 finding" in header(app)


async def test_findings_are_looked_for_after_sampling() -> None:
    async with started({"layout": "contiguous"}, ":sample Ma 5 fed-back") as (app, pilot):
        assert "finding" not in header(app)
        await press(pilot, ":sample Ma 5 tutorial")
        assert "1 finding" in header(app)
        assert [each.name for each in app.screen.snapshot.findings] == ["sampler-without-feedback"]
    async with started(LARGE, ":sample 10 tutorial", epochs=1) as (app, pilot):
        assert "1 finding" in header(app)
        await press(pilot, "! down enter")
        assert app.screen.session.position == app.screen.session.newest


async def test_a_model_of_another_program_has_findings(tmp_path: Path) -> None:
    gru = nn.GRU(3, 4)
    torch.save(gru.state_dict(), tmp_path / "m.pt")
    x = torch.randn(5, 2, 3)
    session = tui_gru.load(tmp_path / "m.pt", inputs=x.numpy(), expect=gru(x)[0].detach().numpy(), z="takes")
    app = make_app(session)
    async with headless(app, (160, 50)) as pilot:
        await press(pilot, "!")
        (finding,) = app.screen.overlay.findings
        assert finding.name == "z-flipped"
        await press(pilot, "down enter")
        assert app.screen.overlay.leaf.root.number == finding.evidence[0].number


def header(app: Any) -> str:
    from tui_gru.tui.panels.time import Header

    return str(app.screen.query_one(Header).render_line(0).text)


# Units


async def test_units_over_the_text_stand_under_the_feature_that_they_follow() -> None:
    async with started(LARGE, "h", epochs=3) as (app, pilot):
        panel = app.screen.overlay
        assert isinstance(panel, UnitsMap)
        activity = app.screen.session.units()
        assert (panel.activity.values == activity.values).all()
        notes = activity.goes_with()
        assert panel.unit == max(range(24), key=lambda unit: notes[unit].gained)
        probes = {probe.feature: probe for probe in activity.probes()}
        heading, shown = "", list[int]()
        for line in panel.plain_text().splitlines()[2:]:
            if re.match(r"unit \d+:", line):
                break
            words = line.split()
            if words[0] in {*probes, "other"}:
                heading = words[0]
                probe = probes.get(heading)
                for r2 in () if heading == "other" else (probe.before, probe.r2):
                    assert (f"R² {r2:.2f}" if r2 >= 0 else "R² < 0") in line
                continue
            if words[0] != "unit":
                continue
            unit = int(words[1]) - 1
            note = notes[unit]
            assert f"{note.before:+.2f}    {note.r:+.2f}" in line
            assert heading == note.what or (heading == "other" and (note.gained <= 0 or abs(note.r) < 0.1))
            assert ("opposite" in line) == (note.r < 0 and heading != "other")
            shown.append(unit)
        assert len(shown) > 15
        await press(pilot, f"/ {' '.join('vowels')} enter")
        r = activity.feature_correlations(feature_of("vowels"))
        assert panel.unit == int(np.argmax(np.abs(r)))
        assert f"vowels {r[panel.unit]:+.2f}" in panel.plain_text()
        assert app.screen.focused is panel


@pytest.mark.parametrize(("size", "rows"), [((80, 24), 2), ((160, 50), 10)])
async def test_the_curves_of_all_units_of_a_small_model_take_the_room_below_the_map(size: tuple[int, int], rows: int) -> None:
    async with started({}, "h", size=size) as (app, _):
        lines = app.screen.overlay.plain_text().splitlines()
        ends = [next(y for y, line in enumerate(lines) if line.startswith(f"unit {unit}:")) for unit in (1, 2)]
        assert ends[1] - ends[0] == rows
        assert any("highest at" in line for line in lines[ends[1] :])
        filled = [sum(sign in "▁▂▃▄▅▆▇█" for sign in line) for line in lines[ends[0] - rows + 1 : ends[0] + 1]]
        assert filled[0] > 0  # h of the text is above 0.8 somewhere
        assert filled == sorted(filled)
        assert filled[0] < filled[-1]
        scale = [lines[y].split("█")[0].split("▁")[0].split()[-1] for y in (ends[0] - rows + 1, ends[0])]
        assert scale == (["+1", "-1"] if rows > 2 else [scale[0], "1:"])
        assert lines[-1].startswith("lowest at")  # no row is left


async def test_a_unit_that_follows_a_feature_in_reverse_is_drawn_with_the_opposite_sign() -> None:
    async with started(LARGE, "h", epochs=3) as (app, pilot):
        panel = app.screen.overlay
        await press(pilot, f"/ {' '.join('vowels')} enter")
        signs = {}
        for _ in range(2):
            for line in drawn_lines(app.screen):
                if (found := re.search(r"unit (\d+) .*?([ +-]{20,})", line.text)) is not None:
                    signs.setdefault(found[1], []).append("opposite" in line.text)
            await press(pilot, "tab")
        r = panel.activity.feature_correlations(feature_of("vowels"))
        assert {unit: turned[0] for unit, turned in signs.items()} == {unit: r[int(unit) - 1] < -0.1 for unit in signs}
        assert not any(turned[1] for turned in signs.values() if len(turned) > 1)


async def test_the_map_of_units_has_signs_only_where_there_are_no_colours() -> None:
    async with started(LARGE, "h", epochs=3) as (app, pilot):
        panel = app.screen.overlay

        def signed() -> int:
            """Return how many units have anything written between their names and their correlations."""
            rows = [row for row in panel.plain_text().splitlines() if re.match(r"unit \d+ ", row)]
            return sum(re.match(r"unit \d+ +(opposite +)?[+-]\d\.\d\d ", row) is None for row in rows)

        assert signed() == 0
        app.no_color = True
        panel.show_again()
        assert signed() > 10
        app.no_color, app.theme = False, "ansi-dark"  # which has no backgrounds
        await pilot.pause()
        assert signed() > 10


async def test_the_columns_beside_the_map_of_units_have_heads() -> None:
    async with started(LARGE, "h", epochs=3) as (app, pilot):
        await until_checked(pilot)
        head = app.screen.overlay.plain_text().splitlines()[2]
        assert re.search(r"r untrained +r now +loss without$", head.rstrip())
        await pilot.resize_terminal(80, 24)
        await until_checked(pilot)
        assert re.search(r"r now +without$", app.screen.overlay.plain_text().splitlines()[2].rstrip())


async def test_a_click_on_the_map_of_units_goes_to_the_character_above() -> None:
    async with started(LARGE, "h", epochs=3) as (app, _):
        panel = app.screen.overlay
        x = panel.plain_text().splitlines()[2].index("best")
        assert panel.point_at(x, 3)
        assert panel.at == TEXT.index("best")


async def test_the_keys_of_the_units() -> None:
    async with started(LARGE, "h tab tab", epochs=1) as (app, pilot):
        panel = app.screen.overlay
        assert panel.plain_text().splitlines()[3].startswith("unit 1 ")  # they are sorted by number
        await press(pilot, f"{'up ' * 24} down right right")
        assert (panel.unit, panel.at) == (1, 2)
        await press(pilot, ">")
        places = sorted(place.at for place in panel.activity.most(1, 20))
        assert panel.at == next(at for at in places if at > 2)
        await press(pilot, "end")
        assert panel.at == len(LARGE["text"]) - 1
        await press(pilot, "home tab")
        like = panel.activity.like(1, 1)[0]
        await press(pilot, "down")
        assert panel.unit == like.what


async def test_the_loss_without_each_unit_is_shown_and_sorts_them() -> None:
    async with started(LARGE, "h", epochs=3) as (app, pilot):
        found = app.screen.session.units(without=True)
        added = found.without - found.loss
        await until_checked(pilot)
        panel = app.screen.overlay
        assert panel.activity.without.tolist() == found.without.tolist()
        await press(pilot, "tab tab tab tab up " + "up " * 24)
        lines = panel.plain_text().splitlines()
        order = np.argsort(-added)
        assert panel.unit == order[0]
        shown = [line for line in lines if re.match(r"unit \d+ ", line)]
        assert [int(line.split()[1]) - 1 for line in shown] == order[: len(shown)].tolist()
        assert [line.split()[-1] for line in shown] == [f"{added[unit]:+.3f}" for unit in order[: len(shown)]]


async def test_a_large_loss_without_a_unit_leaves_a_gap_to_the_column_before() -> None:
    async with started(LARGE, "h", epochs=1) as (app, pilot):
        await until_checked(pilot)
        panel = app.screen.overlay
        panel.tell(0.0, np.full(24, -4.288e10), done=True)
        lines = [line for line in panel.plain_text().splitlines() if re.match(r"unit \d+ ", line)]
        assert {line.split()[-1] for line in lines} == {"-4.3e10"}


async def test_an_estimate_is_shown_until_the_loss_without_a_unit_is_computed() -> None:
    async with started(LARGE, "h", epochs=1) as (app, pilot):
        await until_checked(pilot)
        panel = app.screen.overlay
        without = np.full(24, np.nan)
        panel.activity = replace(panel.activity, without=None)
        panel.tell(0.0, np.linspace(0.1, 0.2, 24), exact=False)
        assert panel.waiting
        await press(pilot, "tab tab")  # by number
        assert "≈+0.100" in panel.plain_text()
        without[0] = 2.5
        panel.tell(2.0, without)
        assert "≈+0.100" not in panel.plain_text()
        assert "  +0.500" in panel.plain_text()
        panel.tell(2.0, np.full(24, 2.25), done=True)
        assert "≈" not in panel.plain_text()
        assert not panel.waiting


async def test_a_closed_panel_no_longer_waits_for_the_loss_without_a_unit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(losses, "AT_ONCE", 0)
    read, stopped = losses.without_each_unit, threading.Event()

    def until_stopped(*arguments: Any, stop: Any, **options: Any) -> Any:
        while not stop():
            time.sleep(0.001)
        stopped.set()
        return read(*arguments, stop=stop, **options)

    monkeypatch.setattr(losses, "without_each_unit", until_stopped)
    app = opened(LARGE)
    async with headless(app, (160, 50), drawn=False) as pilot:
        await press(pilot, "l 1e h")
        assert app.screen.overlay.waiting
        await press(pilot, "escape")
        await asyncio.to_thread(stopped.wait)
        assert app.screen.overlay is None


async def test_units_are_sorted_by_an_expression_or_a_file(tmp_path: Path) -> None:
    async with started(LARGE, "h", ":feature max(abs(h))", epochs=3) as (app, pilot):
        panel, session = app.screen.overlay, app.screen.session
        values = np.abs(panel.activity.values).max(axis=1)
        r = np.array([np.corrcoef(values, panel.activity.values[:, unit])[0, 1] for unit in range(24)])
        assert panel.unit == int(np.abs(r).argmax())
        text = panel.plain_text()
        assert "max(abs(h))" in text
        assert f"{r[panel.unit]:+.2f}" in text
        np.save(tmp_path / "mine.npy", values)
        await press(pilot, f":feature {tmp_path / 'mine.npy'}")
        assert panel.unit == int(np.abs(r).argmax())
        assert "mine.npy" in panel.plain_text()
        await press(pilot, "escape", "h")
        assert [each.name for each in app.screen.overlay.activity.own] == ["max(abs(h))", "mine.npy"]
        assert session.position == app.screen.session.newest


async def test_where_a_unit_is_on_is_selected_with_what_is_on_there_and_where_else_all_of_it_is() -> None:
    async with started(LARGE, "h > > w", epochs=3) as (app, pilot):
        panel = app.screen.overlay
        activity, unit, at = panel.activity, panel.unit, panel.at
        assert panel.span == activity.span_at(unit, at, 0.5)
        assert panel.span.first <= at <= panel.span.last
        lines = panel.plain_text().splitlines()
        (said,) = [line for line in lines if line.startswith("on from 0.5 through ")]
        units = [int(word.removeprefix("−")) - 1 for word in re.findall(r"−?\d+", said.partition(": unit")[2])]
        assert units == [each.unit for each in panel.span.on]
        assert unit in units
        places = activity.spans_of(panel.span.on, 0.5)
        count = len(places) - 1
        assert any(line.startswith(f"all also at {count:,} other place") for line in lines)
        further = [each.first for each in places if each.first > at]
        await press(pilot, ">")
        assert panel.at == (min(further) if further else at)
        await press(pilot, "]")
        assert panel.threshold == 6
        assert panel.span == activity.span_at(unit, panel.at, 0.6)
        await press(pilot, "[", "w")
        assert panel.span is None or panel.threshold == 5
        panel.span = None
        await press(pilot, "home")
        panel.threshold = 10
        await press(pilot, "w")
        assert panel.span is None
        assert "not on here, less than 1 in magnitude" in panel.plain_text()


async def test_the_states_stand_in_the_plane_of_their_main_directions() -> None:
    async with started(LARGE, "h p", epochs=3) as (app, pilot):
        panel, text = app.screen.overlay, LARGE["text"]
        plane = panel.activity.plane
        first, *rows = panel.plain_text().splitlines()[2:]
        assert first.startswith(
            "the state after each character, in its two main directions: "
            f"{100 * plane.shares[0]:.0f} % and {100 * plane.shares[1]:.0f} % of the variance"
        )
        assert "after “I”" in rows[-1]
        await press(pilot, "right")
        assert panel.at == 1
        assert f"after “{text[1]}”" in panel.plain_text()
        for width, height in ((0, 8), (0, 0), (1, 0), (1, 1)):  # a terminal may become so small
            panel.draw(width, height)
            assert not panel.failed
        # The character that is farthest in each direction stands at that edge.
        drawn = panel.plain_text().splitlines()[3:-1]
        top = next(row for row in drawn if row.strip())
        highest = text[int(plane.at[:, 1].argmax())]
        assert {" ": "␣", "\n": "⏎"}.get(highest, highest) in top
        await press(pilot, "p")
        assert "two main directions" not in panel.plain_text()


async def test_on_a_small_screen_nothing_that_is_said_of_the_plane_is_cut() -> None:
    async with started({}, "l 900e h p", size=(80, 24)) as (app, pilot):
        panel = app.screen.overlay
        for key in ("right",) * 3:
            await press(pilot, key)
            await until_checked(pilot)
            text = panel.plain_text()
            assert "…" not in text
            assert re.search(r"in their two main directions: \d+ % and \d+ % of the variance", text)
            said = " ".join(text.split())
            assert re.search(r"after “.”: the slowest direction .* timesteps?; [12] of 2 fades? within a timestep", said)


def moduli_in_torch(session: Any, text: str) -> list[float]:
    """Return the moduli of the eigenvalues, without conjugates, of ∂state/∂state before the last character of a text, of the last
    layer."""
    model, weights = Model(replace(session.config.structure, input="dense", loss="")), session.snapshot().moment.weights
    x = torch.eye(session.config.vocab_size, dtype=torch.float64)[[session.config.vocabulary.index(char) for char in text]][:, None]
    states = {state: torch.zeros(1, session.config.hidden_size, dtype=torch.float64) for state in model.page.states}
    for at in range(len(text) - 1):
        step = TorchModel(model, weights, x[at : at + 1], {name: state.numpy() for name, state in states.items()})
        states = {state: step.value(state, 0) for state in states}
    step = TorchModel(model, weights, x[-1:], {name: state.numpy() for name, state in states.items()})
    own = [state for state in states if split(state)[1] == split(session.program.main_state)[1]]
    before = [step.states[state].requires_grad_() for state in own]
    after = torch.cat([step.value(state, 0)[0] for state in own])
    rows = [torch.cat(torch.autograd.grad(entry, before, retain_graph=True), dim=1)[0] for entry in after]
    found = np.linalg.eigvals(torch.stack(rows).numpy())
    return sorted((abs(value) for value in found if value.imag >= 0), reverse=True)


@pytest.mark.parametrize("options", [{}, {"cell": "lstm", "layers": 2}])
async def test_beside_the_plane_stand_the_time_scales_at_the_cursor(options: dict[str, Any]) -> None:
    async with started(LARGE | options, "l 3e h p") as (app, pilot):
        panel, session, text = app.screen.overlay, app.screen.session, LARGE["text"]
        for at, key in [(0, "home"), (40, ""), (len(text) - 1, "end")]:
            panel.at = at
            await press(pilot, key or "right")
            await until_checked(pilot)
            moduli = moduli_in_torch(session, text[: panel.at + 1])
            rows = panel.plain_text().splitlines()
            after = max(round(-1 / np.log(moduli[0])), 1)
            fades = f"keeps {100 * moduli[0] ** after:.2g} % after"
            grows = f"does not fade: it grows to {100 * moduli[0]:.4g} % in a timestep"
            assert f"the slowest direction {fades if moduli[0] < 1 else grows}" in rows[-1]
            (top,) = [i for i, row in enumerate(rows) if "timesteps to 37 %" in row]
            column = rows[top].index("   |λ|")
            shown = [float(row[column:][:6]) for row in rows[top + 1 : -1] if row[column:][:6].strip()]
            assert len(shown) > 10
            assert shown == pytest.approx(moduli[: len(shown)], abs=1e-3)
        await press(pilot, "r", "p")
        await until_checked(pilot)
        assert session.jacobian(row=0).words in app.screen.overlay.plain_text()


async def test_curves_that_are_kept() -> None:
    async with started(LARGE, "h space down down space down") as (app, pilot):
        panel = app.screen.overlay
        assert len(panel.picked) == 2
        for unit in panel.picked:
            assert {f"unit {unit + 1}", f"unit {unit + 1}:"} <= {line[:9].strip() for line in panel.plain_text().splitlines()}
        await press(pilot, "up space")
        assert len(panel.picked) == 1


async def test_enter_goes_to_where_the_training_reads_the_character() -> None:
    async with started(LARGE, "h right right right right right enter", epochs=1) as (app, _):
        session, corpus = app.screen.session, app.screen.snapshot.corpus
        batch, t, row = corpus.cell_of(5)
        assert (session.position.epoch, session.position.batch, session.position.t) == (0, batch, t)
        assert app.screen.view.row == row
        assert session.value("char")[row] == LARGE["text"][5]


async def test_units_of_a_row_are_live() -> None:
    async with started(LARGE, "s s", ":units z row 2") as (app, pilot):
        panel = app.screen.overlay
        assert panel.activity.row == 1
        assert np.isnan(panel.activity.values[2:]).all()
        await press(pilot, "s")
        session = app.screen.session
        assert (panel.activity.values[2] == session.value("z")[1]).all()
        assert panel.at == 2
        await press(pilot, "enter")
        assert app.screen.overlay.leaf.root.number.name == "z"
        await press(pilot, "escape", ":units z row 4", "r")
        assert app.screen.overlay.activity.row is None


async def test_commands_that_are_refused() -> None:
    async with started(LARGE, "s") as (app, pilot):
        for command, why in (
            (":units nothing", "'nothing'"),
            (":units z row 9", "a row is at most 4, not 9"),
            (":units z zow 1", "units takes a name and a row"),
            (":class quotes", "no units are shown; h shows them"),
        ):
            await press(pilot, command)
            assert why in said(app), command
            assert app.screen.overlay is None, command


async def test_what_a_unit_goes_with_is_said_on_every_width() -> None:
    async with started(LARGE, "h", epochs=1) as (app, pilot):
        panel = app.screen.overlay
        best = app.screen.session.units().goes_with()[panel.unit]
        await press(pilot, "tab")
        for width, beside in ((160, best.what), (160, f"{best.before:+.2f}    {best.r:+.2f}"), (80, f"{best.r:+.2f}"), (40, "")):
            await pilot.resize_terminal(width, 24)
            await pilot.pause()
            lines = panel.plain_text().splitlines()
            (row,) = (line for line in lines if line.split()[:2] == ["unit", str(panel.unit + 1)])
            assert beside in row if beside else str(best.what) not in row
            assert any(f"correlates with {str(best.what)[:6]}" in line for line in lines) or width == 40


# Influence


def read_by(session: Any, found: Any) -> Any:
    """Return the inputs (S, 1, I) that the first layer reads at the places of an influence, with the weights at the start of the
    batch."""
    config, before = session.config, session.snapshot().record.before
    table = before["E"] if config.embedding else np.eye(config.vocab_size)
    return np.array([table[config.vocabulary.index(char)] for char in found.text], np.float64)[:, None]


def first_states(session: Any, found: Any) -> dict[str, Any]:
    """Return the states (1, ·) with which the row of an influence begins."""
    record = session.state.timeline.record(int(found.batch[0]))
    return {state: record.border(state, end=False)[found.row : found.row + 1] for state in record.compiled.states}


async def test_influence_of_every_prediction_of_the_batch() -> None:
    async with started(LARGE, "l 3n 5s r y") as (app, pilot):
        panel = app.screen.overlay
        assert isinstance(panel, InfluenceMap)
        session, found = app.screen.session, panel.influence
        expected = session.influence(0, 4)
        assert (found.gradient == expected.gradient).all()
        read, states = read_by(session, found), first_states(session, found)
        network = in_torch(session, read, states)
        value = network.prediction(found.at, 0, found.character)
        (slope,) = torch.autograd.grad(value, network.x)
        assert found.gradient == pytest.approx(slope[:, 0].norm(dim=-1).numpy(), abs=1e-10)
        assert (found.row, found.text[found.at]) == (0, session.value("char", t=4)[0])
        for s in (0, found.at):
            without = np.where(np.arange(len(read))[:, None, None] == s, 0, read)
            changed = in_torch(session, without, states).prediction(found.at, 0, found.character)
            assert found.occlusion[s] == pytest.approx((value - changed).item(), abs=1e-10)
        assert f"reaches {expected.reach('occlusion').steps} character" in panel.plain_text()
        assert "the other rows: by gradient 0, by occlusion 0" in panel.plain_text()
        await press(pilot, "right down")
        assert (panel.t, panel.influence.row) == (5, 1)
        await press(pilot, "tab")
        assert "occlusion" in panel.heading
        await press(pilot, "up up left enter")
        leaf = app.screen.overlay.leaf
        assert (leaf.root.number.name, leaf.root.number.t) == ("y_hat", 4)


async def test_the_influence_by_both_measures_is_under_one_text() -> None:
    async with started(LARGE, "l 3n 5s r y") as (app, pilot):
        panel = app.screen.overlay
        for width in (160, 80):
            await pilot.resize_terminal(width, 24)
            rows = panel.plain_text().splitlines()
            (at,) = [i for i, row in enumerate(rows) if row.startswith("gradient ")]
            lead = len(rows[at - 1]) - len(rows[at - 1].lstrip())
            shown = panel.influence.text.replace(" ", "␣")[: len(rows[at - 1]) - lead]
            assert rows[at - 1][lead:] == shown
            for name, row in zip(("gradient", "occlusion"), rows[at : at + 2], strict=True):
                values = np.abs(np.nan_to_num(getattr(panel.influence, name)))
                tenths = [min(int(10 * value), 9) for value in values / values.max()]
                digits = "".join(str(tenth) if tenth else " " for tenth in tenths)
                assert row.rstrip() == f"{name:<{lead}}{digits[: len(shown)]}".rstrip()

        def ink() -> Any:
            row = next(line for line in drawn_lines(app.screen) if "gradient " in line.text and "by" not in line.text)
            return next(segment.style for segment in row if "gradient " in segment.text)

        before = ink()
        await press(pilot, "tab")
        assert ink() != before  # the name of the measure that colours the text stands out


async def test_influence_on_another_character_than_the_likeliest() -> None:
    async with started(LARGE, "5s", ":influence w") as (app, pilot):
        panel = app.screen.overlay
        assert panel.influence.character == app.screen.session.config.vocabulary.index("w")
        assert "gives “w”" in panel.plain_text()
        await press(pilot, "escape", ":influence ?")
        assert "'?' is not in the vocabulary" in app.screen.query_one(BottomLine).message


async def test_how_far_back_the_model_remembers() -> None:
    async with started(LARGE, "2n 3s y", epochs=3) as (app, pilot):
        await until_checked(pilot)
        panel, memory = app.screen.overlay, app.screen.session.memory()
        assert panel.memory.losses.tolist() == memory.losses.tolist()
        text = panel.plain_text()
        for context, loss in zip(memory.contexts, memory.losses, strict=True):
            assert re.search(rf"^ *{context} characters? +{loss:.4f} ", text, re.MULTILINE)
        assert re.search(rf"all before +{memory.whole:.4f} ", text)
        assert re.search(rf"bigram +{memory.bigram:.4f} ", text)
        alone = memory.losses[memory.contexts.index(memory.characters)]
        words = f"the loss is {alone:.4f}, with all {memory.whole:.4f}"
        assert f"remembers {memory.characters} characters: with these alone {words}" in text
        assert f"up to {memory.reach('gradient').steps} back by gradient" in text
        assert "believe" not in text
        far = np.where(np.arange(len(memory.gradient)) <= 40, 1.0, 0.0)
        panel.tell(replace(memory, occlusion=far))
        assert "believe gradient, with which the loss by characters read agrees" in " ".join(panel.plain_text().split())
        panel.tell(replace(memory, losses=memory.losses + 0.5))
        assert f"remembers more than {memory.contexts[-1]} characters" in panel.plain_text()
        panel.tell(memory)
        await pilot.resize_terminal(80, 24)
        await pilot.pause()
        assert "remembers" not in panel.plain_text()
        await press(pilot, "tab tab")
        assert panel.plain_text().splitlines()[2].startswith("remembers")
        await press(pilot, "tab right")
        assert panel.t == 4 - 1
        assert panel.memory is memory


async def test_a_model_that_reads_both_ways_has_no_memory_of_characters() -> None:
    async with started({**LARGE, "bidirectional": True}, "l 1n y") as (app, pilot):
        await until_checked(pilot)
        assert app.screen.overlay.memory is None
        assert not app.screen.overlay.waiting


# Losses


async def test_where_the_loss_is_made() -> None:
    async with started(LARGE, "d", epochs=1) as (app, pilot):
        panel = app.screen.overlay
        assert isinstance(panel, LossPlaces)
        losses = app.screen.session.losses(text=LARGE["text"])
        assert f"{losses.mean:.4f} nats" in panel.plain_text()
        await press(pilot, "tab")
        assert "t 12" in panel.plain_text()
        await press(pilot, "tab")
        assert "row 4" in panel.plain_text()
        hardest = losses.hardest(12, apart=8)
        await press(pilot, "down enter")
        row, session = app.screen.view.row, app.screen.session
        assert session.value("target")[row] == LARGE["text"][hardest[1].at]


# Arrays


async def test_every_array_is_summed_up_and_its_largest_entry_explained() -> None:
    async with started(LARGE, "1n s", ":arrays") as (app, pilot):
        panel = app.screen.overlay
        assert isinstance(panel, ArrayList)
        written = panel.plain_text()
        for name in ("Wz", "ΔWz", "h̃", "ŷ"):
            assert f" {name} " in written
        what = app.screen.session.summary("z", t=0)
        assert f"saturated {100 * what.share(what.saturated):.0f} %" in written
        await press(pilot, "enter")
        number = app.screen.overlay.leaf.root.number
        weights = app.screen.session.parameter("Wz")
        assert number.index == np.unravel_index(np.abs(weights).argmax(), weights.shape)


async def test_a_page_of_a_list_is_what_is_in_view() -> None:
    async with started(LARGE, "1n s", ":arrays", size=(80, 24)) as (app, pilot):
        panel = app.screen.overlay
        rows = {entry: y for y in range(panel.virtual_size.height) if (entry := panel.entry_at(y)) is not None}
        height = panel.scrollable_content_region.height
        assert len(rows) > height > 4
        await press(pilot, "pagedown")
        assert height - 4 <= rows[panel.cursor] - rows[0] < height  # a title and a blank may be between
        await press(pilot, "end", "pageup")
        assert height - 4 <= rows[panel.entries - 1] - rows[panel.cursor] < height
        await press(pilot, "home")
        assert panel.cursor == 0


async def test_the_next_saturated_unit() -> None:
    app = opened(LARGE)
    async with headless(app, (160, 50)) as pilot:
        for unit in (3, 7):
            app.screen.session.edit("bz", (unit,), 9.0)
        await press(pilot, "s", ":arrays")
        panel = app.screen.overlay
        panel.action_move(panel.names.index("z"))
        await press(pilot, ">")
        assert app.screen.overlay.leaf.root.number.index == (0, 3)


# Matrices


async def test_keys_to_what_matters_in_a_matrix() -> None:
    async with started(LARGE, ":largest", epochs=1) as (app, pilot):
        weights, session = app.screen.query_one(WeightsPanel), app.screen.session
        matrix = weights.matrix
        values = np.atleast_2d(session.parameter(matrix.refs(0, 0).name))  # of the parameter that the current line updates
        first, second = np.argsort(-np.abs(values).ravel())[:2]
        assert app.screen.focused is matrix
        assert matrix.cursor == np.unravel_index(first, values.shape)
        assert said(app).startswith("the largest entry: ")
        await press(pilot, ":largest")
        assert matrix.cursor == np.unravel_index(second, values.shape)
        assert said(app).startswith("the 2nd largest entry: ")
        for key, mode, read in (
            (":largest-gradient", "gradients", session.gradient),
            (":largest-change", "changes", app.screen.snapshot.last_step),
        ):
            await press(pilot, key)
            largest = max(session.parameter_names, key=lambda name: np.abs(read(name)).max())
            assert (weights.mode, weights.chosen) == (mode, largest)
            at = matrix.cursor if read(largest).ndim == 2 else matrix.cursor[1:]
            assert np.abs(read(largest))[at] == np.abs(read(largest)).max()
        await press(pilot, ", _")
        assert "rows by size" in str(matrix.sorted_by) + " by size"
        assert not matrix.near_zero_shown
        await press(pilot, ">")
        assert matrix.sorted_by == ""


async def test_keys_to_what_matters_in_a_small_model() -> None:
    async with started({}, ":largest-gradient", ":largest") as (app, pilot):
        assert said(app) == "no matrix is in focus; tab goes from panel to panel"
        await press(pilot, "a", ":largest-gradient")
        overview, session = app.screen.query_one(Overview), app.screen.session
        name = max(session.parameter_names, key=lambda name: np.abs(session.gradient(name)).max())
        assert overview.spot.ref.name == f"d{name}"
        assert np.abs(session.gradient(name))[overview.spot.ref.index] == np.abs(session.gradient(name)).max()
        assert app.screen.focused is overview


async def test_one_key_goes_through_the_remarkable_numbers_and_says_which_is_which() -> None:
    async with started({}, "*") as (app, pilot):
        assert said(app) == "no number is remarkable yet; o executes a line, a a step of training"
        await press(pilot, "a", "*")
        weights = app.screen.query_one(WeightsPanel)
        assert said(app).startswith("1 of 3: the largest: ΔWy[")
        assert said(app).endswith(" · * next: the largest gradient")
        assert weights.mode == "changes"
        await press(pilot, "*")
        assert said(app).startswith("2 of 3: the largest: dWy[")
        assert weights.mode == "gradients"
        await press(pilot, "*")
        assert said(app).startswith("3 of 3: unit 1 of h̃ is saturated")
        softmax = app.screen.query_one(Softmax)
        app.screen.set_focus(softmax)  # another panel, so the round begins anew, with its largest number
        await press(pilot, "*", "*", "*")
        assert said(app).startswith("3 of 4: the largest of this panel, ŷ[row 2, “t”] = ")
        shown = [float(app.screen.session.value("y_hat")[spot.ref.index]) for spot in softmax.spots]
        assert shown[softmax.spots.index(softmax.spot)] == max(shown)
        await press(pilot, "s", "*")  # another moment
        assert said(app).startswith("1 of ")


async def test_saturated_units_numbers_that_are_not_finite_and_findings_are_remarkable() -> None:
    async with started({}, "l") as (app, pilot):
        app.screen.session.edit("bz", (1,), 40.0)
        await press(pilot, "s", "*")
        assert said(app) == "unit 2 of z is saturated in nearly all rows"
    async with started({"learning_rate": 3e38}, "l n n n n n n *") as (app, pilot):
        assert "not finite" in said(app)
    async with started({}, "l 300e", ":sample Ma 10 0", "!", "escape") as (app, pilot):
        await press(pilot, "*")
        count = int(said(app).split(":")[0].split(" of ")[1])  # rounding decides whether a unit counts as saturated
        await press(pilot, *["*"] * (count - 1))  # the number of a finding is the last one
        await until_idle(pilot)  # on a slow machine the number of a finding is explained in a thread
        await pilot.pause()
        assert isinstance(app.screen.overlay, DerivationPanel), said(app)


async def test_the_next_saturated_unit_of_a_gate() -> None:
    async with started(LARGE, "s") as (app, pilot):
        for unit in (3, 7):
            app.screen.session.edit("bz", (unit,), 9.0)
        await press(pilot, "s")
        matrix = next(each for each in app.screen.query(ValueMatrix) if each.value_name == "z")
        app.screen.set_focus(matrix)
        for unit in (3, 7, 3):
            await press(pilot, ":saturated")
            assert matrix.cursor[1] == unit
            assert said(app) == f"unit {unit + 1} is saturated in nearly all rows"
        app.screen.set_focus(app.screen.query_one(WeightsPanel).matrix)
        await press(pilot, ":saturated")
        assert "have no limits" in said(app)


def said(app: Any) -> str:
    return str(app.screen.query_one(BottomLine).message)


# Any model


@parametrize("lstm", "rnn both ways", "own cell")
@pytest.mark.parametrize("rate", [0.1, 3e37], ids=["well", "not finite"])
async def test_every_panel_of_any_model(model: dict[str, Any], rate: float) -> None:
    app = opened({**model, "learning_rate": rate})
    async with headless(app, (80, 24), drawn=False) as pilot:
        for keys in ("! down", "l 3n s ! down", "h down right tab tab > r", "y right tab", "d tab tab down", "W down"):
            await press(pilot, keys)
            overlay, message = app.screen.overlay, app.screen.query_one(BottomLine).message
            assert "internal error" not in message + ("" if overlay is None else overlay.plain_text())
            await press(pilot, "escape escape")


# Pictures

PICTURES = {
    "findings": ({}, 0, "l 300e", ":sample Ma 10 0.0", "! down"),
    "units": (LARGE, 3, "h down right right"),
    "row": (LARGE, 3, "8s", ":units h row 1"),
    "influence": (LARGE, 3, "2n 9s y"),
    "losses": (LARGE, 3, "d"),
    "arrays": (LARGE, 3, "9s :arrays"),
}


async def finished(pilot: Pilot[Any], typed: Iterable[str]) -> None:
    """Type, and wait for what a panel still computes."""
    await press(pilot, *typed)
    await until_checked(pilot)


@pytest.mark.parametrize("name", PICTURES)
def test_pictures(snap_compare: Any, name: str) -> None:
    options, epochs, *typed = PICTURES[name]
    assert snap_compare(opened(options, epochs), terminal_size=(120, 36), run_before=lambda pilot: finished(pilot, typed))


@pytest.mark.parametrize("size", [(160, 50), (80, 24), (120, 36)], ids=["wide", "narrow", "ascii"])
@pytest.mark.parametrize("name", PICTURES)
def test_texts(snap_text: Any, request: Any, name: str, size: tuple[int, int]) -> None:
    options, epochs, *typed = PICTURES[name]
    app = opened(options, epochs)
    if request.node.callspec.id.endswith("ascii"):
        app.glyphs = ASCII
    snap_text(app, terminal_size=size, run_before=lambda pilot: finished(pilot, typed))
