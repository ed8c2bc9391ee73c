"""Mistakes in calls of the Python interface raise the project's own errors."""

import copy
import inspect
import pickle
import random
import re
import warnings
from unicodedata import normalize

import numpy as np
import pytest

import tui_gru
from tests.extent import examples
from tui_gru import Config, Session, TuiGruError, arguments, errors


class Odd:
    """An object whose conversions raise an error."""

    def __index__(self):
        raise RuntimeError("odd")

    __float__ = __repr__ = __index__


HUGE = 10**400
JUNK = [
    None, 0, -1, 5, HUGE, -HUGE, 10**5000, 1.5, float("nan"), 3e38, True, np.bool_(True), np.array([1, 2]), np.array([[1.0]]),
    "", "z", "x" * 3000, "\0", "\ud800", "e" + "9" * 5000, [], [0, 1], (0, 0), (1.5, 0), (HUGE, 0), {}, {"a": 1}, set(), b"x",
    Odd(), Session, 1j, range(3), ..., object(),
]  # fmt: skip


@pytest.fixture(scope="module")
def session():
    s = Session(epochs=2)
    s.learning = True
    s.step("batch", 4)
    return s


def test_an_unknown_option_is_refused_with_all_that_are_accepted_here():
    with pytest.raises(TuiGruError, match=r"unknown option 'foo'; there are: text, .*, layout, .*, epochs, history_memory$"):
        Session(foo=1)
    with pytest.raises(TuiGruError, match=r"unknown option 'foo'; there are: text, .*, layout, .*, loss_text$"):
        Config.of(foo=1)


@pytest.mark.parametrize(
    "call",
    [
        lambda s: Session(learning_rate=HUGE),
        lambda s: Session(hidden_size=HUGE),
        lambda s: Session(batch_size=10**5000),
        lambda s: Session(seed=Odd()),
        lambda s: Session(dtype=np.array([1, 2])),
        lambda s: setattr(s, "learning_rate", HUGE),
        lambda s: setattr(s, "learning", np.array([1, 2])),
        lambda s: setattr(s, "stop_on_nan", "yes"),
        lambda s: setattr(s, "check_every_batch", []),
        lambda s: s.value(5),
        lambda s: s.parameter(np.array([1, 2])),
        lambda s: s.edit(5, (0, 0), 1),
        lambda s: s.edit("Wz", (0, 0), Odd()),
        lambda s: s.what_if(5, (0, 0), 1),
        lambda s: s.explain(5),
        lambda s: s.explain("h", (0, 0), t=7),
        lambda s: s.switch([]),
        lambda s: s.delete_branch({}),
        lambda s: s.rename_branch("main", 5),
        lambda s: s.compare([]),
        lambda s: s.sgd("x"),
        lambda s: s.sgd(-1),
        lambda s: s.step(np.array([1, 2])),
        lambda s: s.step("batch", "3"),
        lambda s: s.seek("e" + "9" * 5000),
        lambda s: s.seek(10**30),
        lambda s: s.seek(np.array([1, 2])),
        lambda s: s.run_to([]),
        lambda s: s.run_until(5),
        lambda s: s.sample(5),
        lambda s: s.sample("Ma", 10**9),
        lambda s: s.sample("Ma" * 1000),
        lambda s: s.sample("Ma", temperature=HUGE),
        lambda s: s.mark(5),
        lambda s: s.jump(np.array([1, 2])),
        lambda s: s.delete_stop("1"),
        lambda s: s.keep([], 1),
        lambda s: s.kept([]),
        lambda s: s.holds("here"),
        lambda s: s.check(seed="x"),
        lambda s: s.try_cures(None),
        lambda s: s.compared("walk.tui-gru"),
        lambda s: s.summary("h", t=7),
        lambda s: s.player("never.html", size=5),
        lambda s: s.player("never.html", size=("120", 36)),
        lambda s: s.sample("Ma", temperature="warm"),
        lambda s: Session(vocabulary=set("hatM")),
        lambda s: copy.deepcopy(s),
        lambda s: pickle.dumps(s),
    ],
)
def test_a_mistake_is_one_line_of_the_projects_own(session, call):
    here = session.position
    with pytest.raises(TuiGruError) as caught:
        call(session)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 300
    assert session.position == here


def test_arguments_are_taken_in_each_form_in_which_people_write_them(session, tmp_path):
    """Names as on screen or in code, in either form of Unicode; numbers as text; paths as objects."""
    assert (session.value("ŷ") == session.value("y_hat")).all()
    assert session.explain("h̃", (0, 0), t=1).value == session.explain("h_tilde", (0, 0), t=1).value
    assert session.sample("Ma", 5, temperature="0.5") == session.sample("Ma", 5, temperature=0.5)
    file = tmp_path / "own.cell"
    for form in ("NFC", "NFD"):
        file.write_text(normalize(form, "state é : H\nparameters W U\né = tanh(x W + é_prev U)\n"))
        own = Session(cell=file)
        assert own.run_until("any(é > -2)")
        assert own.value(normalize("NFC", "é")).shape == own.value(normalize("NFD", "é")).shape == (2, 2)


METHODS = {
    "value": (), "parameter": (), "gradient": (), "sample": ("sampler", "temperature", "seed"), "edit": (), "undo": (), "redo": (),
    "switch": (), "step": (), "seek": (), "sgd": (), "run_to": (), "run_until": (), "run_back_until": (), "what_if": ("t",),
    "explain": ("t",), "break_at": ("condition", "hits", "log"), "watch": ("stops",), "delete_stop": (), "mark": (), "jump": (),
    "delete_mark": (), "rename_branch": (), "delete_branch": (), "compare": (), "apart": (), "keep": (), "kept": (), "holds": (),
}  # fmt: skip
ATTRIBUTES = ("learning", "learning_rate", "stop_on_nan")


@pytest.mark.parametrize("seed", range(examples(2, soak=40)))
def test_junk_is_done_or_refused(seed, tmp_path):
    """The session is recorded: refused commands are not written, and all others can be."""
    randomness = random.Random(seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # NumPy's own, about arrays as numbers
        s = Session(epochs=2)
        s.record_to(tmp_path / "junk.tui-gru")
        for _ in range(300):
            junk = [randomness.choice(JUNK) for _ in range(randomness.randrange(4))]
            try:
                if randomness.random() < 0.1:
                    setattr(s, randomness.choice(ATTRIBUTES), randomness.choice(JUNK))
                else:
                    name, options = randomness.choice([*METHODS.items()])
                    given = {option: randomness.choice(JUNK) for option in options if randomness.random() < 0.3}
                    getattr(s, name)(*junk, **given)
            except TuiGruError:
                pass
            except TypeError as error:
                if not re.search("positional argument|multiple values for argument", str(error)):
                    raise
        assert s.recording is not None
        s.snapshot()
        s.close()
    again = Session.open(tmp_path / "junk.tui-gru")
    assert again.position == s.position
    assert again.stop_on_nan is s.stop_on_nan


def public(s, path):
    """Return everything public that takes arguments: its name, the function, arguments that fit, and the names of all of them."""
    needed = {
        "level": "batch", "count": 1, "condition": "loss < 0.1", "place": "e1 b1 t1", "index": (0, 0), "value": 0.5, "primer": "Ma",
        "expression": "loss", "letter": "a", "old": "main", "new": "other", "line": "z", "text": "MathMath", "typed": "vowel",
        "path": path, "name": "h",
    }  # fmt: skip
    for name in dir(Session):
        attribute = inspect.getattr_static(Session, name)
        if isinstance(attribute, property) and attribute.fset is not None:
            yield name, lambda value, name=name: setattr(s, name, value), {}, ["value"]
        elif inspect.isroutine(attribute) and name[0] != "_" and name not in ("player", "change_stop"):  # a player takes long
            taken = inspect.signature(getattr(s, name)).parameters
            given = {each: needed.get(each) for each, one in taken.items() if one.default is inspect.Parameter.empty}
            given |= {"parameter": {"name": "Wz"}, "report": {"whole": False}}.get(name, {})
            yield name, getattr(s, name), given, [*taken]
    yield "Session", Session, {}, [*Config.__dataclass_fields__, "input", "target", "epochs", "history_memory", "state"]
    gru, shapes = path.with_name("m.npz"), {"weight_ih_l0": (6, 3), "weight_hh_l0": (6, 2), "bias_ih_l0": 6, "bias_hh_l0": 6}
    np.savez(gru, **{name: np.zeros(shape, np.float32) for name, shape in shapes.items()})
    of_file, of_text = {"path": gru}, {"head": np.zeros((2, 3)), "text": "abcabcab", "vocabulary": "abc", "seq_length": 2}
    taken = [*inspect.signature(tui_gru.load).parameters][:-1]
    yield "load", tui_gru.load, of_file, taken
    yield "load with a text", tui_gru.load, {**of_file, **of_text, "batch_size": 1}, [*of_text, "tokens", "seed", "cell"]
    yield "inspect", tui_gru.inspect, of_file, [*inspect.signature(tui_gru.inspect).parameters]


def test_each_argument_of_all_that_is_public_is_taken_or_refused_in_one_line(tmp_path, monkeypatch):
    """Each value is given for each argument, beside others that fit. The session is recorded, so that all that is taken can be
    written too."""
    monkeypatch.chdir(tmp_path)
    s = Session(text="MathMathMath", epochs=1)
    s.learning = True
    s.step("batch", 2)
    s.record_to("junk.tui-gru")
    wrong = []
    for name, call, fitting, taken in public(s, tmp_path / "other.tui-gru"):
        for argument, junk in ((argument, junk) for argument in taken for junk in JUNK):
            if argument == "progress" and callable(junk):
                continue
            try:
                with warnings.catch_warnings(action="ignore", category=DeprecationWarning):  # NumPy's, about arrays as numbers
                    call(**{**fitting, argument: junk})
            except TuiGruError as error:
                if not str(error).isprintable() or len(str(error)) > 700:
                    wrong.append((name, argument, errors.shown(junk), str(error)[:300]))
            except Exception as error:
                wrong.append((name, argument, errors.shown(junk), repr(error)[:300]))
        s.snapshot()
    assert not wrong, "\n".join(map(str, wrong[:20]))


def test_numpys_truths_are_pythons(tmp_path):
    s = Session()
    s.record_to(tmp_path / "truth.tui-gru")
    s.stop_on_nan, s.learning = np.bool_(True), np.bool_(True)
    s.step("batch", 2)
    s.close()
    again = Session.open(tmp_path / "truth.tui-gru")
    assert (again.stop_on_nan, again.learning, again.position.number) == (True, True, 1)


@pytest.mark.parametrize("name", ["dWz", "dWy", "dby"])
@pytest.mark.parametrize("value", [3e38, -3e38])
def test_a_gradient_too_large_for_its_norm_is_no_warning(name, value):
    s = Session()
    s.learning = True
    s.seek(s.program.backward_end)
    s.edit(name, (0,) * s.gradient(name[1:]).ndim, value)
    assert s.value("grad_norm") == np.inf
    s.step("batch")


def test_a_name_without_its_layer_is_told_the_names_with_it():
    s = Session(text="the cat sat on the mat", batch_size=1, layers=2, bidirectional=True)
    with pytest.raises(TuiGruError, match=r"there is no value named 'z'; did you mean z_l0 or z_l0_reverse or z_l1\?$"):
        s.value("z")
    with pytest.raises(TuiGruError, match=r"column 5: unknown name h; did you mean h_l0 or h_l0_reverse or h_l1\?$"):
        s.run_until("any(h > 0)")
    with pytest.raises(TuiGruError) as error:
        s.run_until("qqqq > 0")
    assert len(str(error.value)) < 300  # of several hundred names


def test_a_value_in_a_message_is_short_and_on_one_line():
    assert errors.shown("a\nb") == "'a\\nb'"
    assert errors.shown(10**5000) == "a int"
    assert errors.shown(Odd()) == "a Odd"
    assert len(errors.shown("x" * 10**6)) < 100
    assert arguments.real_number("x", 10**400) == float("inf")
    assert arguments.real_number("x", -(10**400)) == float("-inf")
