"""The private names of Textual that are used, where, and the version of Textual that they were checked with."""

import ast
import importlib
import inspect
import textwrap
from functools import cache
from pathlib import Path

import pytest
import textual

import tui_gru.tui

ROOT = Path(tui_gru.tui.__file__).parent
SEEN_IN = "8.2.8"
#: The private names that each file uses, by the class of Textual that has them; a module has its own entry.
USED = {
    "drivers.py": {"LinuxDriver._debug", "LinuxDriver._file", "WebDriver._app", "WebDriver._write"},
    "terminal.py": {
        "App._dispatch_message",
        "App._exception",
        "App._fatal_error",
        "App._handle_exception",
        "Compositor._get_renders",
        "Screen._compositor",
        "Screen._compositor_refresh",
        "Screen._dirty_widgets",
        "Screen._dispatch_message",
        "Screen._on_timer_update",
        "Screen._refresh_layout",
        "kind._set_dirty",
        "node._closed",
        "node._closing",
        "node._message_queue",
        "node._message_queue.ready_event._waiters",
        "node._pruning",
        "node._task",
        "textual._compositor",
        "textual._parser",
        "textual._xterm_parser",
    },
}
PUBLIC = {"_asdict", "_replace"}  # methods of named tuples, which are public although they begin with an underscore
FILES = sorted(path.relative_to(ROOT).as_posix() for path in ROOT.rglob("*.py") if path.name != "__init__.py")


def private(name):
    return name.startswith("_") and not name.startswith("__")


def test_these_names_were_seen_in_the_version_that_is_installed():
    """For another version, check that each name still has the same meaning, and then change the version here."""
    assert textual.__version__ == SEEN_IN


@pytest.mark.parametrize("file", FILES)
def test_only_two_files_use_private_names_of_textual(file):
    assert used_in(file) == USED.get(file, set())


def used_in(file):
    tree = ast.parse((ROOT / file).read_text(encoding="utf-8"))
    module = importlib.import_module("tui_gru.tui." + file.removesuffix(".py").replace("/", "."))
    return {*private_modules(tree), *private_members(tree, module), *members_of_others(tree)}


def private_modules(tree):
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("textual"):
            names = (*node.module.split("."), *(alias.name for alias in node.names))
            if any(map(private, names)):
                yield node.module


def private_members(tree, module):
    """Yield the private members of Textual's base classes that our classes override or use."""
    for node in ast.walk(tree):
        cls = getattr(module, node.name, None) if isinstance(node, ast.ClassDef) else None
        bases = [base for base in getattr(cls, "__mro__", ()) if base.__module__.startswith("textual")]
        if bases:
            inherited = set().union(*map(members_of, bases))
            used = {n.attr for n in ast.walk(node) if isinstance(n, ast.Attribute)}
            used |= {n.name for n in ast.walk(node) if isinstance(n, (ast.FunctionDef, ast.AsyncFunctionDef))}
            yield from (f"{bases[0].__name__}.{name}" for name in used & inherited)


@cache
def members_of(base):
    """Return the private members of a class of Textual, defined in the class or set in its methods."""
    stored = ast.walk(ast.parse(textwrap.dedent(inspect.getsource(base))))
    names = {node.attr for node in stored if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store)}
    return {name for name in {*vars(base), *names} if private(name)}


def members_of_others(tree):
    """Yield private members of objects other than `self` that the file's own classes do not define."""
    attributes = [node for node in ast.walk(tree) if isinstance(node, ast.Attribute)]
    own = PUBLIC | {node.attr for node in attributes if isinstance(node.ctx, ast.Store) and ast.unparse(node.value) == "self"}
    own |= {node.name for node in ast.walk(tree) if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))}
    for node in attributes:
        if private(node.attr) and node.attr not in own:
            on = ast.unparse(node.value)
            if on == "screen":
                yield f"Screen.{node.attr}"
            elif on not in ("self", "cls", "super()", "os"):
                yield f"{on}.{node.attr}"
