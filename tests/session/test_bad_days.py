"""What is said of bad days without a screen: findings, the first number that is not finite, losses, JSON, reports, pages."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.bad_days import RUNS, TRAININGS, BadDays, Run, Training
from tests.extent import spread
from tests.statements import (
    Shown,
    answers,
    assert_none,
    false_findings,
    false_first_number,
    false_losses,
    false_rows,
    false_words,
    pages,
    reports,
    trees,
)
from tui_gru.cli.commands import main
from tui_gru.tui.verbs import BY_ID

DAYS: tuple[Run | Training, ...] = (*RUNS, *TRAININGS)
PLACES = ("first", "middle", "last")
every_day = pytest.mark.parametrize("row", DAYS, ids=lambda row: row.name)
ASKED = [BY_ID[name] for name in ("findings", "not.finite", "story", "losses", "arrays", "influence", "explain", "units", "check")]


@every_day
def test_what_stopped_a_run_is_the_first_finding_and_a_healthy_one_has_none(bad_days: BadDays, row: Run | Training) -> None:
    day = bad_days[row]
    assert_none(false_findings([each.name for each in day.open().findings()], day.facts))


@every_day
def test_the_first_number_that_is_not_finite_is_that_of_a_scan(bad_days: BadDays, row: Run | Training) -> None:
    day = bad_days[row]
    assert_none(false_first_number(day.open(), day.facts, of_script=day.records))


@every_day
def test_losses_are_those_of_the_run(bad_days: BadDays, row: Run | Training) -> None:
    day = bad_days[row]
    assert_none([fault for place in PLACES for fault in false_losses(day.open(place), day.facts)])


@pytest.mark.parametrize("row", [row for row in TRAININGS if row.end == "exception"], ids=lambda row: row.name)
def test_the_error_that_ended_a_script_is_said(bad_days: BadDays, row: Training) -> None:
    day = bad_days[row]
    text = next(answers(day.open(), [BY_ID["findings"]])).text
    assert_none([word for word in day.facts.ended if word not in " ".join(text.split())])


@every_day
def test_a_tree_shows_the_numbers_of_its_terms(bad_days: BadDays, row: Run | Training) -> None:
    session = bad_days[row].open()
    assert_none([fault for tree in trees(session) for fault in false_rows(tree)])


@pytest.mark.parametrize("row", spread(DAYS, 10), ids=lambda row: row.name)
def test_answers_say_what_is_true_and_are_json(bad_days: BadDays, row: Run | Training) -> None:
    day = bad_days[row]
    shown = [Shown(each.verb.id, f"{each.text}\n{each.refused}") for each in answers(day.open(), ASKED)]
    assert_none(false_words(shown, day.facts))


@pytest.mark.parametrize("row", spread(DAYS, 4), ids=lambda row: row.name)
def test_reports_and_pages_say_what_is_true(bad_days: BadDays, row: Run | Training, tmp_path: Path) -> None:
    day = bad_days[row]
    session = day.open()
    assert_none(false_words([*reports(day.path, tmp_path), *pages(session, session.findings())], day.facts))


@pytest.mark.parametrize("row", spread(DAYS, 4), ids=lambda row: row.name)
def test_commands_end_with_0_or_2_and_print_json(
    bad_days: BadDays, row: Run | Training, capsys: pytest.CaptureFixture[str]
) -> None:
    day = bad_days[row]
    codes = [
        main(["run", "--session", str(day.path), "--json", "-x", commands]) for commands in ("newest; findings; ^", "newest; d; H")
    ]
    out, err = capsys.readouterr()
    assert set(codes) <= {0, 2}
    assert all(isinstance(json.loads(line, parse_constant=pytest.fail), dict) for line in out.splitlines())
    assert_none(false_words([Shown("messages", err)], day.facts))
