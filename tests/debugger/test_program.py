"""The table of lines says what the engine does: each formula, taken at its word with plain NumPy, gives what was recorded."""

import numpy as np
import pytest
from tui_gru.debugger.formula import Apply, Difference, Name, Number, Product, Quotient, Reduce, Sum, Times, Transpose
from tui_gru.engine.parameters import Parameters
from tui_gru.engine.record import BACKWARD_NAMES, FORWARD_NAMES, PART_NAMES

from tests.debugger.oracle import lines
from tui_gru.debugger.moment import readable_names
from tui_gru.debugger.position import position_of, tick_of
from tui_gru.debugger.program import program_of
from tui_gru.engine.config import Config
from tui_gru.engine.corpus import Corpus
from tui_gru.engine.errors import TuiGruError
from tui_gru.engine.trainer import Trainer

FUNCTIONS = {
    "sigmoid": lambda x: 1 / (1 + np.exp(-x)),
    "tanh": np.tanh,
    "softmax": lambda x: np.exp(x) / np.exp(x).sum(-1, keepdims=True),
    "log": np.log,
}
AXES = {"the vocabulary": -1, "the rows": 0, "the timesteps": 0}
SIZES = [{}, {"hidden_size": 3, "batch_size": 1, "seq_length": 4}, {"hidden_size": 1, "batch_size": 3, "seq_length": 1}]
CONFIGS = [
    Config.of(**sizes, reset=reset, carry=carry, dtype="float64", learning_rate=0.3)
    for sizes in SIZES
    for reset in ("before", "after")
    for carry in ("detach", "notebook")
]


def evaluated(node, value, sizes):
    """A formula with the values that `value` gives for its names."""
    match node:
        case Name(name):
            return value(name)
        case Number(text):
            return sizes[text]
        case Product(left, right):
            return evaluated(left, value, sizes) @ evaluated(right, value, sizes)
        case Times(left, right):
            return evaluated(left, value, sizes) * evaluated(right, value, sizes)
        case Quotient(left, right):
            return evaluated(left, value, sizes) / evaluated(right, value, sizes)
        case Difference(left, right):
            return evaluated(left, value, sizes) - evaluated(right, value, sizes)
        case Sum(parts):
            return sum(evaluated(part, value, sizes) for part in parts)
        case Apply(function, argument):
            return FUNCTIONS[function](evaluated(argument, value, sizes))
        case Reduce(kind, argument, over, sign):
            return sign * getattr(np, kind)(evaluated(argument, value, sizes), axis=AXES[over])
        case Transpose(argument):
            return evaluated(argument, value, sizes).T
        case _:
            raise AssertionError(f"{node!r} has no meaning here")


@pytest.fixture(params=[(config, seed) for config in CONFIGS for seed in range(3)], ids=str)
def run(request):
    """A config, its program, and the record of a first batch from random parameters and a random state."""
    config, seed = request.param
    rng = np.random.default_rng(seed)
    size = Parameters.zeros(config).flat.size
    parameters = Parameters(rng.normal(size=size), config.vocab_size, config.hidden_size, config.reset)
    trainer = Trainer(config, Corpus(config))
    record = trainer.new_record()
    state = rng.normal(size=(config.batch_size, config.hidden_size))
    trainer.run(record, 1, parameters, state, learn=True, learning_rate=config.learning_rate)
    return config, program_of(config), record


def reader(config, record, t):
    def value(name):
        if name in record.parameters.names:
            return record.parameters[name]
        if name.startswith("d") and name[1:] in record.parameters.names:
            return record.gradients[name[1:]]
        if name == "learning_rate":
            return record.learning_rate
        return record.array(name) if t is None else record.array(name)[t]

    sizes = {"1": 1, "(B·T)": config.batch_size * config.seq_length}
    return lambda formula: evaluated(formula, value, sizes)


def test_every_forward_line_computes_what_was_recorded(run):
    config, program, record = run
    for line in program.forward:
        for t in range(config.seq_length):
            got = reader(config, record, t)(line.formula)
            np.testing.assert_allclose(got, record.array(line.target)[t], rtol=1e-11, atol=1e-14, err_msg=line.text)
    np.testing.assert_allclose(reader(config, record, None)(program.loss.formula), record.loss, rtol=1e-12)


def test_every_backward_line_computes_what_was_recorded(run):
    config, program, record = run
    for line in program.backward:
        each = [reader(config, record, t)(line.formula) for t in range(config.seq_length)]
        if line.op == "=":
            got, expected = np.stack(each), record.array(line.target)
        else:
            got, expected = sum(each), record.gradients[line.target[1:]]
        np.testing.assert_allclose(got, expected, rtol=1e-10, atol=1e-13, err_msg=line.text)


def test_every_part_of_a_line_computes_what_was_recorded_under_its_name(run):
    config, program, record = run
    for part, name in program.parts.items():
        for t in range(config.seq_length):
            got = reader(config, record, t)(part)
            np.testing.assert_allclose(got, record.array(name)[t], rtol=1e-9, atol=1e-13, err_msg=f"{name} = {part.text}")
        assert part in set(program.lines[program.written_with[name]].formula.walk())


def test_the_parts_are_all_that_is_recorded_and_has_no_line_of_its_own(run):
    config, program, _ = run
    named = {*readable_names(config.reset), *PART_NAMES} - {"x", "y", "h_prev", "dh_future"}
    parts = {name for name in named if name in BACKWARD_NAMES or name in FORWARD_NAMES or name in PART_NAMES} - set(program.lines)
    assert parts - set(program.parts.values()) <= ({"hUz", "hUr"} if config.reset == "after" else set())
    assert set(program.written_with) == {*program.parts.values(), "dh_future"}
    assert set(program.factors.values()) == {"one_minus_z", "rh" if config.reset == "before" else "hUh"}


def test_what_comes_from_the_future_is_what_the_timestep_after_hands_back(run):
    _, _, record = run
    deltas = record.deltas
    np.testing.assert_array_equal(deltas.dh_future[:-1], deltas.dh_prev[1:])
    assert not deltas.dh_future[-1].any()


def test_every_update_line_computes_what_was_recorded(run):
    config, program, record = run
    for line in program.update:
        got = record.parameters[line.target] - reader(config, record, None)(line.formula)
        np.testing.assert_allclose(got, record.updated[line.target], rtol=1e-12, atol=1e-15, err_msg=line.text)


@pytest.mark.parametrize("config", CONFIGS, ids=str)
def test_a_batch_executes_its_lines_in_order(config):
    program = program_of(config)
    listed = [(line.phase, line.target, t) for line, t in map(program.line_at, range(1, program.ticks + 1))]
    assert listed == lines(config)
    for k, (_, name, t) in enumerate(listed, 1):
        assert program.tick_of(name, t) == k
    assert program.tick_of("nothing") is None


@pytest.mark.parametrize("config", CONFIGS, ids=str)
def test_lines_read_only_what_has_a_name(config):
    program = program_of(config)
    for row in program.rows:
        if row.line is not None:
            assert {*row.line.reads, row.line.target} - {"earlier"} <= set(readable_names(config.reset))
            assert row.text == row.line.text


def test_the_listing_of_the_tutorial():
    listing = [f"{'  ' * row.indent}{row.text}" for row in program_of(Config.of()).rows]
    assert listing[:19] == [
        "for epoch in 1, 2, …:",
        "  h = 0",
        "  for batch in 1…3:",
        "    for t in 1…3:",
        "      z = σ(x Wz + hₜ₋₁ Uz + bz)",
        "      r = σ(x Wr + hₜ₋₁ Ur + br)",
        "      h̃ = tanh(x Wh + (r⊙hₜ₋₁) Uh + bh)",
        "      h = z⊙hₜ₋₁ + (1 − z)⊙h̃",
        "      o = h Wy + by",
        "      ŷ = softmax(o)",
        "      ① = y⊙log ŷ",
        "      ② = Σ ① over the vocabulary",
        "      ③ = −mean ② over the rows",
        "    loss = mean ③ over the timesteps",
        "    for t in 3…1:",
        "      do = (ŷ − y)/(B·T)",
        "      dh = do Wyᵀ + dh←",
        "      dz = dh⊙(hₜ₋₁ − h̃)",
        "      daz = dz⊙z⊙(1 − z)",
    ]
    assert listing[-1] == "    by −= η⊙dby"


@pytest.mark.parametrize(("carry", "indent"), [("reset", 2), ("detach", 1)])
def test_the_state_is_cleared_where_the_carry_says(carry, indent):
    rows = program_of(Config.of(carry=carry)).rows
    assert [row.indent for row in rows if row.text == "h = 0"] == [indent]


def test_positions_and_ticks_are_the_same():
    config = Config.of(carry="notebook")
    program = program_of(config)
    order = lines(config)
    positions = [position_of(program, tick) for tick in range(2 * config.num_batches * program.ticks)]
    assert positions == sorted(positions)
    assert len(set(positions)) == len(positions)
    assert positions[0].phase == "start"
    assert positions[0].line is None
    for tick, position in enumerate(positions[1:], 1):
        number, k = divmod(tick - 1, program.ticks)
        assert (position.epoch, position.batch) == divmod(number, config.num_batches)
        assert (position.phase, position.line.target, position.t) == order[k]
        assert (position.offset, position.number) == (k + 1, number)
        assert tick_of(position, positions[0], program) == tick


@pytest.mark.parametrize(
    ("place", "tick"),
    [
        ("e1 b1 t1", 9), ("e1b1t3", 27), (" E2  B3 t2 ", 5 * 102 + 18), ("e2", 306), ("e2 t2", 306 + 18), ("b2", 306 + 102),
        ("t1", 306 + 204 + 9), (0, 0), (-3, 0), (np.int64(7), 7), (10**20, 10**20),
    ],
)  # fmt: skip
def test_naming_a_place(place, tick):
    program = program_of(Config.of())
    here = position_of(program, 306 + 204 + 5)  # epoch 2, batch 3
    assert tick_of(place, here, program) == tick


@pytest.mark.parametrize(
    "place", ["", "  ", "x1", "e0", "e1 b4", "b0", "t4", "t1 b1", "e-1", "e1.5", 1.5, None, True, "e1 b1 t1 x"]
)
def test_a_place_that_there_is_not(place):
    program = program_of(Config.of())
    with pytest.raises(TuiGruError):
        tick_of(place, position_of(program, 0), program)
