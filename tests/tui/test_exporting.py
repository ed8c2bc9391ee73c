"""Export of the contents of the screen to a file."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

import tui_gru
from tests.tui.test_main_screen import driving
from tui_gru.equations.syntax import Name
from tui_gru.errors import TuiGruError
from tui_gru.tui.command import CompletionList
from tui_gru.tui.export import preview
from tui_gru.tui.keys import execute
from tui_gru.tui.panels.values import LossTerms, ValueMatrix
from tui_gru.tui.panels.weights import Overview


async def test_a_derivation_as_text_and_latex(tmp_path: Path) -> None:
    async with driving() as d:
        await d.type("s", "enter")
        for name in ("a.txt", "a.tex"):
            execute(d.screen, f"export {tmp_path / name}")
        assert "wrote the derivation" in d.says
        assert (tmp_path / "a.txt").read_text("utf-8").startswith("③ = +")
        assert r"\begin{align*}" in (tmp_path / "a.tex").read_text("utf-8")


async def test_every_line_as_latex_has_its_numbers(tmp_path: Path) -> None:
    async with driving() as d:
        for _ in range(9):
            await d.type("o")
            line = d.screen.snapshot.line
            assert line is not None
            execute(d.screen, f"export {tmp_path / line.target}.tex")
            written = (tmp_path / f"{line.target}.tex").read_text("utf-8")
            assert written.count("{") == written.count("}"), line.text
            assert written.count(r"\begin{pmatrix}") == written.count(r"\end{pmatrix}"), line.text
            value = d.session.value(line.target)
            assert f"{float(np.ravel(value)[0]):z.4f}"[:6] in written, line.text


class Matrix(np.ndarray):
    """A matrix whose power is the matrix product, which binds more tightly than the product element by element."""

    def __pow__(self, other: Matrix) -> Matrix:
        return self @ other


class Rows:
    def __pow__(self, other: Matrix) -> Matrix:
        return other.sum(axis=0, keepdims=True)


class Mean:
    def __pow__(self, other: Matrix) -> float:
        return float(other.mean())


IN_PYTHON = {
    r"\odot": "*",
    r"\,": "**",
    r"\begin{pmatrix}": "matrix('",
    r"\end{pmatrix}": "')",
    r"\sum_{\text{the rows}}": "rows **",
    r"\operatorname{mean}_{\text{the timesteps}}": "mean **",
}


def matrix_of(entries: str) -> Matrix:
    return np.array([row.split() for row in entries.split(";")], float).view(Matrix)


def calculated(latex: str, B: int, T: int) -> tuple[Matrix | float, Matrix | float]:
    """Return the two sides of an equation of numbers: the first number or matrix, and the result of the rest."""
    latex = latex.replace(r"(B\,T)", f"{B * T}")
    for sign, python in IN_PYTHON.items():
        latex = latex.replace(sign, python)
    latex = latex.replace(r"\\", ";").replace("&=", "=").replace("&", "")
    latex = re.sub(r"\{([^{}]*)\}\^\\top", r"\1.T", latex)
    latex = re.sub(r"\\frac\{([^{}]*)\}\{([^{}]*)\}", r"((\1) / (\2))", latex)
    known = {"matrix": matrix_of, "rows": Rows(), "mean": Mean()}
    left, right = (eval(side, known) for side in latex.split("="))
    return left, right


@pytest.mark.parametrize("reset", ["before", "after"])
async def test_the_numbers_of_every_line_of_the_backward_pass_as_latex_add_up(tmp_path: Path, reset: str) -> None:
    """The result is the number of the run, and the rest, calculated from four or five decimals, gives it to three."""
    async with driving(reset=reset) as d:
        await d.type("l", "n")
        program = d.session.program
        for tick in range(program.loss_tick, program.ticks + 1):
            d.session.seek(tick)
            d.screen.show_now()
            execute(d.screen, f"export! {tmp_path / 'a.tex'}")
            _, _, symbols, numbers, _ = (tmp_path / "a.tex").read_text("utf-8").splitlines()
            target = d.screen.snapshot.line.target
            assert symbols.strip().startswith(program.writer.latex(Name(target)))
            shown, result = calculated(numbers, d.session.config.batch_size, d.session.config.seq_length)
            value = np.reshape(d.session.value(target), np.shape(shown))
            np.testing.assert_allclose(shown, value, atol=6e-5, rtol=5e-5, err_msg=target)
            np.testing.assert_allclose(result, shown, atol=1e-3, err_msg=target)


async def test_small_numbers_keep_their_digits_in_latex(tmp_path: Path) -> None:
    async with driving(learning_rate=1e-4) as d:
        await d.type("l", "n")
        line = d.session.program.tick_of("daz", 0)
        assert line is not None
        d.session.seek(line)
        d.screen.show_now()
        execute(d.screen, f"export {tmp_path / 'a.tex'}")
        smallest = min(np.abs(d.session.value("daz")).ravel())
        largest = max(np.abs(d.session.value("daz")).ravel())
        assert 0 < smallest < largest < 0.1
        written = (tmp_path / "a.tex").read_text("utf-8")
        assert f"{largest:.{3 - int(np.floor(np.log10(largest)))}f}" in written
        assert "-0.0000 " not in written


async def test_a_panel_and_the_screen_as_text(tmp_path: Path) -> None:
    async with driving() as d:
        await d.type("n")
        execute(d.screen, f"export {tmp_path / 'screen.txt'}")
        screen = (tmp_path / "screen.txt").read_text("utf-8").splitlines()
        assert len(screen) == 50
        assert "training loop" in screen[1]
        d.screen.set_focus(d.screen.query_one(LossTerms))
        execute(d.screen, f"export {tmp_path / 'terms.txt'}")
        assert (tmp_path / "terms.txt").read_text("utf-8").startswith("loss, term by term\n\n")
        assert f"{d.session.loss:.4f}" in (tmp_path / "terms.txt").read_text("utf-8")
        d.screen.set_focus(next(matrix for matrix in d.screen.query(ValueMatrix) if matrix.value_name == "z"))
        execute(d.screen, f"export {tmp_path / 'z.txt'}")
        table = np.loadtxt((tmp_path / "z.txt").read_text("utf-8").splitlines()[2:], dtype=np.float32)
        np.testing.assert_array_equal(table, d.session.value("z"))


async def test_a_panel_as_latex(tmp_path: Path) -> None:
    async with driving() as d:
        await d.type("l", "n")
        for panel, names in (
            (LossTerms, [r"\ell^{(1)} &= ", r"{\ell^{(3)}}^{(2)} &= ", r"\mathcal{L} &= 1.2602"]),
            (ValueMatrix, [r"  z &= \begin{pmatrix} "]),
            (Overview, ["W_{z} &= ", "b_{y} &= "]),
        ):
            shown = d.screen.query(panel)
            d.screen.set_focus(next((each for each in shown if getattr(each, "value_name", "z") == "z"), shown.first()))
            execute(d.screen, f"export! {tmp_path / 'a.tex'}")
            written = (tmp_path / "a.tex").read_text("utf-8")
            assert [name for name in names if name not in written] == []
            assert written.count("{") == written.count("}")
        assert "wrote the panel weights" in d.says


async def test_what_is_compared_is_a_difference_in_latex_too(tmp_path: Path) -> None:
    async with driving() as d:
        await d.type("l", "2n")
        d.session.step("batch", -1)
        d.session.edit("Wz", (0, 0), 9)
        d.screen.show_now()
        await d.type("=")
        d.screen.set_focus(d.screen.query(Overview).first())
        execute(d.screen, f"export {tmp_path / 'a.tex'}")
        assert r"W_{z} - {W_{z}}_{\text{main}} &= " in (tmp_path / "a.tex").read_text("utf-8")


async def test_a_panel_as_a_picture(tmp_path: Path) -> None:
    async with driving() as d:
        await d.type("n")
        d.screen.set_focus(d.screen.query_one(LossTerms))
        execute(d.screen, f"export {tmp_path / 'a.svg'}")
        picture = (tmp_path / "a.svg").read_text("utf-8")
        assert "loss" in picture
        assert f"{d.session.loss:.4f}" in picture
        assert "training" not in picture


async def test_the_screen_as_a_picture(tmp_path: Path) -> None:
    async with driving() as d:
        execute(d.screen, f"export {tmp_path / 'a.svg'}")
        assert (tmp_path / "a.svg").read_text("utf-8").startswith("<svg")


async def test_the_screen_is_exported_without_the_command_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    async with driving((80, 24)) as d:
        await d.type("s", ":export a.txt", ":export a.svg")
        assert d.says == "wrote the screen to a.svg"
    written = Path("a.txt").read_text("utf-8").splitlines()
    assert len(written) == 24
    assert written[-1].startswith(" o line  s timestep")
    assert "command" not in Path("a.svg").read_text("utf-8")


async def test_what_cannot_be_exported_says_why() -> None:
    async with driving() as d:
        for typed, word in (
            ("export", "type a file"),
            ("export a.pdf", "a.txt"),
            ("export nowhere/a.txt", "cannot be written"),
            ("export a.tex", "no formula"),
            ("export ~a\0b", "not a valid file name"),
            ("export ~a\ud800b", "not a valid file name"),
        ):
            with pytest.raises(TuiGruError, match=word):
                execute(d.screen, typed)


async def test_a_file_that_is_there_is_left_unless_asked(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("mine", "utf-8")
    async with driving() as d:
        d.screen.is_watched = False  # as without a screen, where nobody can answer
        with pytest.raises(TuiGruError, match="exists and is left as it is"):
            execute(d.screen, f"export {path}")
        assert path.read_text("utf-8") == "mine"
        execute(d.screen, f"export! {path}")
        assert path.read_text("utf-8") != "mine"


@pytest.mark.parametrize("command", ["export", "save"])
async def test_a_file_that_exists_is_overwritten_after_a_question(command: str, tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    if command == "save":  # which overwrites no file but a session
        tui_gru.Session().save(path)
    else:
        path.write_text("mine", "utf-8")
    before = path.read_bytes()
    async with driving() as d:
        await d.type("n", f":{command} {path}")
        assert d.says == f"{path} exists. Overwrite it? y/n"
        await d.type("n")
        assert d.says == f"{path} is left as it is"
        assert path.read_bytes() == before
        await d.type(f":{command} {path}", "y")
        assert path.read_bytes() != before


async def test_a_file_that_is_no_session_is_not_overwritten_by_one(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("mine", "utf-8")
    async with driving() as d:
        await d.type(f":save {path}", "y")
        assert d.says == f"{path} is not a tui-gru session; name another file"
        assert path.read_text("utf-8") == "mine"


async def test_what_an_export_writes_is_said_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "old.txt").touch()
    async with driving((80, 24)) as d:
        await d.type("s", "o")
        said = {
            "export ": "writes the screen as text (.txt) or a picture (.svg), the current line as LaTeX (.tex)",
            "export new.tex": "writes the current line as LaTeX",
            "export new.svg": "writes the screen as a picture",
            "export old.txt": "writes the screen as text; asks before it overwrites the file",
            "export! old.txt": "writes the screen as text; overwrites the file",
        }
        for typed, words in said.items():
            await d.type(":", *typed)
            assert d.screen.query_one(CompletionList).about.partition(": ")[2] == words, typed
            await d.type("escape")
        z = next(matrix for matrix in d.screen.query(ValueMatrix) if matrix.value_name == "z")
        d.screen.set_focus(z)
        await d.type(":", *"export new.tex")
        assert d.screen.query_one(CompletionList).about.endswith("writes the panel z update as LaTeX")
        await d.type("enter")
        assert d.says == "wrote the panel z update to new.tex"
        await d.type("enter", ":", *"export ")
        assert "writes the derivation as text (.txt) or LaTeX (.tex) or a picture" in d.screen.query_one(CompletionList).about


async def test_a_name_that_is_too_long_is_previewed_and_refused() -> None:
    async with driving((80, 24)) as d:
        name = Path(f"{'a' * 300}.txt")
        assert preview(d.screen, name) == "writes the screen as text"
        with pytest.raises(TuiGruError, match="cannot be written: File name too long"):
            execute(d.screen, f"export {name}")
