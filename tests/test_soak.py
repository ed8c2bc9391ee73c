"""The soaks write their results into the manual, and repeat what they have found."""

import re
from pathlib import Path

import pytest

from tests.soak import report

SOAKS = sorted(path.stem for path in Path(report.__file__).parent.glob("*.py") if "run_blocks(" in path.read_text("utf-8"))


def test_every_soak_has_a_row_in_the_manual():
    text = report.PAGE.read_text(encoding="utf-8")
    assert set(re.findall(r"^\| `\.(\w+)`: ", text, re.MULTILINE)) == {*SOAKS} - {"blocks"}


def test_the_end_of_a_soak_writes_its_row(tmp_path, monkeypatch):
    page = tmp_path / "reliability.md"
    text = report.PAGE.read_text(encoding="utf-8")
    page.write_text(text, encoding="utf-8")
    monkeypatch.setattr(report, "PAGE", page)
    report.write("kills", "1,000 kills", range(3, 53), [], "0123abcd")
    report.write("files", "200 files", range(2), [1], "0123abcd with changes")
    lines = page.read_text(encoding="utf-8").splitlines()
    changed = [line for line in lines if line not in text.splitlines()]
    assert [line.rpartition(" | ")[2] for line in changed] == ["no findings |", "findings with the seeds 1 |"]
    assert "| 1,000 kills, seeds 3 to 52, at 0123abcd |" in changed[0]
    assert "| 200 files, seeds 0 to 1, at 0123abcd with changes |" in changed[1]
    assert len(lines) == len(text.splitlines())
    with pytest.raises(ValueError, match="has no row"):
        report.write("others", "1 run", range(1), [], "")
