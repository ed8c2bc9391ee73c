"""A sentence for every name of a model: that of its line in the model's own file, else that of its role.

A comment on a line of a .cell, .head, .loss or .update file is the sentence for what the line
computes, in a user's own cell as well.
"""

from __future__ import annotations

from collections.abc import Iterator

from tui_gru.debugger.program.line_table import Program
from tui_gru.debugger.program.names import Kind
from tui_gru.debugger.program.naming import spoken
from tui_gru.equations.expression import Apply, Expression, Name, Product

#: The names that every program has, whatever its equations are.
COMMON = {
    "epoch": "epoch: how often the whole text has been read, counted from 1 where you type it",
    "batch": "batch: the part of the text that one update is made from, counted within the epoch",
    "t": "timestep: the place in the sequence that the lines between the loops are computed for",
    "char": "the character that is read, in each row of the batch",
    "target": "the character that should be predicted, in each row of the batch",
    "learning_rate": "learning rate: how far an update goes against the gradient",
    "grad_norm": "length of the whole gradient: the root of the sum of all its squares",
    "max_weight": "the largest weight there is, by its absolute value",
    "loss": "loss of the batch: how badly it is predicted; training makes it smaller",
}

#: The sentences for roles. `{}` stands for what the name belongs to.
ROLES = {
    "read": "the character that is read, as a row of zeros with a 1 at its place",
    "given": "what the model reads from outside",
    "wanted": "the character that should be predicted, as a row of zeros with a 1 at its place",
    "before": "{} as the timestep before left it; this timestep begins with it",
    "activated": "what {} is applied to: any real number, before it is squeezed into the range of {}",
    "part": "{}: a part of the line of {}, recorded by itself",
    "weights": "weights from {} to {}: the row says from what, the column to which unit; training changes them",
    "bias": "bias of {}: added in every row and at every timestep; training changes it",
    "parameter": "a parameter: training changes it",
    "gradient": "gradient of the loss with respect to {}, summed over rows and timesteps: the update goes against it",
    "delta": "gradient of the loss with respect to {}: how much the loss would grow for each unit that {} grows by",
    "future": "gradient that the timestep after hands back to {}; 0 at the last timestep, or where it is cut",
    "handed back": "gradient with respect to {}, which is handed back to the timestep before",
    "path": "the share of {} that flows through the line of {}",
    "kept": "what the update rule keeps of the earlier gradients of {}",
    "step": "a value on the way to the update of {}",
    "computed": "computed by the line {}",
}


def about(program: Program, name: str) -> str:
    """What a name stands for, in a sentence without a full stop. Raises `KeyError` for what is no name of the program."""
    kind = program.names[name].kind
    line = program.lines.get(name)
    if kind is not Kind.PARAMETER and line is not None and line.note:
        return line.note
    said = next(_by_role(program, name, kind), "")
    return said or COMMON.get(name, "")


def about_entry(program: Program, name: str, index: tuple[int, ...], written: str) -> str:
    """A number of a name: `z[row 1, unit 2] = 0.9301: update gate: near 1 keeps the old state`."""
    return f"{spoken(program, name, index)} = {written}: {about(program, name)}"


def _by_role(program: Program, name: str, kind: Kind) -> Iterator[str]:
    """The sentences that fit, the best first."""
    shown, page = program.writer.name, program.model.page
    match kind:
        case Kind.INPUT:
            role = "wanted" if page.inputs[name].target else "read" if page.inputs[name].one_hot else "given"
            yield ROLES[role]
        case Kind.STATE:
            state = next((state for state in page.states if page.before(state) == name), name)
            yield ROLES["before"].format(shown(state))
        case Kind.PARAMETER:
            yield from _parameter(program, name)
        case Kind.GRADIENT:
            yield ROLES["gradient"].format(shown(name.removeprefix("d")))
        case Kind.DELTA:
            yield from _delta(program, name)
        case Kind.KEPT | Kind.STEP:
            parameter = next((p for p in sorted(program.parameters, key=len, reverse=True) if name.endswith(f"_{p}")), name)
            yield ROLES["kept" if kind is Kind.KEPT else "step"].format(shown(parameter))
        case Kind.VALUE | Kind.NUMBER:
            yield from _part(program, name)


def _part(program: Program, name: str) -> Iterator[str]:
    """A labelled part of a line: what a function is applied to, or another part; else a line of its own."""
    shown = program.writer.name
    made = program.written_with.get(name)
    if made is None:
        if (line := program.lines.get(name)) is not None and name not in COMMON:
            yield ROLES["computed"].format(line.text)
        return
    formula = program.lines[made].formula
    if isinstance(formula, Apply) and any(part.label == name for part in formula.parts):
        sign = {"sigmoid": "σ"}.get(formula.function, formula.function)
        yield ROLES["activated"].format(sign, shown(made))
    else:
        yield ROLES["part"].format(program.writer.text(program.parts[name]), shown(made))


def _parameter(program: Program, name: str) -> Iterator[str]:
    """Weights and biases, by the forward line that reads them."""
    shown = program.writer.name
    for line in program.lines.values():
        if line.phase != "forward" or line.formula is None or name not in line.reads:
            continue
        left = _multiplied(line.formula, name)
        if left is not None:
            source = shown(left.name) if isinstance(left, Name) else program.writer.text(left)
            yield ROLES["weights"].format(source, shown(line.target))
        elif len(program.names[name].axes) == 1:
            yield ROLES["bias"].format(shown(line.target))
    yield ROLES["parameter"]


def _multiplied(formula: Expression, name: str) -> Expression | None:
    """What stands before a parameter in a matrix product."""
    products = (node for node in formula.walk() if isinstance(node, Product))
    return next((node.left for node in products if isinstance(node.right, Name) and node.right.name == name), None)


def _delta(program: Program, name: str) -> Iterator[str]:
    """The gradient of a value, of a state that is handed back, or one of the shares that it is the sum of."""
    shown, page = program.writer.name, program.model.page
    of = name.removeprefix("d")
    for state in page.states:
        if name == page.ahead(state):
            yield ROLES["future"].format(shown(state))
        if name == f"d{page.before(state)}":
            yield ROLES["handed back"].format(shown(page.before(state)))
    made = program.written_with.get(name)
    if made is not None and made.startswith("d"):
        forward = next((line for line in page.lines if line.label and f"_{line.label}" in name), None)
        if forward is not None:
            yield ROLES["path"].format(shown(made), shown(forward.target))
        yield ROLES["part"].format(program.writer.text(program.parts[name]), shown(made))
    if of in program.names:
        yield ROLES["delta"].format(shown(of), shown(of))
    if (line := program.lines.get(name)) is not None:
        yield ROLES["computed"].format(line.text)
    yield ROLES["future"].format(shown(of))
