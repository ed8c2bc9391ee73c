"""Explanations of the names and lines of a model: the comment in the file of the model, otherwise by the role of the name."""

from __future__ import annotations

from collections.abc import Iterator

from tui_gru.debugger.program import Program, ProgramLine, ValueKind
from tui_gru.equations.functions import FUNCTIONS
from tui_gru.equations.syntax import Apply, Expression, Name, Product

# ------------------------------------------------------------------------------
# Explanations of the names of a model: the comment on its line in the file of the model, otherwise the one of its role.
#
# A comment on a line of a .cell, .head, .loss or .update file, also of a user's own, explains the value that the line computes.


#: The names that every program has, independent of its equations.
COMMON = {
    "epoch": "epoch: how often the whole text has been read, counted from 1",
    "batch": "batch: the part of the text that one update is made from, counted from 1 within the epoch",
    "t": "timestep: the place in the sequence for which the lines inside the loops are computed, counted from 1",
    "step": "step: the batches of the whole run, counted from 1; in a recording, the number of the recorded step",
    "char": "the character that is read, in each row of the batch",
    "target": "the character that should be predicted, in each row of the batch",
    "grad_norm": "length of the whole gradient: the root of the sum of all its squares",
    "max_weight": "the largest absolute value of all weights",
    "loss": "loss of the batch: how badly it is predicted; training makes it smaller",
}

#: Those of a run on series of numbers, which has no text.
COMMON_OF_SERIES = {
    "epoch": "epoch: how often the series have been read, counted from 1 when typed",
    "batch": "batch: the part of the series that one update is made from, counted within the epoch",
    "target": "the class that should be predicted, in each row of the batch",
}

#: The explanations of roles. `{}` is the name to which the value belongs.
ROLES = {
    "read": "the character that is read, as a row of zeros with a 1 at its place",
    "given": "the input of the model",
    "wanted": "the character that should be predicted, as a row of zeros with a 1 at its place",
    "class": "the class that should be predicted, as a row of zeros with a 1 at its place",
    "number": "the numbers that should be predicted",
    "before": "{} after the previous timestep; this timestep begins with it",
    "activated": "the argument of {}: any real number, before it is squeezed into the range of {}",
    "part": "{}: a part of the line of {}, recorded separately",
    "weights": "weights from {} to {}: a row for each input, a column for each unit; training changes them",
    "bias": "bias of {}: added in every row and at every timestep; training changes it",
    "parameter": "a parameter: training changes it",
    "gradient": "gradient of the loss with respect to {}, summed over rows and timesteps: the update goes against it",
    "delta": "gradient of the loss with respect to {}: how much the loss would grow for each unit that {} grows by",
    "future": "gradient that {} receives from the next timestep; 0 at the last timestep, or where it is cut",
    "handed back": "gradient with respect to {}, which is passed to the previous timestep",
    "path": "the share of {} that flows through the line of {}",
    "kept": "computed by the update rule from the earlier gradients of {}",
    "step": "an intermediate value of the update of {}",
    "computed": "computed by the line {}",
}


def about(program: Program, name: str) -> str:
    """Return the explanation of a name, a sentence without a full stop. Raises `KeyError` if the program has no such name."""
    kind = program.names[name].kind
    line = program.lines.get(name)
    if kind is not ValueKind.PARAMETER and line is not None and line.note:
        return line.note
    sentence = next(_by_role(program, name, kind), "")
    return sentence or (COMMON_OF_SERIES if program.model.reads_series else {}).get(name) or COMMON.get(name, "")


def _by_role(program: Program, name: str, kind: ValueKind) -> Iterator[str]:
    """Yield the explanations that apply, best first."""
    shown, page = program.writer.name, program.model.page
    match kind:
        case ValueKind.INPUT:
            own, reads_series = page.inputs[name], program.model.reads_series
            kind_of_target = ("class" if own.one_hot else "number") if reads_series else "wanted"
            yield ROLES[kind_of_target if own.target else "read" if own.one_hot else "given"]
        case ValueKind.STATE:
            state = next((state for state in page.states if page.before(state) == name), name)
            yield ROLES["before"].format(shown(state))
        case ValueKind.PARAMETER:
            yield from _parameter(program, name)
        case ValueKind.GRADIENT:
            yield ROLES["gradient"].format(shown(program.names[name].of))
        case ValueKind.VALUE_GRADIENT:
            yield from _delta(program, name)
        case ValueKind.OPTIMIZER_STATE | ValueKind.UPDATE_VALUE:
            yield ROLES["kept" if kind.is_weight else "step"].format(shown(program.names[name].of))
        case ValueKind.SETTING:
            yield program.model.rule.meanings[name]
        case ValueKind.VALUE | ValueKind.NUMBER:
            yield from _part(program, name)


def _part(program: Program, name: str) -> Iterator[str]:
    """Yield explanations of a labelled part of a line (the argument of a function, or another part), or of a line."""
    shown = program.writer.name
    target = program.written_with.get(name)
    if target is None:
        if (line := program.lines.get(name)) is not None and name not in COMMON:
            yield ROLES["computed"].format(line.text)
        return
    formula = program.lines[target].formula
    if isinstance(formula, Apply) and any(part.label == name for part in formula.parts):
        yield ROLES["activated"].format(FUNCTIONS[formula.function].text, shown(target))
    else:
        yield ROLES["part"].format(program.writer.text(program.parts[name]), shown(target))


def _parameter(program: Program, name: str) -> Iterator[str]:
    """Yield explanations of a weight or a bias, by the forward lines that read it."""
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
    """Return the left factor of a matrix product with the parameter, None if there is no such product."""
    products = (node for node in formula.walk() if isinstance(node, Product))
    return next((node.left for node in products if isinstance(node.right, Name) and node.right.name == name), None)


def _delta(program: Program, name: str) -> Iterator[str]:
    """Yield explanations of the gradient of a value, of a state passed back, or of one of the summands of a gradient."""
    shown, page = program.writer.name, program.model.page
    of = name.removeprefix("d")
    for state in page.states:
        if name == page.ahead(state):
            yield ROLES["future"].format(shown(state))
        if name == f"d{page.before(state)}":
            yield ROLES["handed back"].format(shown(page.before(state)))
    target = program.written_with.get(name)
    if target is not None and target.startswith("d"):
        forward = next((line for line in page.lines if line.label and f"_{line.label}" in name), None)
        if forward is not None:
            yield ROLES["path"].format(shown(target), shown(forward.target))
            yield ROLES["part"].format(program.writer.text(program.parts[name]), shown(target))
    if of in program.names:
        yield ROLES["delta"].format(shown(of), shown(of))
    if (line := program.lines.get(name)) is not None:
        yield ROLES["computed"].format(line.text)
    yield ROLES["future"].format(shown(of))


def about_line(program: Program, line: ProgramLine) -> str:
    """Explain a line of the listing by its comment in the file of the model, otherwise by the value that it computes."""
    if line.note or line.target not in program.names:
        return line.note
    return about(program, line.target)
