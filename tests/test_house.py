"""Rules of the project: what each package may import, what may be loaded at the start, and how files are named."""

import ast
import inspect
import json
import os
import pkgutil
import re
import subprocess
import sys
from collections import Counter
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

import tui_gru
from tests.capture.runs import trained
from tests.ways import way_of
from tui_gru import Session
from tui_gru.engine import training
from tui_gru.equations.page import KINDS, names_of, shipped
from tui_gru.tui.panels import line
from tui_gru.tui.theme import UNICODE

ROOT = Path(__file__).parents[1]
MODULES = sorted((ROOT / "tui_gru").rglob("*.py"))
WRITTEN = {".py", ".toml", ".md", ".tcss", ".svg", ".ambr", ".json", ".html", ""}


def loaded_by(code):
    """Return the top-level packages, and the project's modules, that are loaded in a fresh process after running `code`."""
    report = "import sys, json; sys.stdout.write('\\n' + json.dumps(sorted(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", f"{code}\n{report}"], capture_output=True, text=True, cwd=ROOT, timeout=60)
    assert done.returncode == 0, done.stderr
    modules = json.loads(done.stdout.rpartition("\n")[2])
    return {name if name.startswith("tui_gru") else name.partition(".")[0] for name in modules}


def importing(floor):
    path = str(ROOT / "tui_gru" / floor)
    names = [info.name for info in pkgutil.walk_packages([path], f"tui_gru.{floor}.")]
    return "\n".join(f"import {name}" for name in names)


def floor_of(loaded, floor):
    return {name for name in loaded if name.startswith(f"tui_gru.{floor}")}


def test_the_engine_stands_alone():
    loaded = loaded_by(importing("engine"))
    assert "numpy" in loaded
    assert not loaded & {"torch", "textual", "rich", "click"}
    assert not floor_of(loaded, "debugger") | floor_of(loaded, "tui") | floor_of(loaded, "cli")


def test_the_debugger_knows_no_screen():
    loaded = loaded_by(importing("debugger"))
    assert not loaded & {"torch", "textual", "rich", "click"}
    assert not floor_of(loaded, "tui") | floor_of(loaded, "cli")


def test_other_peoples_files_are_read_without_a_framework_and_without_the_engine():
    loaded = loaded_by(f"{importing('files')}\n{importing('capture')}")
    assert "numpy" in loaded
    assert not loaded & {"torch", "keras", "onnx", "h5py", "textual", "rich", "click"}
    assert not {name for name in loaded if name.startswith(("tui_gru.engine", "tui_gru.debugger", "tui_gru.tui", "tui_gru.cli"))}


def test_a_recording_is_opened_without_what_writes_it(tmp_path):
    trained(tmp_path / "run.gru", steps=2, every=1)
    loaded = loaded_by(f"from tui_gru import Session; s = Session.open({str(tmp_path / 'run.gru')!r}); s.step('batch'); s.remarks")
    assert not loaded & {"torch", "textual", "rich", "click"}
    assert not loaded & {"tui_gru.capture.record", "tui_gru.capture.hooks"}


def test_calls_are_computed_again_without_torch():
    assert "torch" not in loaded_by(importing("imported"))


def test_the_screen_does_not_load_torch():
    loaded = loaded_by(importing("tui"))
    assert "torch" not in loaded
    assert not floor_of(loaded, "cli")


def test_importing_the_package_loads_nothing():
    loaded = loaded_by("import tui_gru; tui_gru.__version__")
    assert not loaded & {"numpy", "torch", "textual", "rich", "click"}


def test_a_name_is_loaded_when_it_is_asked_for():
    loaded = loaded_by("import tui_gru; tui_gru.TuiGruError, tui_gru.Config")
    assert "numpy" not in loaded
    assert set(tui_gru.__all__) <= set(dir(tui_gru))
    with pytest.raises(AttributeError, match="nothing_of_the_kind"):
        _ = tui_gru.nothing_of_the_kind


def test_the_front_door_is_light():
    asked = (["--help"], ["--version"], ["trace", "--help"], ["trace", "--hidden-size", "0"])
    loaded = loaded_by(f"from tui_gru.cli.commands import main; assert [main(each) for each in {asked}] == [0, 0, 0, 2]")
    assert not loaded & {"numpy", "torch", "textual", "rich"}
    assert not floor_of(loaded, "tui") | floor_of(loaded, "debugger")


FIRST_STEP = """
import os
os.environ["XDG_STATE_HOME"] = "{state}"
from tui_gru.engine.config import Config
from tui_gru.tui.app import make_app, new_session
from tui_gru.tui.keys import Step
app = make_app(new_session(Config.of(), record={record}))
def step_and_leave():
    app.screen.play.walk(Step("timestep", 1))
    app.screen.call_after_refresh(lambda: app.call_after_refresh(app.exit))
app.call_after_refresh(step_and_leave)
app.run(headless=True)
assert app.main.session.position.t == 0 and app.main.session.position.offset > 0
"""


@pytest.mark.parametrize("record", [False, True], ids=["plain", "recorded"])
def test_the_first_step_loads_neither_torch_nor_what_is_asked_for_later(record, tmp_path):
    loaded = loaded_by(FIRST_STEP.format(state=tmp_path, record=record))
    assert "numpy" in loaded
    assert not loaded & {"torch", "html", "tui_gru.tui.help", "tui_gru.tui.manual"}
    assert ("sqlite3" in loaded) is record
    assert not floor_of(loaded, "imported") | floor_of(loaded, "capture")
    assert floor_of(loaded, "analysis.") == {"tui_gru.analysis.summaries"}


def test_the_tutorial_runs_without_torch():
    loaded = loaded_by("from tui_gru.cli.commands import main; assert main(['trace']) == main(['sample']) == 0")
    assert "numpy" in loaded
    assert not loaded & {"torch", "textual", "rich"}


def test_numpy_is_given_one_thread_unless_told_otherwise():
    def loading(**given):
        return loaded_by(
            f"import os, sys\nfor name in [*os.environ]:\n    if name.endswith('_NUM_THREADS'): del os.environ[name]\n"
            f"os.environ |= {given}\nimport tui_gru.__main__\nassert 'numpy' not in sys.modules\n"
            f"threads = [os.environ[name] for name in ('OPENBLAS_NUM_THREADS', 'OMP_NUM_THREADS', 'MKL_NUM_THREADS')]\n"
            f"assert threads == ['1', {given.get('OMP_NUM_THREADS', '1')!r}, '1']"
        )

    loading()
    loading(OMP_NUM_THREADS="3")


async def test_a_key_goes_through_few_files():
    """A step into a batch that is not computed yet, to its numbers and to the screen; each panel on it may have a file."""
    files = {file for file, _ in await way_of("n", "n", "s")}
    assert len([file for file in files if not file.startswith("tui/panels/")]) <= 44


async def test_few_functions_hand_a_step_on_until_it_is_computed(monkeypatch):
    handed_on = []

    def computed(*arguments, **options):
        frames = (frame.filename for frame in inspect.stack(context=0)[1:])
        handed_on.append(sum(f"{ROOT}/tui_gru/" in filename for filename in frames))
        return compute(*arguments, **options)

    compute = training.compute
    monkeypatch.setattr(training, "compute", computed)
    await way_of("n", "n", "s")
    assert handed_on
    assert handed_on[-1] <= 12


@pytest.mark.parametrize("options", [{}, {"cell": "lstm", "hidden_size": 8}, {"hidden_size": 64}], ids=str)
def test_the_current_line_is_drawn_in_few_ways(options):
    """Those that `line_forms` yields, a waterfall, and a table of the largest entries."""
    session = Session(**options)
    session.learning = True
    session.step("batch", 2)
    code = ast.parse(inspect.getsource(line.instead_of_parts))
    calls = {node.func.id for node in ast.walk(code) if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)}
    others = {name for name in calls if inspect.isfunction(getattr(line, name, None)) and name.startswith("_")}
    counts = {}
    for program_line in session.program.lines.values():
        if program_line.formula is not None:
            operands = line.Operands(session.snapshot(), program_line)
            forms = list(line.line_forms(operands, None, UNICODE, 120))
            counts[program_line.text] = len(forms) + len(others)
            assert sum(len(form.limits) > 1 for form in forms) <= 1, program_line.text
    assert len(counts) > 20
    assert {text: count for text, count in counts.items() if count > 12} == {}


def test_no_file_is_named_for_what_is_left_over():
    assert not [path for path in MODULES if path.stem in {"utils", "helpers", "common", "base", "manager"}]


@pytest.fixture(scope="module")
def trees():
    """The syntax tree of each module, by its path in the package."""
    package = ROOT / "tui_gru"
    return {path.relative_to(package).as_posix(): ast.parse(path.read_text(encoding="utf-8")) for path in MODULES}


def test_the_folders_of_tests_are_those_of_the_package():
    """A test is found from the name of the folder that it tests."""
    ours, tests = ({path.parent.name for path in (ROOT / top).glob("*/*.py")} for top in ("tui_gru", "tests"))
    assert tests - {"benchmarks", "soak"} == ours


def test_every_module_says_what_it_is(trees):
    assert [path for path, tree in trees.items() if not ast.get_docstring(tree)] == []


def test_no_class_is_stacked_from_several_of_ours(trees):
    classes = [node for tree in trees.values() for node in ast.walk(tree) if isinstance(node, ast.ClassDef)]
    ours = {node.name for node in classes}
    bases = {node.name: [base.id for base in node.bases if isinstance(base, ast.Name) and base.id in ours] for node in classes}

    def depth(name):
        return 1 + max(map(depth, bases[name]), default=0)

    assert [name for name, own in bases.items() if len(own) > 1 or depth(name) > 4] == []


def test_a_word_has_one_meaning(trees):
    """No two files define a class, or a type, of the same name."""
    named = []
    for tree in trees.values():
        for node in tree.body:
            match node:
                case ast.ClassDef(name=name):
                    named.append(name)
                case ast.Assign(targets=[ast.Name(name)]) if name[0].isupper() and not name.isupper():
                    named.append(name)
    # One for each trainer, by the name that both have in a script.
    assert [name for name, count in Counter(named).items() if count > 1] == ["Steps"]


def test_no_imports_go_round(trees):
    """Not even those that are for types only. Functions may import what is not loaded at the start."""
    names = {path: f"tui_gru/{path}".removesuffix(".py").replace("/", ".") for path in trees}
    modules = {name: path for path, name in names.items() if not name.endswith(".__init__")}
    taken = {name: imports(trees[path], inside_functions=False, for_types=True) for name, path in modules.items()}
    ours = {name: each & modules.keys() - {name} for name, each in taken.items()}
    TopologicalSorter(ours).prepare()  # raises a `CycleError` that names the modules


def test_no_import_is_hidden_in_a_text(trees):
    """The contracts see imports inside functions, but not those by name; packages whose modules load late have some."""

    def names(tree):
        calls = (node for node in ast.walk(tree) if isinstance(node, ast.Call) and ast.unparse(node.func).endswith("import_module"))
        return [call.args[0].value for call in calls if isinstance(call.args[0], ast.Constant)]

    hidden = {path: names(tree) for path, tree in trees.items() if any(name.startswith("tui_gru") for name in names(tree))}
    assert hidden == {"__init__.py": ["tui_gru.tui.player", "tui_gru.cli.options"]}


def test_torch_is_taken_only_when_needed(trees):
    at_once = {path: imports(tree, inside_functions=False) for path, tree in trees.items()}
    users = [path for path, names in at_once.items() if "torch" in {name.partition(".")[0] for name in names}]
    assert [path for path in users if not path.startswith("rewind/")] == []
    # The loop of a script has torch; what it loads is loaded by functions of these files.
    assert {"rewind/__init__.py", "rewind/front.py", "rewind/screens.py"}.isdisjoint(users)
    assert [
        path for path, names in at_once.items() if path[:6] != "rewind" and any(n[:15] == "tui_gru.rewind." for n in names)
    ] == ["__init__.py", "lightning.py", "transformers.py"]  # the last two are loaded when a script names them
    # torch.optim imports dynamo, which takes a second
    assert [path for path, tree in trees.items() if "torch.optim" in imports(tree, inside_functions=True)] == []


#: English words, an option, and names that every batch has, which are also names in models.
WORDS = {"loss", "by", "new", "clip", "grad_norm"}
VARIABLES = {"logits", "y_hat"}  # standard words for the values that a sampler draws from
#: Other files that contain names of a model, with the reason. The readers of model files use those of GRUs.
NAMES_BESIDE = {
    "cli/models.py": {"Uh"},  # --help explains --reset with it
    "storage/state.py": {"y_hat"},  # a key in session files, for the draws of samples
    "tui/about.py": {"logits"},  # a word of the field, which :help explains
    "engine/sampling.py": {"logits"},  # a standard word, in a message
    "analysis/causes.py": {"logits"},  # what a loss of torch takes, in messages
    "equations/page.py": {"Wz", "bz", "logits", "term1"},  # example lines of an equation file, in messages
}
#: The functions of the cells' formulas, and the modules that compute formulas in general.
FUNCTIONS = {"tanh", "sigmoid", "softmax", "relu"}
COMPUTING = {
    "capture/criterion.py",  # the gradient of a cross-entropy, that of a script's own loss is compared with
    "equations/functions.py",  # the table of functions
    "files/kinds.py",  # the independent formulas that a file's convention is tested with, without the engine
}  # fmt: skip


def names_of_models():
    """Return the names of parameters, values and parts in the built-in equations that have two letters or more; one letter can be
    any variable."""
    pieces = [shipped(kind, name) for kind in KINDS for name in names_of(kind)]
    lines = [line for piece in pieces for line in piece.lines]
    parts = {node.label for line in lines for node in line.formula.walk()}
    found = {line.target for line in lines} | parts | {name for piece in pieces for name in (*piece.parameters, *piece.states)}
    return {name for name in found if len(name) > 1} - WORDS


def words_of(tree):
    """Yield the words in a file's strings, without docstrings, and its variables, attributes and arguments."""
    documented = (ast.Module, ast.ClassDef, ast.FunctionDef)
    docstrings = {id(n.body[0].value) for n in ast.walk(tree) if isinstance(n, documented) and isinstance(n.body[0], ast.Expr)}
    for node in ast.walk(tree):
        match node:
            case ast.Constant(str(text)) if id(node) not in docstrings:
                yield from re.findall(r"\w+", text)
            case ast.Name(name) | ast.Attribute(_, name) | ast.arg(name) | ast.keyword(name) if name not in VARIABLES:
                yield name


def test_names_of_models_are_found():
    names = names_of_models()
    assert {"Wz", "Uo", "bhn", "h_tilde", "one_minus_z", "logits", "y_hat", "term1"} <= names
    tree = ast.parse('"""Wz."""\nGATES = [("Uz", 1)]\nprint(f"the {h_tilde}", cell.bhn)\n')
    assert set(words_of(tree)) & names == {"Uz", "h_tilde", "bhn"}


def test_no_name_of_a_model_stands_outside_of_the_equations(trees):
    names = names_of_models()
    names |= {f"d{name}" for name in names}
    found = {
        path: names & set(words_of(tree))
        for path, tree in trees.items()
        if not path.startswith(("files/", "capture/", "imported/"))
    }
    assert {path: there for path, there in found.items() if there} == NAMES_BESIDE


def test_no_formula_stands_outside_of_the_equations(trees):
    def calls(tree):
        return any(isinstance(node, ast.Attribute) and node.attr in FUNCTIONS for node in ast.walk(tree))

    assert {path for path, tree in trees.items() if calls(tree)} == COMPUTING


def imports(tree, *, inside_functions, for_types=False):
    """Return the modules that a file imports, at its top level or anywhere, and those that only the type checker needs."""
    found, nodes = set(), [tree]
    while nodes:
        node = nodes.pop()
        if not for_types and isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            continue
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found |= {str(node.module)} | {f"{node.module}.{alias.name}" for alias in node.names}
        if inside_functions or not isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            nodes.extend(ast.iter_child_nodes(node))
    return found


def test_no_file_knows_the_machine_it_was_written_on():
    machine = re.compile(r"(?<![\w.>*)}])/(?:home|root|work|tmp|mnt|Users)/\w")
    for path in files():
        found = machine.search(path.read_text(encoding="utf-8", errors="replace"))
        assert found is None, f"{path.relative_to(ROOT)}: {found}"


def files():
    """Yield every text file of the project, without the files that tools create."""
    for folder, folders, names in os.walk(ROOT):
        folders[:] = [name for name in folders if name == ".ci" or (name[0] != "." and name not in ("venv", "build", "dist"))]
        yield from (path for name in names if (path := Path(folder, name)).suffix in WRITTEN and name != ".git")


#: Modules that write other files than those of the user, with the reason. Everything else is written by `tui_gru.disk`.
WRITERS = {
    "disk.py": "it is the one way",
    "files/hdf5.py": "a pipe to another process",
    "imported/inspect.py": "into a temporary folder",
    "storage/log_damage.py": "into a temporary folder",
    "tui/app.py": "Textual's log, which a variable of the environment names",
    "storage/trace.py": "a member of an archive in a given stream",
}


def test_files_are_written_in_one_way(trees):
    """A file that is written in place is lost if the disk is full; see `tui_gru.disk`."""

    def writes(node):
        if not isinstance(node, ast.Call):
            return False
        name = getattr(node.func, "attr", getattr(node.func, "id", ""))
        texts = [each.value for each in (*node.args, *(word.value for word in node.keywords)) if isinstance(each, ast.Constant)]
        modes = [text for text in texts if isinstance(text, str) and re.fullmatch(r"[rwaxbt+]{1,3}", text)]
        return name in ("write_text", "write_bytes", "tofile") or (
            name in ("open", "fdopen") and any(set(mode) & set("wax") for mode in modes)
        )

    tree = ast.parse(
        'open(path, "w"); path.open("xb"); path.write_text(text); open(path, mode="a"); open(path, "r+b"); path.open()'
    )
    assert [writes(node.value) for node in tree.body] == [True, True, True, True, False, False]
    assert {path for path, tree in trees.items() if any(map(writes, ast.walk(tree)))} == WRITERS.keys()
