"""The soaks write their results into the manual, and repeat what they have found."""

import ast
import re
import subprocess
from pathlib import Path

import pytest

from tests.soak import mutants, planted, report

SOAKS = sorted(path.stem for path in Path(report.__file__).parent.glob("*.py") if "run_blocks(" in path.read_text("utf-8"))


def test_every_soak_has_a_row_in_the_manual():
    text = report.PAGE.read_text(encoding="utf-8")
    assert set(re.findall(r"^\| `\.(\w+)`: ", text, re.MULTILINE)) == {*SOAKS} - {"blocks"}


def test_the_end_of_a_soak_writes_its_row(tmp_path, monkeypatch):
    page = tmp_path / "reliability.md"
    text = report.PAGE.read_text(encoding="utf-8")
    page.write_text(text, encoding="utf-8")
    monkeypatch.setattr(report, "PAGE", page)
    report.write("kills", "1,000 kills", 1234.5, range(3, 53), [], "0123abcd")
    report.write("files", "200 files", 60.4, range(2), [1], "0123abcd with changes")
    lines = page.read_text(encoding="utf-8").splitlines()
    changed = [line for line in lines if line not in text.splitlines()]
    assert [line.rpartition(" | ")[2] for line in changed] == ["no findings |", "findings with the seeds 1 |"]
    assert "| 1,000 kills in 1,234 s, seeds 3 to 52, at 0123abcd |" in changed[0]
    assert "| 200 files in 60 s, seeds 0 to 1, at 0123abcd with changes |" in changed[1]
    assert len(lines) == len(text.splitlines())
    with pytest.raises(ValueError, match="has no row"):
        report.write("others", "1 run", 1.0, range(1), [], "")


def test_a_row_of_the_table_changes_nothing_that_is_tested(tmp_path, monkeypatch):
    page = tmp_path / "tui_gru" / "manual" / "reliability.md"
    page.parent.mkdir(parents=True)
    (code := tmp_path / "code.py").write_text("1")
    page.write_text("a row")
    commit = ["-c", "user.name=a", "-c", "user.email=a@example.org", "commit", "-qam", "all"]
    for words in (["init", "-q"], ["add", "."], commit):
        subprocess.run(["git", "-C", str(tmp_path), *words], check=True)
    monkeypatch.setattr(report, "ROOT", tmp_path)
    monkeypatch.setattr(report, "PAGE", page)
    page.write_text("another row")
    assert re.fullmatch("[0-9a-f]{8}", report.commit())
    code.write_text("2")
    assert re.fullmatch("[0-9a-f]{8} with changes", report.commit())


@pytest.mark.parametrize("fault", planted.FAULTS, ids=lambda fault: f"{fault.function} {fault.operator} {fault.occurrence}")
def test_every_planted_fault_has_its_place(fault):
    _, place = mutants.planted(fault)
    assert ast.dump(place.node) != ast.dump(place.changed)
    assert all((report.ROOT / name).exists() for name in fault.tests)


def test_faults_are_counted_in_the_order_of_the_text():
    tree = ast.parse(
        "def f(a, b=1 < 2):\n    def g():\n        return 1 < 2\n    if a < b <= 3 and not any(b):\n        raise KeyError(-a)\n"
    )
    [(name, function), (inner, _)] = mutants.functions(tree)
    assert (name, inner) == ("f", "f.<locals>.g")
    for operator, changed in {
        "border": ["a <= b <= 3", "a < b < 3"],
        "any": ["all"],
        "and": ["a < b <= 3 or not any(b)"],
        "not": ["any(b)"],
        "sign": ["a"],
        "omit": ["pass"],
        "true": ["True"] * 3,
        "negate": ["not (a < b <= 3 and (not any(b)))", "not a < b <= 3", "not (not any(b))"],
    }.items():
        expected = [ast.unparse(ast.parse(text)) for text in changed]
        assert [ast.unparse(place.changed) for place in mutants.places(function, operator)] == expected
