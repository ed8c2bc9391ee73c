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

#: The words of the field, and of the debugger, that the screen uses.
TERMS = {
    "adam": "Adam: an update rule that divides each gradient by its usual size, so that weights move by about the learning rate",
    "another seed": "another seed is another run: start with --seed 2 and save it; :compare NAME shows both side by side",
    "another size": "another size is another run: start with --hidden-size 16 and save it; :compare NAME shows both",
    "backpropagation": "backpropagation: the gradients of all values, computed from the loss backwards by the chain rule",
    "batch": "batch: the rows and timesteps that are read together, and that one update is made from",
    "bias": "bias: a number that is added to a sum, whatever the input; training changes it",
    "bit": "bit: a unit of loss; one bit is 0.693 nats",
    "bptt": "BPTT, backpropagation through time: the gradient goes back from timestep to timestep, to the start of the batch",
    "branch": "branch: a course of the run; a change in the past starts another one, and the old future stays on its own",
    "candidate": "candidate: the new content h̃ that the update gate mixes into the state",
    "carry": "carry: the path of a gradient through the part of the state that is kept; also what a batch gets from the one before",
    "chance": "chance: the probability that the model gives to the right character",
    "clip": "clip: a gradient whose norm is over the limit is made shorter, in the same direction",
    "correlation": "correlation, Pearson's r: from −1 to 1, how well one series follows another",
    "cross-entropy": "cross-entropy: the loss −log ŷ of the right character, the mean over all predictions",
    "dead": "dead unit: one whose value is the same at every place, so that it carries nothing",
    "derivation": "derivation: where a number comes from, term by term, down to weights and characters",
    "dropout": "dropout: while a model trains, some values are 0 by chance; model.eval() turns it off, model.train() on",
    "early stopping": "early stopping: run until a condition, as until loss > prev(loss); --held-out is text to compare with",
    "embedding": "embedding: a vector for each character, learnt, in the place of a one-hot vector",
    "fed back": "fed back: the sampler that reads its own last character, with the state that it had",
    "finding": "finding: something wrong with the run, with its numbers, its cause and a cure",
    "first word": "first word: the samples of a run that is watched (space) show it; go e1, go e10 … and sample at each",
    "gate": "gate: a value from 0 to 1 for each unit, which says how much passes",
    "gradient": "gradient: how much the loss grows for each 1 that a number grows",
    "greedy": "greedy: temperature 0, the likeliest character each time",
    "hidden state": "hidden state h: what a cell passes from timestep to timestep, a number for each unit",
    "hidden unit": "hidden unit: one number of the state h, with its own gates and weights",
    "hit": "hit: a place at which a breakpoint would stop, counted from the start of the run",
    "influence": "influence: how much an earlier character changes a prediction",
    "learning rate": "learning rate η: the share of the gradient by which an update changes a weight",
    "log point": "log point: a breakpoint that writes a line and does not stop",
    "logits": "logits: the scores of the characters before softmax makes probabilities of them",
    "momentum": "momentum: an update that goes on in the direction of the updates before it",
    "nats": "nat: the unit of loss, of the natural logarithm; e to the loss is the perplexity",
    "norm": "norm: the length of a vector, the root of the sum of its squares",
    "occlusion": "occlusion: the input is replaced by the mean of all characters, and the change of the prediction is measured",
    "one-hot": "one-hot: a vector that is 1 at one character and 0 at all others",
    "opposite": "opposite: of a unit that follows a feature in reverse, and is drawn with the other sign",
    "optimizer": "optimizer: the rule that makes changes of the weights from their gradients, such as SGD or Adam",
    "output gate": "output gate: of an LSTM, says how much of its cell is shown as the state h",
    "overfitting": "overfitting: the loss of the training text falls while that of another text rises",
    "perplexity": "perplexity: e to the loss; as uncertain as a choice among so many equally likely characters",
    "primer": "primer: the text that a sample goes on from",
    "recurrence": "recurrence: the state of a timestep is computed from that of the timestep before",
    "row": "row: one of the sequences of a batch, which are computed side by side",
    "sampler": "sampler: the way to draw text; fed-back reads its last character, tutorial reads the primer again",
    "saturated": "saturated: so near its limit, 0, 1 or −1, that hardly any gradient passes",
    "seed": "seed: the number from which the random numbers come; the same seed gives the same numbers",
    "sgd": "SGD: every weight becomes itself minus the learning rate times its gradient",
    "softmax": "softmax: e to each score, divided by their sum, so that they are probabilities",
    "spectral radius": "spectral radius: the largest |λ|; influence gives it for the derivative of the state by the one before",
    "state": "state: what a cell passes from timestep to timestep, a number for each unit",
    "surprise": "surprise: −log of the probability of what came, in nats",
    "teacher forcing": "teacher forcing: in training the true last character is read, not the one that was predicted",
    "temperature": "temperature: the scores are divided by it before a character is drawn; lower is surer, 0 takes the likeliest",
    "tick": "tick: a line of the run, counted from its start as if every batch learned",
    "timestep": "timestep: the place in the sequence, t; all rows read one character in it",
    "unit": "unit: one number of a state or gate",
    "update to weight ratio": "update-to-weight ratio ‖ΔW‖/‖W‖: the size of a step beside the weights; see the story",
    "vocabulary": "vocabulary: all characters that the model knows, in the order of their index",
    "weight": "weight: a number that training changes; W multiplies the input, U the state before",
    "weight decay": "weight decay: with every update each weight also shrinks by a small share of itself",
}


def term(words: str) -> str:
    """Return the explanation of a word of the field, in any case and number; empty for an unknown one."""
    word = " ".join(words.lower().split())
    forms = (word, word.removesuffix("s"), f"{word}s", word.removesuffix("es"))
    return next((TERMS[form] for form in forms if form in TERMS), "")


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
            source, reads_series = page.inputs[name], program.model.reads_series
            kind_of_target = ("class" if source.one_hot else "number") if reads_series else "wanted"
            yield ROLES[kind_of_target if source.target else "read" if source.one_hot else "given"]
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
        if name == page.received(state):
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
