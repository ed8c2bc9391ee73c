"""Faults planted in the equations, the derivation, the compiler and the passes: the checks detect each of them."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import cache
from types import FunctionType, ModuleType
from typing import Any

import numpy as np
import pytest
import torch

from tests.engine.line_by_line import after, points
from tests.engine.models import SIZES, disagreements, fill, filled, learned, run, settings_of
from tests.engine.test_against_torch_layers import closely, gru, gru_cho, hold_to_a_layer, layer_of, mgu
from tests.engine.test_going_on import bits, forget
from tests.engine.test_optimizers import OPTIMIZERS
from tui_gru.engine import batch, compiled, lowering, model, weights
from tui_gru.engine import compiled as emission
from tui_gru.engine import lowering as scheduling
from tui_gru.engine import lowering as segments
from tui_gru.engine import model as update
from tui_gru.engine import training as computing
from tui_gru.engine.batch import BatchRecord, RecordPool
from tui_gru.engine.compiled import Compiled
from tui_gru.engine.lowering import LEAST_TURNED
from tui_gru.engine.model import Model, Structure
from tui_gru.engine.reference import check_batch
from tui_gru.engine.training import Earlier, Point, compute, compute_from
from tui_gru.equations import axes, backward, functions, syntax
from tui_gru.equations import backward as derivatives
from tui_gru.equations import backward as normal_form
from tui_gru.equations import page as compose
from tui_gru.equations.page import read_page, shipped, text_of

OWN = """state h : H, c : H
parameters W U b P Q
a = x W + h_prev U
u = (mean a over the units) ⊙ a + mean a over the rows
k: z = (p: relu(a) + clamp(3 ⊙ a) ⊙ exp(−a^2)) ⊙ b ⊙ u + sqrt(1 + a ⊙ a) + a Q / (2 + σ(p))
m = Σ (a U + mean a over the units) over the units
c = tanh(c_prev + x P − c_prev)
h = tanh(z ⊙ a ⊙ a + z ⊙ a + m − softmax(a) + h_prev + c_prev)
"""


def fresh(structure: Structure, **sizes: int) -> Compiled:
    """Return a model compiled by the current code."""
    return Compiled(Model(structure), {**SIZES, **sizes}, "float64")


def check_all() -> None:
    """Run all checks. Raises `AssertionError`, or an error of the engine, at the first fault."""
    check_values()
    check_passes()


def check_values() -> None:
    """Check the computed values of a batch."""
    _check_against_autograd(fresh(Structure(cell="mine.cell", cell_text=OWN)))  # first, since it finds most of what is wrong
    adam = fresh(Structure(cell="gru", update="adam", clip=True))
    _check_against_autograd(adam)
    _check_by_hand(learned(adam))
    _check_update(filled(adam, scale=2))
    _check_against_autograd(fresh(Structure(cell="gru-reset-after", input="embedding", loss="squared-error", update="momentum")))
    _check_against_autograd(fresh(Structure(cell="rnn"), T=LEAST_TURNED))
    deep = fresh(Structure(cell="lstm", layers=2, bidirectional=True, input="dense", loss="", head="", lengths=True))
    hold_to_a_layer(learned(deep))
    _check_order(deep)
    _check_against_autograd(deep)
    _check_earlier(fresh(Structure(cell="mine.cell", cell_text="state h : H\nparameters W U\nh = tanh(x W + h_prev ⊙ (h_prev U))")))


def check_passes() -> None:
    """Check the passes: resuming a batch, earlier batches, and reused memory."""
    mgu_cell = fresh(Structure(cell="mgu", bidirectional=True, update="adam"))
    _check_going_on(mgu_cell, 17)
    _check_used_again(mgu_cell)
    _check_earlier(fresh(Structure(cell="gru-reset-after", loss="squared-error", update="momentum")))
    _check_by_hand(learned(fresh(Structure(cell="gru"))))


def _check_against_autograd(each: Compiled) -> None:
    assert disagreements(check_batch(learned(each, scale=0.6), entries=0)) == []


def _check_by_hand(record: BatchRecord) -> None:
    """Check a cell that is written by hand, and its loss."""
    p = {name: torch.tensor(value, requires_grad=True) for name, value in record.before.items()}
    h, losses = torch.tensor(record.border("h", end=False)), []
    for t, ids in enumerate(record.ids("x")):
        h = gru(torch.nn.functional.one_hot(torch.tensor(ids), SIZES["V"]).double(), h, p)
        losses.append(torch.nn.functional.cross_entropy(h @ p["Wy"] + p["by"], torch.tensor(record.ids("y")[t])))
    torch.stack(losses).mean().backward()
    for name, value in p.items():
        closely(record.gradients[name], value.grad)
    assert record.grad_norm == pytest.approx(np.linalg.norm(np.concatenate([value.grad.flatten() for value in p.values()])))
    assert record.max_weight == np.abs(record.own_after.parameters).max()
    assert record.loss == pytest.approx(torch.stack(losses).mean().item())
    plain = learned(fresh(Structure(cell="rnn")))
    assert plain.grad_norm == pytest.approx(np.linalg.norm(plain.own_gradients.flat))


def _check_update(record: BatchRecord) -> None:
    """Compare two steps of an optimizer with PyTorch's, and its states by name."""
    structure = record.compiled.model.structure
    record.before.flat[record.compiled.layout.count :] = 0
    record.before.updates = 0
    parameters = {name: torch.nn.Parameter(torch.tensor(value)) for name, value in record.before.items()}
    optimizer = OPTIMIZERS[structure.update](list(parameters.values()))
    for _ in range(2):
        run(record)
        for name, parameter in parameters.items():
            parameter.grad = torch.tensor(record.gradients[name])
        if structure.clip:
            torch.nn.utils.clip_grad_norm_(parameters.values(), 1.0)
        optimizer.step()
        for name, parameter in parameters.items():
            np.testing.assert_allclose(record.own_after[name], parameter.detach().numpy(), rtol=1e-9)
            if structure.update == "adam":
                np.testing.assert_allclose(
                    record.own_after[f"v_{name}"], optimizer.state[parameter]["exp_avg_sq"].numpy(), rtol=1e-9
                )
        record.before = record.own_after.copy()


def _check_going_on(each: Compiled, stride: int) -> None:
    """Check that resuming from some points gives the same bits, and that executed lines of the update are unchanged for any
    weights."""
    record = learned(each)
    before, places = bits(record), list(points(record))
    for at in places[5::stride]:
        forget(record, at)
        compute_from(record, at, settings_of(record), learn=True)
        assert bits(record) == before, at
    half = places[-1].done // 2
    executed = [line.target for line in each.model.rule.lines_of(record.before.names)[:half]]
    record.before = record.before.copy()
    record.before.flat[...] *= 1.5
    compute_from(record, Point("update", done=half), settings_of(record), learn=True)
    for target in executed:
        assert np.asarray(after(record, target)).tobytes() == np.asarray(after(learned(each), target)).tobytes(), target


def _check_order(each: Compiled) -> None:
    """Check that a segment reads only its own earlier lines, and earlier segments."""
    for phase in each.schedule.phases.values():
        every, executed = {line.target for line in phase.lines}, set[str]()
        for segment in phase.segments:
            for line in segment.lines:
                assert every.intersection(line.formula.names()) <= executed, line.target
                executed.add(line.target)
        assert executed == every


def _check_earlier(each: Compiled) -> None:
    """Check the gradients of the second and third batch of an epoch with the contributions of earlier ones, for any contents of
    `scratch`."""
    records: list[BatchRecord] = []
    scratch = BatchRecord(each)
    scratch.block[...] = 7
    for seed in range(3):
        record = filled(each, seed=seed)
        if records:
            record.before = records[-1].own_after
            record.begin_with(records[-1].states(end=True))
        compute(record, settings_of(record), learn=True, earlier=Earlier(records[::-1], scratch))
        assert disagreements(check_batch(record, earlier=records[::-1], entries=0)) == []
        records.append(record)


def _check_used_again(each: Compiled) -> None:
    """Check that a reused record gives the bits of a new one, and is not reused while a caller holds it."""
    new, used = learned(each, seed=5), BatchRecord(each)
    used.block[...] = 7
    used.before = new.before
    fill(used, seed=5)
    run(used)
    names = [name for name, operation in each.schedule.named.items() if operation.memory.kind in ("record", "state")]
    assert [name for name in names if used.array(name).tobytes() != new.array(name).tobytes()] == []
    pool = RecordPool(each)
    record = pool.take()
    address = record.block.ctypes.data
    for see in (lambda r: r.array("h_l0"), lambda r: r.array("f_l0"), lambda r: r.own_after, lambda r: r.own_gradients.flat):
        seen = see(record)
        del record
        assert pool.take().block.ctypes.data != address
        assert seen is not None
        del seen
        record = next(taken for taken in [pool.take(), pool.take(), pool.take()] if taken.block.ctypes.data == address)
    assert not record.learned


#: The errors that a faulty engine may raise.
FAILURES = (
    AssertionError,
    ArithmeticError,
    LookupError,
    ValueError,
    TypeError,
    AttributeError,
    NameError,
    RuntimeError,
    StopIteration,
)

FAULTS: dict[str, tuple[ModuleType, str, str]] = {
    # derivative rules
    "σ' without its value": (functions, "dy ⊙ y ⊙ (1 − y)", "dy ⊙ (1 − y)"),
    "tanh' without the square": (functions, "1 − y ⊙ y", "1 − y"),
    "relu' is 1": (functions, "dy ⊙ positive(y)", "dy"),
    "clamp' is that of relu": (functions, "dy ⊙ within(y)", "dy ⊙ positive(y)"),
    "exp' is 1": (functions, 'slope="dy ⊙ y"', 'slope="dy"'),
    "sqrt' without 2": (functions, "dy / (2 ⊙ y)", "dy / y"),
    "within 0 and 2": (functions, "positive(1 − x)", "positive(2 − x)"),
    "a product without the factors behind": (derivatives, "e.Times((a, *parts[:i], *parts[i + 1 :]))", "e.Times((a, *parts[:i]))"),
    "a quotient without its square": (
        derivatives,
        "e.Negative(e.Quotient(e.Times((a, value)), right))",
        "e.Negative(e.Times((a, value)))",
    ),
    "the sign of a quotient": (
        derivatives,
        "e.Negative(e.Quotient(e.Times((a, value)), right))",
        "e.Quotient(e.Times((a, value)), right)",
    ),
    "a negative gives a": (derivatives, "return (e.Negative(a),)", "return (a,)"),
    "a matrix not transposed": (derivatives, "e.Product(a, transpose(right))", "e.Product(a, right)"),
    "a mean gives as a sum": (derivatives, "return (e.Quotient(a, e.Size((over,))),)", "return (a,)"),
    "a power without its exponent": (derivatives, "e.Times((a, e.number(power), lower))", "e.Times((a, lower))"),
    # the arithmetic of the reference
    "a quotient turned over": (syntax, "operands[0] / operands[1]", "operands[1] / operands[0]"),
    "a product without its last factor": (syntax, "math.prod(operands[1:], start", "math.prod(operands[1:-1], start"),
    # the derivation
    "softmax without its sum": (backward, "e.Sum((a, e.Negative(inner)))", "a"),
    "log softmax without its sum": (backward, "e.Sum((a, e.Negative(e.Times((node.argument, total)))))", "a"),
    "nothing from the future": (backward, "if name in self._page.states else []", "if False else []"),
    "not summed over what an operand lacks": (backward, "for axis in lacking:", "for axis in ():"),
    "the second half of a join is the first": (backward, "before = (*before, axis)", "before = ()"),
    "a part without a name computed again": (
        backward,
        "return part if self._is_weight(part) else e.Activation(part, self._axes_of(part))",
        "return part",
    ),
    "the last use alone": (backward, "for of_use in terms for term in of_use", "for of_use in terms[:1] for term in of_use"),
    "a sum over the rows is one over the timesteps, too": (
        backward,
        'return e.Reduce(a, "sum", axis)',
        'return e.Reduce(a, "sum", axis, True)',
    ),
    "a sum of what is the same along the axis": (backward, "e.Times((e.Size((axis,)), a))", "a"),
    "terms change places": (backward, "zip(gradient.parts, uses, strict=False)", "zip(gradient.parts, uses[::-1], strict=False)"),
    "a gradient is not spread": (backward, "else e.Spread(a, axes)", "else a"),
    "equal terms once": (normal_form, "merged.get(key, Fraction(0)) + term.coefficient", "term.coefficient"),
    "a size twice": (
        normal_form,
        "Term(term.coefficient / number, (), term.factors)",
        "Term(term.coefficient / number, term.sizes, term.factors)",
    ),
    "a size dropped": (normal_form, "(*term.sizes, *axes)", "term.sizes"),
    "a factor taken out twice": (
        normal_form,
        "                rest.remove(factor)",
        "                rest[:] = [f for f in rest if f != factor]",
    ),
    "a sign dropped": (normal_form, "Term(-term.coefficient,", "Term(term.coefficient,"),
    # axes and pieces
    "square matrices are vectors": (axes, "tuple(sorted((*longest, *more)", "tuple(sorted(dict.fromkeys((*longest, *more))"),
    "a reverse layer runs forwards": (
        compose,
        "State(state.axis, state.backwards != backwards)",
        "State(state.axis, state.backwards)",
    ),
    "a mask that is never 0": (compose, "e.Sum((e.ONE, e.Negative(live)))", "live"),
    "outputs behind the end of a row": (compose, "e.Times((e.Name(LIVE), e.Name(reads)))", "e.Name(reads)"),
    "both directions the same": (
        compose,
        "outputs.append(piece.output)",
        "outputs.append(pieces[-1].output if not outputs else outputs[0])",
    ),
    # operations
    "sigmoid of the negative": (functions, "exp(−x)", "exp(x)"),
    "softmax without its total": (lowering, 'result = made("div", powers, total)', "result = powers"),
    "log softmax of the shifted alone": (lowering, 'result = made("sub", shifted, made("log", total))', "result = shifted"),
    "minus is plus": (lowering, 'total = self._made("sub", total', 'total = self._made("add", total'),
    "a mean is a sum": (lowering, 'return total if kind == "sum" else', "return total if True else"),
    "−mean is mean": (lowering, "self._constant(-self._sizes[over])", "self._constant(self._sizes[over])"),
    "a slice from the beginning": (lowering, "start = sum(self._sizes[axis] for axis in before)", "start = 0"),
    "rows that are not counted apart": (lowering, "key = (kind, args, over,", "key = (kind, args,"),
    "a matrix is not turned": (lowering, 'turned = self._made("turn", matrix, axes=matrix.axes[::-1])', "turned = matrix"),
    "relu is the smaller": (functions, 'formula="max(x, 0)"', 'formula="min(x, 0)"'),
    # the schedule
    "a state lies where the one before lies": (scheduling, "leaf.half = 1 if", "leaf.half = 0 if"),
    "the future lies in the present": (scheduling, "leaf.half = 0 if page.states[state].backwards else 1", "leaf.half = 0"),
    "loops run the other way": (scheduling, "-1 if arg.half else 1", "1 if arg.half else -1"),
    "what a state needs comes after it": (
        scheduling,
        "for a in o.args for r in (a.carried or a,)",
        "for a in o.args for r in (a,)",
    ),
    "no order within a stage": (scheduling, "max((other.depth + 1 for other in same), default=0)", "0"),
    "no stages": (scheduling, "stages[i] = stage + (i in loop_of)", "stages[i] = 0"),
    "memory taken over while it is read": (scheduling, "user is operation or user.when < operation.when", "True"),
    "memory of another pass taken over": (scheduling, "and not arg.crosses", ""),
    "memory of names taken over": (scheduling, "and not arg.name and", "and"),
    "a round's memory read after it": (scheduling, "or operation.loop < 0 or elsewhere", "or operation.loop < 0"),
    "a cycle is all that it reads": (
        segments,
        "target, on = names[group[0]], {names[i] for i in group}",
        "target, on = names[group[0]], {names[group[0]], *reads[names[group[0]]]}",
    ),
    "segments in another order": (
        segments,
        "key=lambda at: (at[0], at[1] != default, at[1])",
        "key=lambda at: (-at[0], at[1] != default, at[1])",
    ),
    "a segment never ends": (segments, "above + (other != direction or name in complete)", "above"),
    # the code
    "operands change places": (
        emission,
        'for arg in args]\n            return f"{ELEMENTWISE',
        'for arg in args[::-1]]\n            return f"{ELEMENTWISE',
    ),
    "a sum along another axis": (emission, "axis = x.axes.index(operation.over) - len(x.axes)", "axis = -1"),
    "an outer product the other way": (
        emission,
        "{self._view(x, 'rows turned')}, {self._view(args[1], 'rows')}",
        "{self._view(args[1], 'rows turned')}, {self._view(x, 'rows')}",
    ),
    "a mask beside the wrong axis": (
        emission,
        '"1" if axis in operand_axes else "0" for axis in result',
        '"1" if axis in operand_axes else "0" for axis in result[::-1]',
    ),
    "columns from the beginning": (emission, "return array[..., start:stop]", "return array[..., : stop - start]"),
    "not transposed": (emission, '"turned" if kind == "dot-turned" else ""', '""'),
    "rows of another matrix": (
        emission,
        'f"take({self._view(args[1])}, {self._view(x, loop=loop)}, 0,',
        'f"take({self._view(args[1])}, {self._view(x, loop=loop)}[::-1], 0,',
    ),
    "nothing is put back": (
        emission,
        "if guarded and operation.timed and operation.memory.for_all_timesteps and finished:",
        "if False:",
    ),
    "loops begin at the beginning": (emission, "f'[start[{at}]:]' if guarded else ''", "''"),
    "zero and the other with the wrong sign": (
        emission,
        "'negative' if kind == 'sub' and only is args[1] else 'positive'",
        "'negative'",
    ),
    "weights cut from another place": (
        emission,
        'f"flat[{at}:{at + int(np.prod(shape))}]"',
        'f"flat[{at // 2}:{at // 2 + int(np.prod(shape))}]"',
    ),
    # memory and passes
    "the end of a state is its beginning": (batch, "array[-1 if end !=", "array[-1 if not end !="),
    "timesteps are those of a state before": (batch, "array[1:] if half else array[:-1]", "array[:-1]"),
    "loops in one direction": (batch, "[:: phase.directions[loop]]", ""),
    "values of the later batch": (batch, "owner = deltas if view.slot in written else self", "owner = deltas"),
    "one piece of memory for two arrays": (compiled, "accumulate(-(-size", "accumulate(0 * -(-size"),
    "a record is never read": (batch, "return self._counted() != self._references", "return False"),
    "nothing is 0 in an earlier batch": (compiled, "else any(are_zero)", "else False"),
    "the loss of an earlier batch counts": (compiled, "(operation not in fed and operation.name in lines) or", ""),
    "the flow into the end stays": (computing, "for flow in record.flows_in if", "for flow in () if"),
    "earlier batches add nothing": (computing, "record.own_gradients.flat += gain", "pass"),
    "only one earlier batch": (computing, "        flows = flows_out_of(scratch)", "        return"),
    "the flow of the batch goes into all": (computing, "        flows = flows_out_of(scratch)", "        pass"),
    "a place counts one line more": (computing, "at.step + (line < at.done or", "at.step + (line <= at.done or"),
    "a place counts one step less": (
        computing,
        "at.step if segment == at.segment else 0\n",
        "max(at.step - 1, 0) if segment == at.segment else 0\n",
    ),
    "kept from the wrong end": (computing, "part = part[:done] if direction > 0 else part[T - done :]", "part = part[:done]"),
    "the norm squared": (
        computing,
        "math.sqrt(float(gradient.dot(gradient))) if norm is None else norm",
        "float(gradient.dot(gradient))",
    ),
    "the largest weight with its sign": (
        computing,
        "max(float(weights[weights.argmax()]), -float(weights[weights.argmin()]))",
        "float(weights.max())",
    ),
    # the update
    "uphill": (
        update,
        "formula = e.Sum((Name(line.target), e.Negative(formula)))",
        "formula = e.Sum((Name(line.target), formula))",
    ),
    "clipping is for nothing": (update, "gradient = page.lines[-1].target", "pass"),
    "the old mean of the squares": (
        update,
        '"new_" if name in self._written or name in self.vectors else',
        '"new_" if name in self.vectors else',
    ),
    "updates are not counted": (update, "after.updates = before.updates + 1", "after.updates = before.updates"),
    "the count from 0": (update, "self.rule.settings), after.updates)", "self.rule.settings), before.updates)"),
    "executed lines are computed again": (update, "self._run_on(*arguments, keep)", "self._run(*arguments)"),
    "states of a rule lie over each other": (weights, "start + i * at, shape", "start + at, shape"),
}


def plant(monkeypatch: pytest.MonkeyPatch, module: ModuleType, right: str, wrong: str) -> None:
    """Replace the code of a module's functions by their code with one expression changed."""
    source = inspect.getsource(module)
    assert source.count(right) == 1, f"{right!r} must be in {module.__name__} once, to be replaced"
    changed: dict[str, Any] = {**vars(module)}
    exec(compile(source.replace(right, wrong), module.__file__ or "", "exec"), changed)
    for name, old in list(vars(module).items()):
        if getattr(old, "__module__", module.__name__) == module.__name__:
            _replace(monkeypatch, old, changed[name])


def _replace(monkeypatch: pytest.MonkeyPatch, old: Any, new: Any) -> None:
    if isinstance(old, FunctionType):
        monkeypatch.setattr(old, "__code__", new.__code__)
    elif isinstance(old, type):
        for name, member in vars(old).items():
            _replace(monkeypatch, member, vars(new).get(name))
    elif isinstance(old, dict) and old and all(isinstance(value, functions.Function) for value in old.values()):
        for name, row in new.items():
            monkeypatch.setitem(old, name, old[name]._replace(slope=row.slope, formula=row.formula))
    else:
        for attribute in ("fget", "func", "__func__", "__wrapped__"):
            if isinstance(inner := getattr(old, attribute, None), FunctionType):
                _replace(monkeypatch, inner, getattr(new, attribute))


def test_nothing_is_wrong():
    check_all()


@pytest.mark.parametrize("fault", FAULTS)
def test_caught(monkeypatch, fault):
    module, right, wrong = FAULTS[fault]
    plant(monkeypatch, module, right, wrong)
    first, second = (check_passes, check_values) if module in (batch, compiled, computing) else (check_values, check_passes)
    with pytest.raises(FAILURES):
        _check((first, second))


# Faults in the equations. The reference reads the same files, so these are compared with PyTorch's own layers.

EQUATIONS: dict[str, tuple[str, str, str, str]] = {
    "z and r swapped": ("cell", "gru", "z ⊙ h_prev", "r ⊙ h_prev"),
    "z keeps the new state": ("cell", "gru", "1 − z", "z + 0"),
    "reset after the product": ("cell", "gru", "(hUh: (rh: r ⊙ h_prev) Uh)", "(hUh: r ⊙ (rh: h_prev Uh))"),
    "σ for tanh": ("cell", "gru", "tanh(ah", "σ(ah"),
    "a bias forgotten": ("cell", "gru", "+ br)", "+ br − br)"),
    "z takes the old": (
        "cell",
        "gru-cho",
        "(one_minus_z: 1 − z) ⊙ h_prev + (new: z ⊙",
        "(new: z ⊙ h_prev) + ((one_minus_z: 1 − z) ⊙",
    ),
    "the old state into the candidate whole": ("cell", "mgu", "f ⊙ h_prev) Uh", "h_prev ⊙ h_prev) Uh"),
    "reset before the product": ("cell", "gru-reset-after", "(rh: r ⊙ (m: h_prev Uh + bhn))", "(rh: (m: (r ⊙ h_prev) Uh) + bhn)"),
    "the new bias outside of the gate": (
        "cell",
        "gru-reset-after",
        "x Wh + bh + (rh: r ⊙ (m: h_prev Uh + bhn))",
        "x Wh + bh + bhn + (rh: r ⊙ (m: h_prev Uh))",
    ),
    "forget and input swapped": ("cell", "lstm", "f ⊙ c_prev + (new: i ⊙ g)", "i ⊙ c_prev + (new: f ⊙ g)"),
    "the cell shown without tanh": ("cell", "lstm", "(tanh_c: tanh(c))", "(tanh_c: 1 ⊙ c)"),
    "σ for tanh in an RNN": ("cell", "rnn", "tanh(", "σ("),
    "the input read twice": ("head", "linear", "h Wy + by", "h Wy + by + by"),
    "a loss that is summed over the rows": ("loss", "cross-entropy", "−mean term2 over the rows", "−Σ term2 over the rows"),
    "a loss with the other sign": ("loss", "cross-entropy", "−mean term2", "mean term2"),
    "a squared error that is halved": ("loss", "squared-error", "e ⊙ e", "0.5 ⊙ e ⊙ e"),
    "uphill": ("update", "sgd", "W −= η ⊙ dW", "W −= −η ⊙ dW"),
    "momentum of the mean": ("update", "momentum", "μ ⊙ m + dW", "μ ⊙ m + (1 − μ) ⊙ dW"),
    "Adam without its correction": ("update", "adam", "v / (1 − β2^n)", "v"),
    "ε under the root": ("update", "adam", "(sqrt(v_hat) + ε)", "sqrt(v_hat + ε)"),
    "clipping makes longer": ("update", "clip", "min(1, limit", "max(1, limit"),
}


@pytest.mark.parametrize("fault", EQUATIONS)
def test_a_fault_in_the_equations_is_caught(monkeypatch, fault):
    kind, name, right, wrong = EQUATIONS[fault]
    text = text_of(kind, name)
    assert text.count(right) == 1
    _hold_as_it_is(kind, name)
    faulty = read_page(text.replace(right, wrong), f"{name}.{kind}")
    monkeypatch.setattr(model, "shipped", lambda k, n: faulty if (k, n) == (kind, name) else shipped(k, n))
    with pytest.raises(AssertionError):
        _hold_to_pytorch(kind, name)


@cache
def _hold_as_it_is(kind: str, name: str) -> None:
    """Compare a piece without a fault, once for all of its faults."""
    _hold_to_pytorch(kind, name)


def _hold_to_pytorch(kind: str, name: str) -> None:
    """Compare a piece with PyTorch: a cell with its layer or a cell by hand, a loss and an update with theirs."""
    if kind == "update":
        _hold_update(name)
        return
    cell = name if kind == "cell" else "rnn"
    loss = name if kind == "loss" else "cross-entropy"
    own = {"gru": gru, "gru-cho": gru_cho, "mgu": mgu}.get(cell)
    record = learned(fresh(Structure(cell=cell, input="dense", loss=loss)), scale=0.7)
    x, y = torch.tensor(record.array("x")), torch.tensor(record.array("y"))
    states = [torch.tensor(record.border(state, end=False)) for state in record.compiled.states]
    if own is not None:
        p = {name: torch.tensor(value) for name, value in record.before.items()}
        outputs = []
        for step in x:
            states[0] = own(step, states[0], p)
            outputs.append(states[0])
        out = torch.stack(outputs)
    else:
        start = tuple(state[None] for state in states)
        out, _ = layer_of(record)(x, start if len(start) > 1 else start[0])
    closely(record.array("h"), out)
    logits = out @ torch.tensor(record.before["Wy"]) + torch.tensor(record.before["by"])
    if loss == "cross-entropy":
        value = torch.nn.functional.cross_entropy(logits.flatten(0, 1), y.flatten(0, 1).argmax(-1))
    else:
        value = torch.nn.functional.mse_loss(logits, y)
    assert record.loss == pytest.approx(value.item())


def _hold_update(name: str) -> None:
    update_name, clip = ("sgd", True) if name == "clip" else (name, False)
    _check_update(filled(fresh(Structure(cell="rnn", update=update_name, clip=clip)), scale=2))


def _check(checks: tuple[Callable[[], None], ...]) -> None:
    with np.errstate(all="ignore"):
        for check in checks:
            check()


def test_planting_alone_changes_nothing(monkeypatch):
    for module in {id(module): module for module, _, _ in FAULTS.values()}.values():
        plant(monkeypatch, module, "from __future__ import annotations", "from __future__ import annotations\n")
    check_all()
