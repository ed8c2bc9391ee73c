"""`tui-gru lesson`: lessons and exercises, in the terminal or without a screen, for readers and for authors."""

from __future__ import annotations

import json
import sys
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.shell_completion import CompletionItem

from tui_gru.cli.completion import session_completions
from tui_gru.cli.models import click_float, click_integer, given_model
from tui_gru.cli.options import (
    DONE,
    INTERNAL_ERROR,
    open_debugger,
    open_output,
    output_option,
    print_lines,
    read_text_file,
    screen_options,
)
from tui_gru.disk import saving
from tui_gru.errors import TuiGruError

if TYPE_CHECKING:
    from tui_gru.session.session import Session
    from tui_gru.teaching.lesson import Lesson

NOT_RIGHT = INTERNAL_ERROR  # of `--check` and `--at-least`, as of other checks


def complete_lessons(context: click.Context, parameter: click.Parameter, begun: str) -> list[CompletionItem]:
    from tui_gru.cli.completion import files
    from tui_gru.teaching.lesson import shipped_lessons

    names = [CompletionItem(name) for name in shipped_lessons() if name.startswith(begun)]
    return [*names, *files(".md")(context, parameter, begun)]


@click.command(
    "lesson",
    short_help="Lessons and exercises, with hints; also your own.",
    epilog="""\b
Examples:
  tui-gru lesson                                    the list
  tui-gru lesson loss                               the loss and its gradient, by hand
  tui-gru lesson loss --seed 2                      the same with other numbers, a sheet for another student
  tui-gru lesson loss --answers mine.txt --json     grade the answers in a file, one a line: `3: 1.7905`
  tui-gru lesson loss --answers mine.txt --at-least 0.8   the same, with exit code 1 if fewer are right
  tui-gru lesson --new mine.md                      a file to begin with, with a card of each kind
  tui-gru lesson --from walk.tui-gru --new mine.md  a draft from the marks of a session
  tui-gru lesson --check mine.md                    everything computes, and nothing gives an answer away""",
)
@click.argument("name", required=False, metavar="[NAME|FILE]", shell_complete=complete_lessons)
@click.option("--seed", type=click_integer, metavar="N", help="Seed of all its models, so that it has other numbers.")
@click.option("--check", is_flag=True, help="Check the lesson, or all of them, with the seeds 1 to 5 or the one given.")
@click.option(
    "--answers",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Grade the answers in a file, one a line: `3: 1.7905`.",
)
@click.option("--json", "as_json", is_flag=True, help="With --answers: one JSON object for each question.")
@click.option(
    "--at-least",
    type=click_float,
    metavar="SHARE",
    help="With --answers: exit code 1 if a smaller share is right, as in 0.8.",
)
@click.option("--new", type=click.Path(path_type=Path), metavar="FILE", help="Write a lesson to begin with to a new file.")
@click.option(
    "--from",
    "session",
    metavar="NAME|PATH",
    help="Make the new lesson from the marks of a session.",
    shell_complete=session_completions,
)
@click.option("--notebook", is_flag=True, help="Write the lesson as a notebook of Jupyter, to -o FILE.")
@output_option("Output file of --notebook; default: standard output.")
@screen_options
def lesson_command(
    name: str | None,
    seed: int | None,
    check: bool,
    answers: Path | None,
    as_json: bool,
    at_least: float | None,
    new: Path | None,
    session: str | None,
    notebook: bool,
    output: str,
    theme: str | None,
    ascii_only: bool | None,
    keymap: Path | None,
) -> None:
    """Open a lesson: cards with questions about a training, which you step yourself. NAME is one of the list, FILE a Markdown file.

    Numbers that are asked for show ? on the screen until you have answered. Without NAME, the list of lessons.
    """
    if as_json and answers is None:
        raise TuiGruError("it belongs to --answers; name the file with the answers", option="json")
    if at_least is not None and answers is None:
        raise TuiGruError("it belongs to --answers; name the file with the answers", option="at-least")
    if at_least is not None and not 0 <= at_least <= 1:
        raise TuiGruError(f"a share is a number from 0 to 1, such as 0.8, not {at_least:g}", option="at-least")
    if (chosen := [option for option, given in _faces(check, answers, new or session, notebook).items() if given])[1:]:
        raise TuiGruError(f"--{chosen[0]} and --{chosen[1]} are both given; keep one of them")
    if new is not None or session is not None:
        _write_new(name, new, session)
    elif check:
        click.get_current_context().exit(_check(name, seed))
    elif answers is not None:
        share = _grade(_named(name), seed, answers, as_json)
        click.get_current_context().exit(NOT_RIGHT if at_least is not None and share < at_least else DONE)
    elif notebook:
        _write_notebook(_named(name), str(name), seed, output)
    elif name is None and not (sys.stdout is not None and sys.stdout.isatty()):
        print_lines(_list())
    else:
        _open(name, seed, theme=theme, ascii_only=ascii_only, keymap=keymap)


def _open(name: str | None, seed: int | None, **looks: Any) -> None:
    """Open the debugger with a lesson, or with the list of lessons."""
    from tui_gru.engine.config import Config
    from tui_gru.teaching.course import model_session
    from tui_gru.teaching.lesson import shipped_lessons

    if name is not None:  # errors are reported before the screen opens
        lesson = _named(name)
        for model in lesson.models:
            model_session(lesson, model, seed)
        name = name if name in shipped_lessons() else str(Path(name).expanduser().absolute())
    command = "lesson" if name is None else f"lesson {name}" if seed is None else f"lesson {name} seed {seed}"

    def begin() -> Session:
        from tui_gru.tui.app import new_session

        return new_session(Config.of())

    open_debugger(begin, command=command, **looks)


def _write_notebook(lesson: Lesson, typed: str, seed: int | None, output: str) -> None:
    from tui_gru.tui.lesson_notebook import notebook_of

    with open_output(output, option="o") as out:
        out.write(notebook_of(lesson, typed, seed).encode())


def write_page(name: str, output: Path, *, force: bool) -> None:
    """Write a lesson as a page, with the seed of the model options if one is given; print its size. Raises `TuiGruError`."""
    options = given_model()
    if other := next((option for option in options if option != "seed"), None):
        raise TuiGruError("a lesson has its own models; only --seed can be given with it", option=other)
    for option in ("session", "commands", "last", "jump"):
        if click.get_current_context().params.get(option):
            raise TuiGruError("it belongs to a walk, and --lesson writes a lesson; leave one of them out", option=option)
    from tui_gru.tui.lesson_page import write_lesson

    stdout = sys.stdout  # Textual puts another in its place while an app runs
    size = write_lesson(_named(name), output, seed=options.get("seed"), force=force)
    print(f"{output}: {size / 1000:,.0f} kB", file=stdout)


def _faces(check: bool, answers: Path | None, new: Any, notebook: bool) -> dict[str, bool]:
    return {"check": check, "answers": answers is not None, "new": new is not None, "notebook": notebook}


def _named(name: str | None) -> Lesson:
    from tui_gru.teaching.lesson import read_lesson, shipped_lessons

    if name is None:
        raise TuiGruError(f"name a lesson, one of {', '.join(shipped_lessons())}, or the .md file of one")
    return read_lesson(name)


def _list() -> list[str]:
    from tui_gru.teaching.lesson import read_lesson, shipped_lessons

    lessons = list(map(read_lesson, shipped_lessons()))
    width = max(len(lesson.name) for lesson in lessons)
    return [f"{lesson.name:<{width}}  {lesson.minutes:>3} min  {lesson.title}" for lesson in lessons]


def _check(name: str | None, seed: int | None) -> int:
    """Check a lesson, or all; print what is wrong, and return the exit code."""
    from tui_gru.teaching.checking import SEEDS, CheckedQuestion, lesson_problems
    from tui_gru.teaching.lesson import read_lesson, shipped_lessons
    from tui_gru.tui.console import Console

    problems = 0
    for lesson in map(read_lesson, [name] if name is not None else shipped_lessons()):
        seeds = SEEDS if seed is None else (seed,)
        texts: list[str] = []

        def list_question(checked_one: CheckedQuestion, seen_texts: list[str] = texts) -> None:
            seen_texts.append(f"  {checked_one.question.number:>2}  {checked_one.answer}")

        wrong: dict[str, list[int]] = {}
        for one in seeds:
            for problem in lesson_problems(lesson, Console, one, list_question if one == seeds[0] else None):
                wrong.setdefault(problem.text, []).append(problem.seed)
        problems += len(wrong)
        count = f"{len(lesson.questions)} questions, {len(lesson.cards)} cards, seeds {', '.join(map(str, seeds))}"
        if name is not None:
            print_lines(texts)
        print_lines(f"{text} (seed {', '.join(map(str, places))})" for text, places in wrong.items())
        print_lines([f"{lesson.name}: {count}: {'right' if not wrong else f'{len(wrong)} to mend'}"])
    return NOT_RIGHT if problems else DONE


def _grade(lesson: Lesson, seed: int | None, path: Path, as_json: bool) -> float:
    """Print the verdict on each question, as text or as JSON; return the share that is right, 1 of a lesson without questions."""
    from tui_gru.teaching.course import Course, graded, typed_answers
    from tui_gru.tui.console import Console

    answers, right, total = typed_answers(read_text_file(path, "answers"), str(path), lesson), 0, 0
    with open_output("-") as out, closing(Course(lesson, Console, seed)) as course:
        for question, typed, verdict in graded(course, answers):
            total, right = total + 1, right + verdict.right
            hint = "" if verdict.right else verdict.hint
            if as_json:
                line = json.dumps(
                    {"question": question.number, "typed": typed, "right": verdict.right, "hint": hint}, ensure_ascii=False
                )
            else:
                line = f"{question.number:>3} {'✓' if verdict.right else '✗'} {typed}{'   ' * bool(hint)}{hint}"
            out.write(f"{line}\n".encode(errors="backslashreplace"))
            out.flush()
        if not as_json:
            out.write(f"{right} of {total} right\n".encode())
    return right / total if total else 1.0


def _write_new(name: str | None, path: Path | None, session: str | None) -> None:
    """Write an example, or a draft from a session, to a new file, or a draft to standard output."""
    from tui_gru.teaching.drafting import Draft, lesson_draft, template_text

    if name is not None:
        raise TuiGruError(f"{name} would not be used; write --new FILE alone, or --from SESSION --new FILE")
    draft = Draft(template_text(), {})
    if session is not None:
        from tui_gru.cli.sessions import looked_at

        draft = lesson_draft(looked_at(session, {}), Path(session).stem)
        if path is None:
            if draft.files:
                listed = ", ".join(draft.files)
                raise TuiGruError(f"the model reads {listed}, which lies beside the lesson; name the file of the lesson with --new")
            print_lines(draft.text.rstrip("\n").split("\n"))
            return
    assert path is not None
    if path.suffix.lower() != ".md":
        raise TuiGruError(
            f"a lesson is .md, but {str(path)!r} has another suffix; name it {path.with_suffix('.md').name}", option="new"
        )
    targets = {path: draft.text} | {path.parent / file: text for file, text in draft.files.items()}
    for target in targets:
        if target.exists():
            raise TuiGruError(f"{target} exists and is left as it is; name another file", option="new")
    try:
        for target, text in targets.items():
            with saving(target) as out:
                out.write(text.encode())
    except OSError as error:
        raise TuiGruError(f"cannot write {error.filename or path}: {error.strerror}; write somewhere else", option="new") from None
    print_lines([f"{path}: edit it, then check it with tui-gru lesson --check {path}"])
