"""Faults are planted, one at a time; the tests that reach one must fail. A test that cannot fail tests nothing.

A fault is a place and an operator on the syntax tree, so that it survives other names of local variables. Each is planted in a fork
of one process that has collected the tests, in which the functions of the file get their changed code. Which tests call which
function is found by a clean run of each file of tests, once, and kept in a temporary folder. Only code that runs in the process of
the tests can be changed: not what is computed while a module is loaded, and not the programs that a test starts.
"""

from __future__ import annotations

import argparse
import ast
import contextlib
import copy
import gc
import hashlib
import importlib
import os
import pickle
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import types
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.soak.blocks import NoMoreBlocks, run_blocks
from tests.soak.planted import FAULTS, Fault

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "tui_gru"
FOLDER = Path(tempfile.gettempdir()) / f"tui_gru-mutants-{os.getuid()}"
MOST_SECONDS = 40.0  # of the clean run of the tests that are run with one fault, the quickest first

# Operators. Each returns the changed copies of a node; a place is counted once for each of them, in the order of the text.

OPPOSITES: dict[type[ast.AST], type[ast.AST]] = {
    first: second
    for pair in (
        (ast.Lt, ast.LtE), (ast.Gt, ast.GtE), (ast.Eq, ast.NotEq), (ast.Is, ast.IsNot), (ast.In, ast.NotIn), (ast.And, ast.Or),
        (ast.Add, ast.Sub), (ast.Mult, ast.Div),
    )
    for first, second in (pair, pair[::-1])
}  # fmt: skip
NAMES = {"any": "all", "all": "any", "min": "max", "max": "min"}
CONDITIONS = {(ast.If, "test"), (ast.While, "test"), (ast.IfExp, "test"), (ast.comprehension, "ifs"), (ast.BoolOp, "values")}


def _changed(node: ast.AST, **fields: object) -> ast.AST:
    changed = copy.copy(node)
    for name, value in fields.items():
        setattr(changed, name, value)
    return changed


def _compared(node: ast.AST, kinds: tuple[type[ast.AST], ...]) -> list[ast.AST]:
    if not isinstance(node, ast.Compare):
        return []
    return [
        _changed(node, ops=[*node.ops[:k], OPPOSITES[type(op)](), *node.ops[k + 1 :]])
        for k, op in enumerate(node.ops)
        if isinstance(op, kinds)
    ]


def _any(node: ast.AST) -> list[ast.AST]:
    if isinstance(node, ast.Name) and node.id in NAMES:
        return [_changed(node, id=NAMES[node.id])]
    if isinstance(node, ast.Attribute) and node.attr in NAMES:
        return [_changed(node, attr=NAMES[node.attr])]
    return []


def _opposite(node: ast.AST, kinds: tuple[type[ast.AST], ...]) -> list[ast.AST]:
    if isinstance(node, ast.BoolOp | ast.BinOp | ast.AugAssign) and isinstance(node.op, kinds):
        return [_changed(node, op=OPPOSITES[type(node.op)]())]
    return []


def _without_operator(node: ast.AST, kind: type[ast.unaryop]) -> list[ast.AST]:
    return [node.operand] if isinstance(node, ast.UnaryOp) and isinstance(node.op, kind) else []


def _one_more(node: ast.AST) -> list[ast.AST]:
    return [_changed(node, value=node.value + 1)] if isinstance(node, ast.Constant) and type(node.value) is int else []


def _omitted(node: ast.AST) -> list[ast.AST]:
    docstring = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    kinds = ast.Expr | ast.Assign | ast.AugAssign | ast.Raise | ast.Return | ast.Continue | ast.Break | ast.Delete
    return [ast.copy_location(ast.Pass(), node)] if isinstance(node, kinds) and not docstring else []


def _less_one(node: ast.AST) -> list[ast.AST]:
    """Leave out one entry of a dictionary, or one keyword of a call."""
    if isinstance(node, ast.Dict):
        return [
            _changed(node, keys=[*node.keys[:k], *node.keys[k + 1 :]], values=[*node.values[:k], *node.values[k + 1 :]])
            for k in range(len(node.keys))
        ]
    if isinstance(node, ast.Call):
        return [_changed(node, keywords=[*node.keywords[:k], *node.keywords[k + 1 :]]) for k in range(len(node.keywords))]
    return []


OPERATORS: dict[str, Callable[[ast.AST], list[ast.AST]]] = {
    "any": _any,  # any and all, min and max
    "border": lambda node: _compared(node, (ast.Lt, ast.LtE, ast.Gt, ast.GtE)),
    "equal": lambda node: _compared(node, (ast.Eq, ast.NotEq, ast.Is, ast.IsNot, ast.In, ast.NotIn)),
    "and": lambda node: _opposite(node, (ast.And, ast.Or)),
    "not": lambda node: _without_operator(node, ast.Not),
    "sign": lambda node: _without_operator(node, ast.USub),
    "plus": lambda node: _opposite(node, (ast.Add, ast.Sub)),
    "times": lambda node: _opposite(node, (ast.Mult, ast.Div)),
    "one": _one_more,
    "omit": _omitted,
    "less": _less_one,
}
OF_CONDITIONS = ("any", "border", "equal", "and", "not")  # the operators of the faults of changed lines
# Operators of conditions: those of `if`, `while`, comprehensions, and the operands of `and` and `or`.
DECIDED: dict[str, Callable[[ast.expr], ast.AST]] = {
    "true": lambda node: ast.copy_location(ast.Constant(True), node),
    "false": lambda node: ast.copy_location(ast.Constant(False), node),
    "negate": lambda node: ast.copy_location(ast.UnaryOp(ast.Not(), node), node),
}


@dataclass
class Place:
    """A field of a node, and what stands there with the fault."""

    parent: ast.AST
    field: str
    index: int | None
    node: ast.AST
    changed: ast.AST

    def plant(self) -> None:
        if self.index is None:
            setattr(self.parent, self.field, self.changed)
        else:
            getattr(self.parent, self.field)[self.index] = self.changed


def _fields(node: ast.AST) -> Iterator[tuple[str, int | None, ast.AST]]:
    for field, value in ast.iter_fields(node):
        if isinstance(value, ast.AST):
            yield field, None, value
        elif isinstance(value, list):
            yield from ((field, k, item) for k, item in enumerate(value) if isinstance(item, ast.AST))


SCOPES = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef


def places(node: ast.AST, operator: str) -> Iterator[Place]:
    """The places of an operator below a node, in the order of the text, without nested functions."""
    for field, index, child in _fields(node):
        if isinstance(node, SCOPES) and field != "body":
            continue  # decorators, defaults and annotations are computed when the module is loaded
        if operator in DECIDED:
            if (type(node), field) in CONDITIONS and isinstance(child, ast.expr):
                yield Place(node, field, index, child, DECIDED[operator](child))
        else:
            yield from (Place(node, field, index, child, changed) for changed in OPERATORS[operator](child))
        if not isinstance(child, SCOPES):
            yield from places(child, operator)


def functions(node: ast.AST, prefix: str = "") -> Iterator[tuple[str, ast.AST]]:
    """The functions of a tree with their qualified names. `A.b` of a property and of its setter have one name: the first."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, SCOPES):
            inner = f"{prefix}{child.name}."
            if not isinstance(child, ast.ClassDef):
                yield prefix + child.name, child
                inner += "<locals>."
            yield from functions(child, inner)
        else:
            yield from functions(child, prefix)


def planted(fault: Fault) -> tuple[ast.Module, Place]:
    """Return the tree of the fault's file with the fault, and its place. Raises LookupError if there is no such place."""
    tree = ast.parse((PACKAGE / fault.file).read_text("utf-8"))
    function = next((node for name, node in functions(tree) if name == fault.function), None)
    if function is None:
        raise LookupError(f"{fault.file} has no function {fault.function}")
    of_operator = list(places(function, fault.operator))
    if fault.occurrence >= len(of_operator):
        raise LookupError(f"{fault.function} in {fault.file} has {len(of_operator)} places for {fault.operator!r}")
    place = of_operator[fault.occurrence]
    place.plant()
    return ast.fix_missing_locations(tree), place


def described(fault: Fault, place: Place) -> str:
    words = f"{fault.file}, {fault.function}, line {getattr(place.node, 'lineno', '?')}: {fault.operator} {fault.occurrence}"
    before, after = (" ".join(ast.unparse(node).split())[:100] for node in (place.node, place.changed))
    return f"{words}: `{before}` as `{after}`"


# Faults of changed lines


def changed_lines(commit: str) -> dict[str, set[int]]:
    """Return the numbers of the lines that differ from a commit, by file of the package."""
    command = ["git", "-C", str(ROOT), "diff", "--unified=0", "--no-renames", commit, "--", "tui_gru/*.py"]
    lines: dict[str, set[int]] = {}
    file = ""
    for line in subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines():
        if line.startswith("+++ "):
            file = line.removeprefix("+++ b/tui_gru/")
        elif match := re.match(r"@@ \S+ \+(\d+)(?:,(\d+))? @@", line):
            first, count = int(match[1]), int(match[2] or 1)
            lines.setdefault(file, set()).update(range(first, first + count))
    return lines


def faults_since(commit: str) -> list[Fault]:
    """Return the faults of the conditions on the lines that differ from a commit, shuffled, always in the same order."""
    faults = []
    for file, lines in sorted(changed_lines(commit).items()):
        if not (PACKAGE / file).exists():
            continue
        folder = f"tests/{file.partition('/')[0]}" if "/" in file else "tests"
        names = set()
        for name, function in functions(ast.parse((PACKAGE / file).read_text("utf-8"))):
            if name in names:
                continue
            names.add(name)
            for operator in OF_CONDITIONS:
                for k, place in enumerate(places(function, operator)):
                    if place.node.lineno in lines:
                        faults.append(Fault(file, name, operator, k, (folder,), "a changed line"))
    random.Random(0).shuffle(faults)
    return faults


# Tests


@dataclass
class Reached:
    """What a test calls: (file, qualified name) of functions; the seconds that it takes; whether it passes without a fault."""

    functions: frozenset[tuple[str, str]]
    seconds: float
    passes: bool


class Tests:
    """A plugin of pytest that has the collected tests, and runs some of them in a fork."""

    def __init__(self, then: Callable[[Tests], None]) -> None:
        self._then = then
        self._failed = ""
        self.exit_code = 0
        self.by_file: dict[str, list[pytest.Item]] = {}
        self._reached: dict[str, dict[str, Reached]] = {}
        self.new: set[str] = set()  # the files of tests that were traced in this process

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        for item in session.items:
            self.by_file.setdefault(item.nodeid.partition("::")[0], []).append(item)
        gc.unfreeze()  # what tests/conftest.py has frozen is not found by `gc.get_objects`
        try:
            self._then(self)
        except SystemExit as end:
            self.exit_code = int(end.code or 0)
        return True

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.failed and not self._failed:
            self._failed = f"{report.nodeid} ({report.when})"

    def _run(self, item: pytest.Item, following: pytest.Item | None) -> str:
        self._failed = ""
        item.config.hook.pytest_runtest_protocol(item=item, nextitem=following)
        return self._failed

    def reached(self, file: str) -> dict[str, Reached]:
        """What the tests of a file call, from a clean run of them: this, or an earlier one of the same text."""
        if file not in self._reached:
            kept = FOLDER / f"{hashlib.sha256(file.encode() + (ROOT / file).read_bytes()).hexdigest()}.pickle"
            if not kept.exists():
                print(f"a clean run of {len(self.by_file[file])} tests of {file}", flush=True)
                _in_fork(lambda: self._trace(file, kept), 3600)
                self.new.add(file)
            self._reached[file] = pickle.loads(kept.read_bytes()) if kept.exists() else {}
        return self._reached[file]

    def trace_again(self, file: str) -> None:
        (FOLDER / f"{hashlib.sha256(file.encode() + (ROOT / file).read_bytes()).hexdigest()}.pickle").unlink(missing_ok=True)
        self._reached.pop(file, None)

    def _trace(self, file: str, kept: Path) -> int:
        calls: set[types.CodeType] = set()

        def call(frame: types.FrameType, event: str, argument: object) -> None:
            calls.add(frame.f_code)  # returns no function for the lines

        threading.settrace(call)
        result = {}
        items = self.by_file[file]
        for item, following in zip(items, [*items[1:], None], strict=True):
            calls.clear()
            begun = time.perf_counter()
            sys.settrace(call)
            failed = self._run(item, following)
            sys.settrace(None)
            paths = {code: _file_of(code) for code in list(calls)}
            names = frozenset((path, code.co_qualname) for code, path in paths.items() if path)
            result[item.nodeid] = Reached(names, time.perf_counter() - begun, not failed)
        written = kept.with_suffix(f".{os.getpid()}")
        written.write_bytes(pickle.dumps(result))
        written.replace(kept)
        return 0

    def of(self, fault: Fault) -> tuple[list[pytest.Item], float]:
        """The tests that call the function of a fault, the quickest first, and how many seconds they take without it."""
        tests = []
        for file, items in self.by_file.items():
            if any(file == name or file.startswith(f"{name}/") for name in fault.tests):
                reached = self.reached(file)
                tests += [
                    (test.seconds, item)
                    for item in items
                    if (test := reached.get(item.nodeid)) and test.passes and (fault.file, fault.function) in test.functions
                ]
        tests.sort(key=lambda test: test[0])
        chosen, seconds = [], 0.0
        for duration, item in tests:
            if chosen and seconds + duration > MOST_SECONDS:
                break
            chosen.append(item)
            seconds += duration
        return chosen, seconds

    def first_failure(self, items: Sequence[pytest.Item], tree: ast.Module | None, file: str, seconds: float) -> str:
        """Run tests in a fork, with the code of a tree, until one fails; return its name, what else ended them, or nothing."""
        said = FOLDER / f"failure-{os.getpid()}"
        said.unlink(missing_ok=True)

        def run() -> int:
            if tree is not None and not plant(tree, file):
                return 7
            for item, following in zip(items, [*items[1:], None], strict=True):
                if failed := self._run(item, following):
                    said.write_text(failed, "utf-8")
                    return 1
            return 0

        code = _in_fork(run, 30 + 5 * seconds)
        if code == 7:
            raise LookupError("no function has the changed code")
        if code == 1 and said.exists():
            return said.read_text("utf-8")
        return {0: "", None: "it does not end"}.get(code, f"the process ends with {code}")


def _file_of(code: types.CodeType) -> str:
    """The file of the package, or nothing."""
    prefix = f"{PACKAGE}{os.sep}"
    return code.co_filename.removeprefix(prefix).replace(os.sep, "/") if code.co_filename.startswith(prefix) else ""


def _in_fork(function: Callable[[], int], seconds: float) -> int | None:
    """Return the code with which a fork ends that calls a function, or None if it has not ended within some seconds."""
    process = os.fork()
    if not process:
        code = 9
        with contextlib.suppress(BaseException):
            os.setsid()
            code = function()
        os._exit(code)
    end = time.monotonic() + seconds
    try:
        while time.monotonic() < end:
            ended, status = os.waitpid(process, os.WNOHANG)
            if ended:
                return os.waitstatus_to_exitcode(status)
            time.sleep(0.02)
        return None
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process, signal.SIGKILL)  # with the programs that the tests have started
        with contextlib.suppress(ChildProcessError):
            os.waitpid(process, 0)


def _codes(code: types.CodeType) -> Iterator[types.CodeType]:
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield constant
            yield from _codes(constant)


def plant(tree: ast.Module, file: str) -> int:
    """Give the functions of a file the code of a tree of the same lines; return how many are changed."""
    path = str(PACKAGE / file)
    importlib.import_module("tui_gru." + file.removesuffix(".py").removesuffix("/__init__").replace("/", "."))
    codes = {(code.co_qualname, code.co_firstlineno): code for code in _codes(compile(tree, path, "exec", dont_inherit=True))}
    count = 0
    for function in gc.get_objects():
        if type(function) is types.FunctionType and function.__code__.co_filename == path:
            code = codes.get((function.__code__.co_qualname, function.__code__.co_firstlineno))
            if code is not None and code != function.__code__ and code.co_freevars == function.__code__.co_freevars:
                function.__code__ = code
                count += 1
    return count


def block(seed: int, tests: Tests, faults: Sequence[Fault]) -> int:
    """Plant the fault of a number. Raises AssertionError if no test notices it."""
    if seed >= len(faults):
        raise NoMoreBlocks
    fault = faults[seed]
    tree, place = planted(fault)
    words = described(fault, place)
    for again in (False, True):
        items, seconds = tests.of(fault)
        begun = time.monotonic()
        failure = tests.first_failure(items, tree, fault.file, seconds) if items else ""
        if failure:
            names = [item.nodeid for item in items]
            name = failure.rpartition(" (")[0]
            until = items[: names.index(name) + 1] if name in names else items
            # The same tests in the same order must pass without the fault.
            if clean := tests.first_failure(until, None, fault.file, seconds):
                raise AssertionError(f"{words}\nwithout the fault also: {clean}")
            print(f"{seed}. {words}\n    noticed by {failure}, {time.monotonic() - begun:.1f} s", flush=True)
            return 1
        stale = [file for file in tests.by_file if file not in tests.new]
        stale = [file for file in stale if any(file == name or file.startswith(f"{name}/") for name in fault.tests)]
        if again or not stale or "changed" in fault.meaning:
            break
        for file in stale:  # other functions may be called since the clean run
            tests.trace_again(file)
    raise AssertionError(f"{words}\nnot noticed by {len(items)} tests, {time.monotonic() - begun:.1f} s: {fault.meaning}")


def main() -> None:
    own = argparse.ArgumentParser(add_help=False)
    own.add_argument("--since", metavar="COMMIT", help="faults of the conditions on lines changed since, not those of the list")
    commit = own.parse_known_args()[0].since
    faults = faults_since(commit) if commit else FAULTS
    extent = argparse.ArgumentParser(add_help=False, parents=[own])  # only their tests are collected
    extent.add_argument("--seed", type=int, default=0)
    extent.add_argument("--count", type=int, default=len(FAULTS))
    options = extent.parse_known_args()[0]
    chosen = faults[options.seed : options.seed + options.count + 1]
    files = sorted({name for fault in chosen for name in fault.tests}) or ["tests/test_soak.py"]
    FOLDER.mkdir(exist_ok=True)
    # Neither examples that fail because of a fault, nor temporary files of a fork that is killed, stay behind.
    os.environ["HYPOTHESIS_STORAGE_DIRECTORY"] = str(FOLDER / "hypothesis")
    temporary = FOLDER / f"files-{os.getpid()}"
    unit = f"faults of the conditions on lines changed since {commit}" if commit else "faults"
    tests = Tests(lambda tests: run_blocks(str(__doc__), unit, len(FAULTS), lambda seed: block(seed, tests, faults), parents=[own]))
    try:
        code = pytest.main(["-n0", "-p", "no:terminal", f"--basetemp={temporary}", f"--rootdir={ROOT}", *files], [tests])
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    sys.exit(tests.exit_code or int(code))


if __name__ == "__main__":
    main()
