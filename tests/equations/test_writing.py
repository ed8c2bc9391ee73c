"""The writer of formulas: on-screen text parses to the same tree; the LaTeX of every construct."""

from __future__ import annotations

import re
from fractions import Fraction
from unicodedata import normalize
from xml.etree import ElementTree

import pytest
from hypothesis import given, settings

from tests.equations.reading import formula, page
from tests.equations.trees import trees
from tests.extent import examples
from tui_gru.equations import syntax as e
from tui_gru.equations.page import names_of, shipped
from tui_gru.equations.syntax import Symbols, code_name, split, with_word
from tui_gru.equations.writing import Writer, decimal, latex_text

PIECES = [(kind, name) for kind in ("cell", "head", "loss", "update", "input") for name in names_of(kind)]


@given(trees)
@settings(max_examples=examples(100, soak=2000), derandomize=True)
def test_a_formula_reads_back_as_the_same_tree(tree):
    assert formula(Writer(Symbols()).text(tree)) == tree


def assert_lines_read_back(kind, name, written):
    """Read each line of a shipped piece from `written(writer, line)` again, and compare the trees."""
    piece = shipped(kind, name)
    writer = Writer(Symbols(piece.symbols))
    symbols = "\n".join(f"symbol {name} {text}" for name, (text, _) in piece.symbols.items())
    for line in piece.lines:
        (read,) = page(f"{symbols}\n{written(writer, line)}").lines
        assert (read.target, read.op, read.formula) == (line.target, line.op, e.unlabelled(line.formula))


def text_of(writer, line):
    return writer.line(line.target, line.op, line.formula)


@pytest.mark.parametrize(("kind", "name"), PIECES)
def test_a_shipped_line_reads_back_as_the_same_tree(kind, name):
    assert_lines_read_back(kind, name, text_of)


def from_mathml(element):
    """Return what an element of MathML says, as on-screen text with parentheses around fractions, powers and reductions."""
    tag, parts = element.tag, [from_mathml(child) for child in element]
    if tag in ("math", "mrow"):
        if len(element) and element[0].tag == "munder":
            sign, over = parts[0]
            return f"({sign} {''.join(parts[1:])} over {over})"
        return "".join(parts)
    if tag == "mspace":
        return " "
    if tag == "munder":
        return {"∑": "Σ"}.get(parts[0], parts[0]), parts[1]
    if tag == "mfrac":
        return f"(({parts[0]})/({parts[1]}))"
    if tag == "msqrt":
        return f"sqrt({''.join(parts)})"
    if tag == "mover":
        mark = {"~": "\u0303", "^": "\u0302", "¯": "\u0304"}.get(parts[1], parts[1])
        return normalize("NFC", parts[0] + mark)
    if tag == "msub":
        return parts[0] + {"t−1": "ₜ₋₁", "t+1": "ₜ₊₁"}.get(parts[1], parts[1])
    if tag == "msup" and element[1].tag == "mo":
        assert parts[1] == "⊤"
        return f"{parts[0]}ᵀ"
    if tag == "msup" and element[1].tag == "mtext":
        return f"{parts[0]}_{parts[1].replace(' ', '_')}"
    if tag == "msup":
        return f"(({parts[0]})^({parts[1]}))"
    assert tag in ("mi", "mn", "mo", "mtext"), tag
    return element.text


@given(trees)
@settings(max_examples=examples(100, soak=2000), derandomize=True)
def test_the_mathml_of_a_formula_says_the_same_tree(tree):
    written = ElementTree.fromstring(f"<mrow>{Writer(Symbols()).mathml(tree)}</mrow>")
    assert formula(from_mathml(written)) == tree


@pytest.mark.parametrize(("kind", "name"), PIECES)
def test_the_mathml_of_a_shipped_line_says_its_text(kind, name):
    def said(writer, line):
        math = ElementTree.fromstring(writer.line_mathml(line.target, line.op, line.formula))
        assert math.get("alttext") == text_of(writer, line)
        return from_mathml(math)

    assert_lines_read_back(kind, name, said)


def test_names_are_set_with_what_stands_below_and_above_them():
    symbols = Symbols({"logits": ("o<", "o")})
    index, t = "<msub><mi>{}</mi><mi>{}</mi></msub>", "<mrow><mi>t</mi><mo>−</mo><mn>1</mn></mrow>"
    for name, written in (
        ("Wz", index.format("W", "z")),
        ("bhn", index.format("b", "hn")),
        ("h_prev", f"<msub><mi>h</mi>{t}</msub>"),
        ("h_tilde", '<mover accent="true"><mi>h</mi><mo>~</mo></mover>'),
        ("dh_prev", f"<msub><mrow><mi>d</mi><mi>h</mi></mrow>{t}</msub>"),
        ("dWz", f"<mrow><mi>d</mi>{index.format('W', 'z')}</mrow>"),
        ("Uz_l1_reverse", f"<msup>{index.format('U', 'z')}<mtext>l1 reverse</mtext></msup>"),
        ("loss", "<mi>loss</mi>"),
        ("logits", "<mi>o&lt;</mi>"),
    ):
        assert symbols.mathml(name) == written


@pytest.mark.parametrize(
    ("text", "written", "latex"),
    [
        ("az + (b - c) - (-d)", "az + (b − c) − (−d)", "a_{z} + (b - c) - (-d)"),
        ("a * (b * c) / d", "a⊙(b⊙c)/d", r"\frac{a \odot (b \odot c)}{d}"),
        ("a * (b / c)", "a⊙(b/c)", r"a \odot \frac{b}{c}"),
        ("(a b) c + a (b c)", "a b c + a (b c)", r"a\,b\,c + a\,(b\,c)"),
        ("(a * b) Uh", "(a⊙b) Uh", r"(a \odot b)\,U_{h}"),
        ("Wz.T (a b)'", "Wzᵀ (a b)ᵀ", r"{W_{z}}^\top\,{(a\,b)}^\top"),
        ("(a + b)**2", "(a + b)^2", "{(a + b)}^{2}"),
        (
            "sigmoid(a) + log(b c) - log d",
            "σ(a) + log (b c) − log d",
            r"\sigma\left(a\right) + \log\left(b\,c\right) - \log\left(d\right)",
        ),
        ("-mean a*b over the rows", "−mean (a⊙b) over the rows", r"-\operatorname{mean}_{\text{the rows}} (a \odot b)"),
        ("sum a over K", "Σ a over K", r"\sum_{\text{K}} a"),
        ("[h_prev, c]", "[hₜ₋₁, c]", r"\left[h_{t-1},\; c\right]"),
        ("max(a, 1e-8)", "max(a, 1e-8)", r"\max\left(a, 1 \cdot 10^{-8}\right)"),
        ("h_tilde + y_hat - h_bar", "h̃ + ŷ − h̄", r"\tilde{h} + \hat{y} - \bar{h}"),
        ("η * m_hat / (sqrt(v) + ε)", "η⊙m̂/(sqrt(v) + ε)", r"\frac{\eta \odot \hat{m}}{\sqrt{v} + \epsilon}"),
        ("h_prev_l0 Uz_l1_reverse", "hₜ₋₁_l0 Uz_l1_reverse", r"{h_{t-1}}^{\mathrm{l0}}\,{U_{z}}^{\mathrm{l1 reverse}}"),
        ("grad_norm", "grad_norm", r"\mathit{grad\_norm}"),
        ("gate bhn + dgate", "gate bhn + dgate", r"\mathit{gate}\,b_{hn} + \mathit{dgate}"),
    ],
)
def test_text_and_latex(text, written, latex):
    writer = Writer(Symbols())
    assert (writer.text(formula(text)), writer.latex(formula(text))) == (written, latex)


def test_what_only_derived_lines_have():
    writer = Writer(Symbols({"logits": ("o", "o")}))
    size = e.Quotient(e.Name("dlogits"), e.Size(("B", "T")))
    assert (writer.text(size), writer.latex(size)) == ("do/(B·T)", r"\frac{do}{(B\,T)}")
    assert writer.text(e.Quotient(e.Name("dm"), e.Size(("T",)))) == "dm/T"
    part = e.Slice(e.Name("dout"), ("H",), ("H",))
    assert (writer.text(part), writer.latex(part)) == ("dout[H:H+H]", "{do_{ut}}_{[H:H+H]}")
    assert writer.text(e.Slice(e.Name("dout"), (), ("H",))) == "dout[0:H]"
    spread = e.Product(e.Spread(e.Sum((e.Name("a"), e.Name("b"))), ("B", "H")), e.Name("U"))
    assert (writer.text(spread), writer.latex(spread)) == ("(a + b) U", r"(a + b)\,U")
    everywhere = e.Reduce(e.Name("daz"), "sum", "B", all_timesteps=True)
    assert (writer.text(everywhere), writer.latex(everywhere)) == ("Σ daz over the rows", r"\sum_{\text{the rows}} da_{z}")


@pytest.mark.parametrize(
    ("number", "written"),
    [
        ("1", "1"),
        ("0.5", "0.5"),
        ("0.0001", "0.0001"),
        ("0.00001", "1e-5"),
        ("0.000125", "0.000125"),
        ("1e-8", "1e-8"),
        ("0.1234567", "1234567e-7"),
        ("1200", "1200"),
        ("-0.25", "−0.25"),
    ],
)
def test_numbers(number, written):
    assert decimal(Fraction(number)) == written


def test_a_number_without_an_end_is_a_fraction():
    assert decimal(Fraction(1, 3)) == "1/3"


def test_words_in_latex_are_escaped():
    assert (
        latex_text("50% of a_b & {c} \\ ~^") == r"\text{50\% of a\_b \& \{c\} \textbackslash{} \textasciitilde{}\textasciicircum{}}"
    )


@pytest.mark.parametrize("name", ["h", "h_prev", "h_tilde", "h_tilde_prev_l0", "dh_future_l1_reverse", "y_hat", "b_next", "m_hat"])
def test_a_name_from_the_screen_is_the_one_typed(name):
    assert code_name(Symbols().text(name)) == name


def test_suffixes_stay_last():
    assert split("h_prev_l1_reverse") == ("h_prev", "_l1_reverse")
    assert split("z_l10") == ("z", "_l10")
    assert split("h_local") == ("h_local", "")
    assert with_word("dh_l0", "future") == "dh_future_l0"


def test_brackets_in_latex_are_paired():
    for kind, name in PIECES:
        piece = shipped(kind, name)
        writer = Writer(Symbols(piece.symbols))
        for line in piece.lines:
            latex = writer.line_latex(line.target, line.op, line.formula)
            assert len(re.findall(r"(?<!\\){", latex)) == len(re.findall(r"(?<!\\)}", latex))
            assert latex.isascii()
