"""Laws of the expression language, on expressions drawn from its grammar and on damaged ones."""

import ast
from collections.abc import Callable, Mapping

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.extent import examples
from tui_gru.debugger.expressions import CompiledExpression, ConditionError, Moments, compile_condition, compile_expression

SHAPE = (2, 3)
MATRICES = ("z", "h", "Wz")
NUMBERS = ("loss", "grad_norm", "epoch", "t")
NAMES = frozenset({*MATRICES, *NUMBERS, "char"})

few = settings(max_examples=examples(50, soak=1000))


def joined(*parts: st.SearchStrategy[str] | str) -> st.SearchStrategy[str]:
    return st.tuples(*(st.just(part) if isinstance(part, str) else part for part in parts)).map("".join)


def one(*choices: str) -> st.SearchStrategy[str]:
    return st.sampled_from(choices)


ARITHMETIC = one(" + ", " - ", " * ", " / ", " // ", " % ")
COMPARISON = one(" < ", " <= ", " == ", " != ", " >= ", " > ")

single_atoms = one(*NUMBERS, "prev(loss)", "0", "1", "2", "0.5", "z[1, 2]", "h[-1][t % 3]", "sum(Wz)", "mean(prev(h))")
number_atoms = one(*NUMBERS, "prev(loss)", "0", "1", "2", "0.5")
matrix_atoms = one(*MATRICES, "prev(z)", "h[::-1]", "z[:, ::-1]", "Wz[:2, :]")


def compound(atoms: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    """Arithmetic over `atoms`, in which all sub-expressions have the same shape."""
    return st.recursive(
        atoms,
        lambda inner: joined("(", inner, ARITHMETIC, inner, ")") | joined("-", inner) | joined("abs(", inner, ")"),
        max_leaves=4,
    )


def truths(singles: st.SearchStrategy[str], matrices: st.SearchStrategy[str] | None = None) -> st.SearchStrategy[str]:
    atoms = (
        joined("(", singles, COMPARISON, singles, ")")
        | joined("(", singles, COMPARISON, singles, COMPARISON, singles, ")")
        | joined(one("isnan(", "isfinite(", "any("), singles, ")")
    )
    if matrices is not None:
        flags = joined(matrices, COMPARISON, matrices | singles) | joined(one("isnan(", "isfinite("), matrices, ")")
        atoms |= joined(one("any(", "all("), flags, ")")
        atoms |= joined(one("max(", "min(", "norm(", "sum("), matrices, ")", COMPARISON, singles)
    return st.recursive(
        atoms,
        lambda inner: joined("(", inner, one(" and ", " or "), inner, ")") | joined("not ", inner),
        max_leaves=5,
    )


conditions = truths(compound(single_atoms), compound(matrix_atoms))
scalar_conditions = truths(compound(number_atoms))

floats = st.sampled_from([0.0, -0.0, 1.0, -1.0, 0.5, np.nan, np.inf, -np.inf]) | st.floats(-100, 100, width=32)


def frozen(values: object, kind: type[np.generic] = np.float32) -> np.ndarray:
    array = np.array(values, kind)
    array.flags.writeable = False
    return array


def columns_of(count: int) -> st.SearchStrategy[dict[str, np.ndarray]]:
    """Columns of `count` moments, for every name; Wz is the same at all of them."""
    lists = {name: st.lists(floats, min_size=count, max_size=count) for name in ("loss", "grad_norm")}
    blocks = {name: st.lists(floats, min_size=6 * count, max_size=6 * count) for name in ("z", "h")}
    counters = {name: st.lists(st.integers(0, 5), min_size=count, max_size=count) for name in ("epoch", "t")}
    drawn = st.fixed_dictionaries({**lists, **blocks, **counters, "Wz": st.lists(floats, min_size=6, max_size=6)})
    return drawn.map(
        lambda columns: {
            **{name: frozen(columns[name], np.float64) for name in lists},
            **{name: frozen(np.reshape(columns[name], (count, *SHAPE))) for name in blocks},
            **{name: frozen(columns[name], np.int64) for name in counters},
            "Wz": frozen(np.reshape(columns["Wz"], (1, *SHAPE))),
            "char": frozen([["M", "a"]] * count if count else np.empty((0, 2)), np.str_),
        }
    )


one_moment = columns_of(1)


def reader(columns: Mapping[str, np.ndarray], moment: int = 0) -> Callable[[str], object]:
    return lambda name: columns[name][moment if len(columns[name]) > 1 else 0]


class _InNumPy(ast.NodeTransformer):
    """Converts an expression to plain NumPy: constants in float64, names in an index whole, prev(h) as a look-up."""

    def visit_Constant(self, node: ast.Constant) -> ast.AST:
        return ast.Call(ast.Name("float64", ast.Load()), [node], [])

    def visit_Subscript(self, node: ast.Subscript) -> ast.AST:
        for part in ast.walk(node.slice):
            if isinstance(part, ast.Name):
                part.id = f"whole_{part.id}"
        return ast.Subscript(self.visit(node.value), node.slice, node.ctx)

    def visit_Call(self, node: ast.Call) -> ast.AST:
        assert isinstance(node.func, ast.Name)
        if node.func.id == "prev":
            return ast.Subscript(ast.Name("prev", ast.Load()), ast.Constant(node.args[0].id), ast.Load())
        return ast.Call(node.func, [self.visit(node.args[0])], [])


def in_numpy(source: str, now: Mapping[str, np.ndarray], before: Mapping[str, np.ndarray]) -> object:
    """Return the value of the same expression in Python and NumPy, on the same numbers in float64."""
    tree = ast.fix_missing_locations(_InNumPy().visit(ast.parse(source, mode="eval")))
    values = {name: np.float64(column[0]) for name, column in now.items() if name != "char"}
    values["whole_t"] = now["t"][0]
    functions = {
        "float64": np.float64,
        "any": np.any,
        "all": np.all,
        "min": np.min,
        "max": np.max,
        "abs": np.abs,
        "sum": lambda a: np.sum(np.ravel(a)),
        "mean": lambda a: np.mean(np.ravel(a)),
        "norm": lambda a: np.sqrt(np.sum(np.ravel(a) ** 2)),
        "isnan": np.isnan,
        "isfinite": np.isfinite,
        "prev": {name: np.float64(column[0]) for name, column in before.items() if name != "char"},
    }
    with np.errstate(all="ignore"):
        return eval(compile(tree, "<expression>", "eval"), {"__builtins__": {}}, {**functions, **values})


@few
@given(conditions, one_moment, one_moment)
def test_means_what_numpy_means(source: str, now: dict[str, np.ndarray], before: dict[str, np.ndarray]) -> None:
    condition = compile_condition(source, NAMES)
    assert condition.test(reader(now), reader(before)) is bool(in_numpy(source, now, before))


@few
@given(compound(matrix_atoms) | compound(single_atoms), one_moment, one_moment)
def test_values_are_numpys(source: str, now: dict[str, np.ndarray], before: dict[str, np.ndarray]) -> None:
    value = compile_expression(source, NAMES).value(reader(now), reader(before))
    np.testing.assert_array_equal(value, in_numpy(source, now, before))


def outcome(verdict: Callable[[], object]) -> object:
    try:
        return verdict()
    except ConditionError:
        return ConditionError


def check_columns(condition: CompiledExpression, now: dict[str, np.ndarray], before: dict[str, np.ndarray], count: int) -> None:
    one_by_one = [
        outcome(lambda moment=moment: condition.test(reader(now, moment), reader(before, moment))) for moment in range(count)
    ]
    at_once = outcome(lambda: condition.over_columns(now, before).tolist())
    assert at_once == (ConditionError if ConditionError in one_by_one else one_by_one)


failing = one("loss[0] > 1", "char == 'M'", "z[t, 0] > 0", "z[0, 5] > 0", "loss + char > 0", "min(z[t:]) > 0", "loss")


@few
@given(st.data(), st.integers(0, 5), truths(compound(number_atoms)), one("{}", "{} and {}", "{} or {}"), failing)
def test_columns_of_numbers(data: st.DataObject, count: int, source: str, form: str, fails: str) -> None:
    """On columns, a condition is true where test() is true, and raises if test() raises at a moment that is reached."""
    now, before = data.draw(columns_of(count)), data.draw(columns_of(count))
    check_columns(compile_condition(form.format(source, fails), NAMES), now, before, count)


@few
@given(st.data(), st.integers(1, 4), conditions, one("{}", "{} or sum(z[:t]) > 0", "{} and z[t % 2, t % 3] > 0"))
def test_columns_of_matrices(data: st.DataObject, count: int, source: str, form: str) -> None:
    now, before = data.draw(columns_of(count)), data.draw(columns_of(count))
    check_columns(compile_condition(form.format(source), NAMES), now, before, count)


@pytest.mark.parametrize(
    "source",
    [
        "loss > 0.3 and (grad_norm > 0.8 and (epoch % 3 == 1 or (t != 2 and loss < grad_norm)))",
        "loss > 0.3 and 0.8 < grad_norm < 1 + t < 9 - epoch % 3",
        "not (loss < 0.3 or not (grad_norm > 0.8 or loss > 2) or z[t, epoch % 2] > 0)",
        # to the last bit: NumPy squares and sums in ways that differ with the layout of the numbers
        "loss ** 2 == loss * loss",
        "sum(h) == loss",
    ],
)
def test_many_columns(source: str) -> None:
    rng = np.random.default_rng(7)
    h = rng.normal(size=(20, 500)).T
    now = {
        "loss": rng.normal(size=500) ** 2,
        "grad_norm": rng.normal(size=500) ** 2,
        "epoch": np.arange(500),
        "t": rng.integers(0, 3, 500),
        "z": rng.normal(size=(500, 3, 2)),
        "h": h,
    }
    if "sum" in source:
        now["loss"] = h.copy(order="C").sum(axis=1)
    condition = compile_condition(source, NAMES)
    one_by_one = [condition.test(reader(now, moment)) for moment in range(500)]
    assert any(one_by_one)
    np.testing.assert_array_equal(condition.over_columns(now), one_by_one)


def test_columns_of_a_million() -> None:
    loss = np.linspace(0, 2, 10**6)
    found = compile_condition("0.5 < loss < 1 and epoch % 2 == 1", NAMES).over_columns({"loss": loss, "epoch": np.arange(10**6)})
    assert found.dtype == np.bool_
    assert np.count_nonzero(found) == 125_000


damage = st.text(
    "z h loss prev() [0:1] ,.'\"=<>!&|~^#\\ŷh̃≤−σ{}@;$\t\n\0\ud800٣ñ９ and or not if lambda 1e99*",
    max_size=4,
)


@st.composite
def damaged(draw: st.DrawFn) -> str:
    source = draw(conditions | scalar_conditions)
    for _ in range(draw(st.integers(1, 3))):
        start = draw(st.integers(0, len(source)))
        source = source[:start] + draw(damage) + source[start + draw(st.integers(0, 3)) :]
    return source


SAMPLE = {
    **{name: frozen(np.arange(6).reshape(SHAPE) / 4 - 0.5) for name in MATRICES},
    "loss": 1.25,
    "grad_norm": np.inf,
    "epoch": 3,
    "t": 1,
    "char": frozen(["M", "a"], np.str_),
}


def try_everything(source: str) -> None:
    """Compile and evaluate `source`; the only thing it may raise is a ConditionError that points into it."""
    untouched = {name: np.array(value) for name, value in SAMPLE.items()}
    for compiled in (
        lambda: compile_condition(source, NAMES).test(SAMPLE.get, SAMPLE.get),
        lambda: compile_expression(source, NAMES).value(SAMPLE.get, SAMPLE.get),
    ):
        try:
            compiled()
        except ConditionError as error:
            assert 1 <= error.column <= len(source) + 1  # noqa: PT017
            assert len(str(error).splitlines()) == 1  # noqa: PT017
    for name, value in SAMPLE.items():
        np.testing.assert_array_equal(value, untouched[name])


@settings(max_examples=examples(120, soak=3000))
@given(damaged())
def test_damaged_sources(source: str) -> None:
    try_everything(source)


@settings(max_examples=examples(80, soak=2000))
@given(st.text(max_size=30) | st.text("z(h)[0]-+*/%<=>'\"., \\xbfr{}:", max_size=40))
def test_any_text(source: str) -> None:
    try_everything(source)


@few
@given(truths(compound(single_atoms), compound(matrix_atoms)), one_moment)
def test_work_is_bounded_by_the_source(source: str, now: dict[str, np.ndarray]) -> None:
    """Each name is read at most as often as it occurs in the source, however the expression is nested."""
    written = sum(isinstance(node, ast.Name) for node in ast.walk(ast.parse(source)))
    looks = 0

    def count_looks(look: Callable[[Moments, str], np.ndarray]) -> Callable[[Moments, str], np.ndarray]:
        def counted(moments: Moments, name: str) -> np.ndarray:
            nonlocal looks
            looks += 1
            return look(moments, name)

        return counted

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Moments, "value", count_looks(Moments.value))
        patch.setattr(Moments, "previous", count_looks(Moments.previous))
        compile_condition(source, NAMES).test(reader(now), reader(now))
    assert looks <= written


def test_nested_chains_do_not_multiply(monkeypatch: pytest.MonkeyPatch) -> None:
    looks: list[str] = []
    look = Moments.value
    monkeypatch.setattr(Moments, "value", lambda moments, name: (looks.append(name), look(moments, name))[1])
    source = "loss"
    for _ in range(40):
        source = f"0 < ({source}) < 9"
    assert compile_condition(source, NAMES).test(SAMPLE.get) is True
    assert looks == ["loss"]


def test_powers_stay_small() -> None:
    """Numbers are float64 at every step, so no number takes more than 8 bytes."""
    for source in ("9 ** 9 ** 9 ** 9", "epoch ** 99999999 ** 2", "2 ** -(9 ** 99)", "(-8) ** (1 / 3)"):
        assert type(compile_expression(source, NAMES).value(SAMPLE.get)) is float
