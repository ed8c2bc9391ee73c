"""How numbers are derived, as data: the terms of each line by index, for a reader that has only the rules and recorded arrays.

A rule is what `evaluate.terms_of` returns for an entry whose indices are not known yet. So lines, their parts and their terms have
one source, and a reader that computes sums and products derives any number of a batch.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from tui_gru.debugger.derivation import Derivation, Node
from tui_gru.debugger.evaluate import AnyIndex, Factor, MomentNumbers, TermBuilder, Terms, signed, terms_of
from tui_gru.debugger.moment import Moment
from tui_gru.debugger.program import Store, axis_index_in_words
from tui_gru.engine.model import GRADIENTS, UPDATES
from tui_gru.equations import syntax as e
from tui_gru.equations.functions import FUNCTIONS
from tui_gru.equations.syntax import Expression, Name

#: The functions of the table that readers have as well.
ARITHMETIC = frozenset(
    {"absolute", "cos", "erf", "exp", "greater", "log", "logaddexp", "maximum", "minimum", "sign", "sin", "sqrt", "tanh"}
)
NORM = "grad_norm"  # derived from the gradients of all parameters, not from its line


class NoRuleError(Exception):
    """Raised for a program with a line that cannot be written as a rule."""


@dataclass(frozen=True)
class Along:
    """An index that is not known yet: that of the rule along `axis`, plus `offset`. Axis −1 counts the terms, −2 is that of the
    character that is read."""

    axis: int
    offset: int = 0

    def __add__(self, offset: int) -> Along:
        return Along(self.axis, self.offset + offset)


TERM, READ = Along(-1), Along(-2)


class Rules:
    """The rules of a program. `data` has them as lists and mappings of texts and numbers:

    - `rules`, by number: the kind, scale and note of a derivation, and its terms. A term is a list of factors; where `size` is
      given, it is one that is repeated so often.
    - A factor: a name, or the number of one of the `parts`; its indices, each an axis of the rule or an axis and an offset; its
      sign; and 1 if it is of another timestep, whose number is that of the term.
    - `lines`: the rule and the text of each line and part with a name; `shares` those of gradients, `updates` those of weights.

    `activations` has the parts of forward lines that are recorded without a name, by the name that they have in the rules. Raises
    `NoRuleError`.
    """

    def __init__(self, moment: Moment) -> None:
        self._program, self._numbers = moment.program, MomentNumbers(moment, 0)
        self._builder = TermBuilder(moment.program, lambda tick: moment, _none, _none, _none)
        self._rules: list[dict[str, Any]] = []
        self._parts: list[dict[str, Any]] = []
        self._numbered: dict[tuple[str, Expression], int] = {}
        self._functions: dict[str, Any] = {}
        self.activations: dict[str, Expression] = {}
        self.data: dict[str, Any] = self._of_lines() | {
            "rules": self._rules,
            "parts": self._parts,
            "functions": self._functions,
        }

    def _of_lines(self) -> dict[str, Any]:
        program, lines = self._program, dict[str, Any]()
        shares, updates = dict[str, Any](), dict[str, Any]()
        for name, line in program.lines.items():
            formula = line.formula
            assert formula is not None
            entries = self._all_entries(formula)
            if name == NORM:
                continue
            if line.phase == "update" and name in program.weights:
                total = self._factor(Factor(formula, entries))
                updates[name] = [line.text, line.op == "=", self._rule(formula), total]
            elif program.names[name].kind.store is Store.GRADIENTS:
                summed, once = self._builder.split(formula)
                share = summed and self._part(summed), self._indices(self._numbers.index_of(summed or formula, formula, entries))
                added = [self._factor(signed(term, formula, entries, self._numbers)) for term in once]
                shares[name] = [line.text, self._rule(formula), *share, added]
            else:
                lines[name] = [self._rule(formula), line.text]
        for name, part in program.parts.items():
            lines.setdefault(name, [self._rule(part if part.children else e.without_label(part)), program.made_by(name)[1]])
        return {"lines": lines, "shares": shares, "updates": updates}

    # Rules, and the factors that their terms consist of

    def _all_entries(self, node: Expression) -> AnyIndex:
        return tuple(map(Along, range(len(self._numbers.axes(node)))))

    def _rule(self, node: Expression) -> int:
        key = "rule", node
        if key not in self._numbered:
            self._numbered[key] = len(self._rules)
            self._rules.append({})
            self._rules[self._numbered[key]] = self._written(node)
        return self._numbered[key]

    def _written(self, node: Expression, at: AnyIndex | None = None) -> dict[str, Any]:
        """Return the rule of an expression at an index, by default at each of its entries."""
        at, numbers, writer = self._all_entries(node) if at is None else at, self._numbers, self._program.writer
        match node:
            case e.Activation(argument=argument) if not node.label and not argument.label:
                return {"kind": "recorded", "line": self._line_of(argument), "rule": self._rule(argument)}
            case e.Transpose(argument=argument):
                return self._written(argument, at[::-1])
            case e.Reduce(argument=argument) if e.is_unwritten(node):
                return self._written(argument, at)
            case e.Spread(argument=argument):
                rule = self._written(argument, numbers.index_of(argument, node, at))
                return rule if isinstance(node, e.Activation) else {key: rule[key] for key in rule if key != "note"}
            case e.Apply(function="softmax", parts=(argument,)):
                power = Factor(argument, (*at[:-1], TERM))
                over = f"over {writer.over(numbers.axes(node)[-1])}"
                return {"kind": "softmax", "chosen": self._indices(at)[-1], "over": over} | self._repeated(power, argument)
            case e.Apply(function="log", parts=(Name(name=name),)) if (operand := self._builder.softmax_argument(name)) is not None:
                of_row = self._repeated(Factor(operand, (*at[:-1], TERM)), operand)
                texts = writer.text(operand), writer.name(name)
                chosen = self._factor(Factor(operand, at))
                rule = self._terms(node, terms_of(node, at, numbers)) | {"row": of_row, "texts": texts, "chosen": chosen}
                return rule | {"recorded": node.label}
            case e.Product(left=Name(name=name), right=right) if numbers.is_one_hot(name):
                picked = self._factor(Factor(right, (READ, at[1])))
                return {"kind": "copy", "reads": [name, self._indices(at)[0]], "picks": writer.text(right), "terms": [[picked]]}
            case e.Product(left=e.Transpose(argument=Name(name=name)), right=right) if numbers.is_one_hot(name):
                row = self._factor(Factor(right, (TERM, at[1])))
                return {"kind": "sum", "readBy": [name, self._indices(at)[0]], "terms": [[row]]}
            case e.Join(parts=parts):
                widths = [numbers.shape(part)[-1] for part in parts]
                starts = [sum(widths[:k]) for k in range(len(parts))]
                columns = [Factor(part, (*at[:-1], at[-1] + -start)) for part, start in zip(parts, starts, strict=True)]
                joined = [[self._factor(column)] for column in columns]
                return {"kind": "copy", "joins": starts, "column": self._indices(at)[-1], "terms": joined}
        rule = self._terms(node, terms_of(node, at, numbers))
        noted = self._builder.noted(node, at, Derivation(rule["kind"], (_ANY,)), numbers)
        return rule | {"kind": noted.kind} | ({"note": noted.note} if noted.note else {})

    def _repeated(self, factor: Factor, node: Expression) -> dict[str, Any]:
        """Return the terms of a rule with one for each entry of a row."""
        return {"size": self._numbers.shape(node)[-1], "terms": [[self._factor(factor)]]}

    def _terms(self, node: Expression, made: Terms) -> dict[str, Any]:
        if made.kind not in _KINDS:
            self._use(made.kind)
        rule: dict[str, Any] = {"kind": made.kind}
        if made.scale != 1:
            rule["scale"] = made.scale
        if made.over:
            terms, rule["size"] = [made.term(TERM)], made.size  # type: ignore[arg-type]
        else:
            terms = [made.term(k) for k in range(made.size)]
        if any(len(term) == 2 for term in terms):
            product = node
            while not isinstance(product, e.Product):  # a transposed product
                (product,) = product.children
            rule["text"], rule["axis"] = self._program.writer.text(product), self._numbers.axes(product.left)[-1]
        return rule | {"terms": [list(map(self._factor, term)) for term in terms]}

    def _factor(self, factor: Factor) -> list[Any]:
        node, at = factor.formula, factor.at
        while not node.label and isinstance(node, e.Transpose):
            node, at = node.argument, at[::-1]
        if isinstance(node, e.Activation) and node.argument.label:
            node = node.argument
        program, name = self._program, node.name if isinstance(node, Name) else node.label
        is_number = name in program.names and (isinstance(node, Name) or self._builder.is_shown_by_name(name))
        return [name if is_number else self._part(node), self._indices(at), factor.sign, int(factor.t is not None)]

    def _indices(self, at: AnyIndex) -> list[Any]:
        return [[i.axis, i.offset] if i.offset else i.axis for i in at]

    def _part(self, node: Expression) -> int:
        """Return the number of a part of a line without a name: its text, its rule, and the name that it is recorded by."""
        key = "part", node
        if key in self._numbered:
            return self._numbered[key]
        self._numbered[key] = number = len(self._parts)
        part: dict[str, Any] = {"text": self._program.writer.text(node)}
        self._parts.append(part)
        match node:
            case Name(name=name):
                if name != UPDATES:
                    raise NoRuleError(GRADIENTS)
                part |= {"updates": "updates so far, including this one"}
                return number
            case e.Number() | e.Size():
                part["value"] = float(self._numbers.value(node, ()))
            case e.Activation() if not node.label:
                part["recorded"] = f"part {number}"
                self.activations[f"part {number}"] = node.argument
        if node.label:
            part |= {"recorded": node.label, "part": True}
        part["rule"] = self._rule(node if node.children or not node.label else e.without_label(node))
        return number

    def _line_of(self, part: Expression) -> str:
        schedule = self._program.config.compiled.schedule
        return schedule.phases["forward"].lines[schedule.activation(part).line].target

    def _use(self, function: str) -> None:
        """Note a function, with what computes it: a function of NumPy, or a formula of x."""
        if function in self._functions:
            return
        self._functions[function] = [FUNCTIONS[function].text, self._applied(function, (Name("x"),))]

    def _applied(self, function: str, operands: tuple[Expression, ...]) -> Any:
        row = FUNCTIONS[function]
        if len(operands) == 1 and (formula := e.formula_of(function, operands[0])) is not None:
            return self._computed(formula)
        if row.numpy not in ARITHMETIC:
            raise NoRuleError(function)
        return [row.numpy, *map(self._computed, operands), *([] if row.second is None else [row.second])]

    def _computed(self, node: Expression) -> Any:
        match node:
            case Name():
                return "x"
            case e.Number(value=value):
                return float(value)
            case e.Apply(function=function, parts=parts):
                return self._applied(function, parts)
        return [type(node).__name__, *map(self._computed, node.children)]

    # What the program says of names and places

    def words(self) -> dict[str, list[str]]:
        """Return the words for the indices along each axis."""
        program, axes = self._program, {axis for named in self._program.names.values() for axis in named.axes if axis != "T"}
        axes |= {rule["axis"] for rule in self._rules if "axis" in rule}
        return {axis: [axis_index_in_words(program, axis, i) for i in range(self._numbers.size(axis))] for axis in sorted(axes)}


_KINDS = frozenset({"sum", "product", "quotient", "power", "min", "max", "copy", "given"})
_ANY = Node("", 0.0, lambda: Derivation("given"))


def _none(*_: object) -> Any:
    raise NotImplementedError
