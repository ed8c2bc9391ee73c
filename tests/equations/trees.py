"""Random expression trees in the form that the parser gives."""

from __future__ import annotations

from fractions import Fraction

from hypothesis import strategies as st

from tui_gru.equations import syntax as e
from tui_gru.equations.functions import FUNCTIONS
from tui_gru.equations.syntax import Expression, Name

NAMES = (
    "x",
    "h_prev",
    "h_tilde",
    "Wz",
    "bz",
    "az",
    "h_l0",
    "h_prev_l1_reverse",
    "y_hat",
    "b_next",
    "dh_future",
    "h_tilde_prev",
    "e",
)


def _is_plain(tree: Expression) -> bool:
    """Return True for a tree that the parser can give; for example, it flattens a product of products."""
    first = tree.children[:1]
    return not (isinstance(tree, e.Times) and isinstance(first[0], e.Times))


def _larger(trees: st.SearchStrategy[Expression]) -> st.SearchStrategy[Expression]:
    few = st.lists(trees, min_size=2, max_size=3).map(tuple)
    terms = st.lists(trees | trees.map(e.Negative), min_size=2, max_size=3).map(tuple)
    kinds = st.sampled_from(("sum", "mean"))
    functions = st.sampled_from([name for name, function in FUNCTIONS.items() if function.arity == 1])
    return st.one_of(
        terms.map(e.Sum),
        few.map(e.Times).filter(_is_plain),
        trees.map(e.Negative),
        trees.map(e.Transpose),
        st.builds(e.Product, trees, trees),
        st.builds(e.Quotient, trees, trees),
        st.builds(e.Power, trees, trees),
        st.lists(trees, min_size=1, max_size=3).map(tuple).map(e.Join),
        st.builds(e.Reduce, trees, kinds, st.sampled_from("VBTHIPK")),
        st.builds(lambda function, part: e.Apply((part,), function), functions, trees),
        st.builds(lambda parts: e.Apply(parts, "max"), few.filter(lambda parts: len(parts) == 2)),
    )


names = st.sampled_from(NAMES).map(Name)
numbers = st.builds(lambda digits, places: e.number(Fraction(digits, 10**places)), st.integers(0, 10**6), st.integers(0, 12))
trees = st.recursive(names | numbers, _larger, max_leaves=12)
