"""What the screen shows of bad days: every panel, on every page, and the overlays."""

from __future__ import annotations

import pytest

from tests.bad_days import RUNS, TRAININGS, BadDays, Run, Training
from tests.extent import spread
from tests.statements import Shown, answers, assert_none, false_cells, false_words, panels
from tui_gru.tui.verbs import BY_ID, VERBS

DAYS: tuple[Run | Training, ...] = (*RUNS, *TRAININGS)
PLACES = ("first", "middle", "last")
SIZES = ((160, 50), (80, 24), (40, 12))


LOOKS = [(row, PLACES[i % 3], SIZES[i // 3 % 3]) for i, row in enumerate(spread(DAYS, 12))]
LOOKS += [(row, "last", SIZES[-1]) for row in TRAININGS if row.trouble == "overflow in the output"]  # inf where inf is expected


@pytest.mark.parametrize(("row", "place", "size"), LOOKS, ids=[f"{row.name}, {place}" for row, place, _ in LOOKS])
async def test_panels_show_the_numbers_of_the_run(
    bad_days: BadDays, row: Run | Training, place: str, size: tuple[int, int]
) -> None:
    day = bad_days[row]
    session, shown, faults = day.open(place), list[Shown](), list[str]()
    async for where, panel in panels(session, size):
        shown.append(Shown(where, f"{panel.plain_text()}\n{panel.subheading}"))
        faults += [f"{where}: {fault}" for fault in false_cells(panel, session)]
    assert_none(faults + false_words(shown, day.facts))


@pytest.mark.parametrize("row", spread(DAYS, 4), ids=lambda row: row.name)
def test_every_verb_answers(bad_days: BadDays, row: Run | Training, tmp_path: object, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(str(tmp_path))
    day = bad_days[row]
    asking = [verb for verb in VERBS if verb.group in ("Look", "Analyse") or verb.id in ("check", "not.finite")]
    shown = [Shown(each.verb.id, f"{each.text}\n{each.refused}") for each in answers(day.open(), asking)]
    assert {BY_ID["findings"], BY_ID["story"]} <= set(asking)
    assert_none(false_words(shown, day.facts))
