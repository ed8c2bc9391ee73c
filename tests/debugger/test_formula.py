"""How formulas are written: with parentheses where they are needed, and nowhere else."""

import pytest
from tui_gru.debugger.formula import Name, Number, Reduce, log, sigmoid, softmax, tanh

a, b, c, h = Name("a"), Name("b"), Name("c"), Name("h_tilde")
one = Number("1")


@pytest.mark.parametrize(
    ("formula", "text", "latex"),
    [
        (a + b + c, "a + b + c", "a + b + c"),
        (a - b, "a − b", "a - b"),
        (a - (b + c), "a − (b + c)", "a - (b + c)"),
        ((a - b) + c, "a − b + c", "a - b + c"),
        (a * b * c, "a⊙b⊙c", r"a \odot b \odot c"),
        (a * (one - b), "a⊙(1 − b)", r"a \odot (1 - b)"),
        (a @ b, "a b", r"a\,b"),
        ((a * b) @ c, "(a⊙b) c", r"(a \odot b)\,c"),
        (a * (b @ c), "a⊙b c", r"a \odot b\,c"),
        ((a - b) / c, "(a − b)/c", r"\frac{a - b}{c}"),
        (a / (b * c), "a/(b⊙c)", r"\frac{a}{b \odot c}"),
        (a.T @ b, "aᵀ b", r"{a}^\top\,b"),
        ((a * b).T, "(a⊙b)ᵀ", r"{(a \odot b)}^\top"),
        (sigmoid(a @ b + c), "σ(a b + c)", r"\sigma\left(a\,b + c\right)"),
        (tanh(h), "tanh(h̃)", r"\tanh\left(\tilde{h}\right)"),
        (softmax(Name("logits")), "softmax(o)", r"\mathrm{softmax}\left(o\right)"),
        (a * log(Name("y_hat")), "a⊙log ŷ", r"a \odot \log\left(\hat{y}\right)"),
        (log(a + b), "log (a + b)", r"\log\left(a + b\right)"),
        (Reduce("sum", a, "the rows"), "Σ a over the rows", r"\sum_{\text{the rows}} a"),
        (Reduce("mean", a + b, "t", sign=-1), "−mean (a + b) over t", r"-\operatorname{mean}_{\text{t}} (a + b)"),
        (Name("Wz"), "Wz", "W_{z}"),
        (Name("dWz"), "dWz", "dW_{z}"),
        (Name("bhn"), "bhn", "b_{hn}"),
        (a / Number("(B·T)"), "a/(B·T)", r"\frac{a}{(B\,T)}"),
    ],
    ids=str,
)
def test_writing(formula, text, latex):
    assert (formula.text, formula.latex) == (text, latex)


def test_names_are_read_from_left_to_right():
    assert list((a * b + sigmoid(c @ a.T)).names()) == ["a", "b", "c", "a"]


def test_terms_are_those_of_the_outermost_sum():
    assert (a + b * c + tanh(a + b)).terms == (a, b * c, tanh(a + b))
    assert (a - b).terms == (a - b,)
