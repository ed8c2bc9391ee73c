"""The parser of formulas: every construct, its other spellings, precedence, and errors."""

from __future__ import annotations

from fractions import Fraction

import pytest

from tests.equations.reading import formula, page, refused, written
from tui_gru.equations.functions import FUNCTIONS
from tui_gru.equations.syntax import (
    DEEPEST,
    LONGEST_NAME,
    MOST_TOKENS,
    Apply,
    Join,
    Name,
    Negative,
    Number,
    Power,
    Product,
    Quotient,
    Reduce,
    Sum,
    Times,
    Transpose,
)

a, b, c, d = map(Name, "abcd")


def apply(function, *arguments):
    return Apply(arguments, function)


@pytest.mark.parametrize(
    ("text", "tree"),
    [
        ("a", a),
        ("12", Number(Fraction(12))),
        ("0.5", Number(Fraction(1, 2))),
        (".5", Number(Fraction(1, 2))),
        ("1.", Number(Fraction(1))),
        ("1e-8", Number(Fraction(1, 10**8))),
        ("2.5E+3", Number(Fraction(2500))),
        ("0e99999999", Number(Fraction(0))),
        ("a + b − c", Sum((a, b, Negative(c)))),
        ("−a + b", Sum((Negative(a), b))),
        ("a − (b + c)", Sum((a, Negative(Sum((b, c)))))),
        ("a ⊙ b ⊙ c", Times((a, b, c))),
        ("a ⊙ (b ⊙ c)", Times((a, Times((b, c))))),
        ("a / b", Quotient(a, b)),
        ("a ⊙ b / c ⊙ d", Times((Quotient(Times((a, b)), c), d))),
        ("a b", Product(a, b)),
        ("a b c", Product(Product(a, b), c)),
        ("a (b c)", Product(a, Product(b, c))),
        ("(a) (b)", Product(a, b)),
        ("a b + c", Sum((Product(a, b), c))),
        ("a b ⊙ c", Times((Product(a, b), c))),
        ("a ⊙ b c", Times((a, Product(b, c)))),
        ("a^2", Power(a, Number(Fraction(2)))),
        ("a b^c", Product(a, Power(b, c))),
        ("−a^2", Negative(Power(a, Number(Fraction(2))))),
        ("aᵀ b", Product(Transpose(a), b)),
        ("(a b)ᵀ", Transpose(Product(a, b))),
        ("[a, b + c]", Join((a, Sum((b, c))))),
        ("[a]", Join((a,))),
        ("σ(a)", apply("sigmoid", a)),
        ("tanh(a + b) c", Product(apply("tanh", Sum((a, b))), c)),
        ("tanh a", apply("tanh", a)),
        ("tanh a b", Product(apply("tanh", a), b)),
        ("log softmax(a)", apply("log", apply("softmax", a))),
        ("min(a, b)", apply("min", a, b)),
        ("Σ a over the rows", Reduce(a, "sum", "B")),
        ("Σ a ⊙ b over timesteps", Reduce(Times((a, b)), "sum", "T")),
        ("mean a b over H ⊙ c", Times((Reduce(Product(a, b), "mean", "H"), c))),
        ("−mean a over the vocabulary", Negative(Reduce(a, "mean", "V"))),
        ("Σ Σ a over the units over the rows", Reduce(Reduce(a, "sum", "H"), "sum", "B")),
        ("(p: a + b) ⊙ c", Times((Sum((a, b), label="p"), c))),
    ],
)
def test_every_construct(text, tree):
    assert formula(text) == tree


@pytest.mark.parametrize(
    ("ascii_only", "signs"),
    [
        ("a * b", "a ⊙ b"),
        ("a · b", "a ⊙ b"),
        ("a - b", "a − b"),
        ("-a", "−a"),
        ("a @ b", "a b"),
        ("a**2", "a^2"),
        ("a.T @ b", "aᵀ b"),
        ("a' b", "aᵀ b"),
        ("(a + b).T c", "(a + b)ᵀ c"),
        ("sigmoid(a)", "σ(a)"),
        ("sum a over rows", "Σ a over the rows"),
        ("∑ a over B", "Σ a over the rows"),
        ("h_tilde", "h̃"),
        ("a_tilde", "a\u0303"),
        ("y_hat", "ŷ"),
        ("h_bar", "h̄"),
        ("h_prev", "hₜ₋₁"),
        ("h_next", "hₜ₊₁"),
        ("h_tilde_prev", "h̃ₜ₋₁"),
        ("h_prev_l0", "hₜ₋₁_l0"),
        ("dh_future", "dh←"),
        ("dh_past_l1_reverse", "dh→_l1_reverse"),
    ],
)
def test_ascii_and_the_screen_spell_the_same(ascii_only, signs):
    assert formula(ascii_only) == formula(signs)


def test_a_name_from_the_screen_is_the_one_typed():
    lines = page("h̃ = x\nhₜ = h̃ + h_tilde").lines
    assert (lines[0].target, *lines[1].formula.names()) == ("h_tilde", "h_tilde", "h_tilde")


def test_a_symbol_of_the_file_stands_for_its_name():
    text = "symbol logits o\nsymbol term1 ① \\ell^{(1)}\nlogits = x\nterm1 = o ⊙ logits\ny = ①"
    assert [list(line.formula.names()) for line in page(text).lines] == [["x"], ["logits", "logits"], ["term1"]]
    assert page(text).symbols == {"logits": ("o", "o"), "term1": ("①", r"\ell^{(1)}")}


def test_every_function_is_read_as_it_is_written():
    for name, function in FUNCTIONS.items():
        arguments = ", ".join("ab"[: function.arity])
        tree = formula(f"{function.text}({arguments})")
        assert isinstance(tree, Apply)
        assert (tree.function, len(tree.parts)) == (name, function.arity)


def test_a_name_of_a_function_is_a_name_where_nothing_follows():
    assert formula("tanh + a") == Sum((Name("tanh"), a))


def test_a_part_keeps_its_place():
    (line,) = page("y = a + (p: b ⊙ c)").lines
    part = line.formula.children[1]
    assert (part.label, part.span.start, part.span.stop) == ("p", 8, 18)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a +", "1:8: the line ends where a name, a number or a bracket is expected |"),
        ("(a + b", "1:11: the line ends where ) is expected |"),
        ("a + b)", "1:10: there is ')' where an operator or the end of the line is expected | )"),
        ("a ⊙ ⊙ b", "1:9: there is '⊙' where a name, a number or a bracket is expected | ⊙"),
        ("a ; b", "1:7: there is ';' where an operator or the end of the line is expected | ;"),
        ("a \x00 b", "1:7: there is '\\x00' where an operator or the end of the line is expected | \x00"),
        ("a \x1b[31m b", "1:7: there is '\\x1b' where an operator or the end of the line is expected | \x1b"),
        ("", "1:4: a formula is missing after = |"),
        ("[a, ", "1:8: the line ends where a name, a number or a bracket is expected |"),
        ("[a b", "1:9: the line ends where , or ] is expected |"),
        ("a over b", "1:7: there is 'over' where an operator or the end of the line is expected | over"),
        ("Σ a", "1:8: the line ends where over is expected, as in Σ x over units |"),
        ("mean(a) / b", "1:16: the line ends where over is expected, as in mean x over units |"),
        ("(a − mean(a)) ⊙ b", "1:17: there is ')' where over is expected, as in mean x over units | )"),
        (
            "Σ a over 2",
            (
                "1:14: an axis is expected after over: vocabulary, classes, outputs, rows, timesteps, units, inputs, parameters, "
                "or the letter of one | 2"
            ),
        ),
        ("Σ a over rwos", "1:14: there is no axis 'rwos'; did you mean rows? | rwos"),
        ("min(a)", "1:5: min takes 2 arguments, not 1 | min"),
        ("min a", "1:9: there is 'a' where ( is expected | a"),
        ("tanh(a, b)", "1:11: there is ',' where ) is expected | ,"),
        ("(p: a) b", "1:6: a already has a name, so it cannot be labelled p | p"),
        ("(p: a + b)", "1:1: the whole line already has the name y, so it cannot be labelled p | y"),
        ("1e999", "1:5: a number lies between 1e-300 and 1e300 and has at most 40 digits | 1e999"),
        ("1e-999999999", "1:5: a number lies between 1e-300 and 1e300 and has at most 40 digits | 1e-999999999"),
    ],
)
def test_what_cannot_be_read(text, message):
    assert refused(f"y = {text}") == f"mine.cell:{message}"


@pytest.mark.parametrize(
    "nested",
    [
        "(" * DEEPEST + "a" + ")" * DEEPEST,
        "tanh " * DEEPEST + "a",
        "Σ " * DEEPEST + "a" + " over H" * DEEPEST,
        "a " * (DEEPEST + 1),
        "a" + "/a" * DEEPEST,
        "[" * DEEPEST + "a" + "]" * DEEPEST,
    ],
)
def test_too_many_operations_inside_each_other(nested):
    assert f"more than {DEEPEST} nested operations; write parts on lines of their own" in refused(f"y = {nested}")


def test_sums_and_products_of_many_parts_are_flat():
    assert len(formula(" + ".join("a" * 400)).terms) == 400
    assert len(formula(" ⊙ ".join("a" * 400)).children) == 400


def test_a_formula_of_too_many_words():
    assert refused("y = " + "a + " * MOST_TOKENS + "a").startswith(
        "mine.cell:1:2005: a formula has at most 1,000 names, numbers and signs"
    )


def test_a_name_that_is_too_long():
    assert refused(f"y = {'a' * (LONGEST_NAME + 1)}").startswith(f"mine.cell:1:5: a name has at most {LONGEST_NAME} characters")


def test_juxtaposed_brackets_are_written_as_products():
    assert written("(a + b) (c d)") == "(a + b) (c d)"
