"""The table of lines: each formula, evaluated with plain NumPy, gives the recorded value."""

import numpy as np
import pytest

from tests.debugger.models import MODELS
from tests.debugger.oracle import Names
from tests.debugger.plain import Plain, evaluated, executed
from tui_gru import Session
from tui_gru.debugger.position import FAR, position_of, tick_of
from tui_gru.debugger.program import Store, ValueKind, program_of
from tui_gru.engine.config import Config
from tui_gru.engine.data import Corpus
from tui_gru.engine.model import GRADIENTS, UPDATES
from tui_gru.engine.training import Trainer
from tui_gru.engine.weights import Weights
from tui_gru.errors import TuiGruError

every_model = pytest.mark.parametrize("config", [Config.of(**model) for model in MODELS.values()], ids=tuple(MODELS))


def random_batch(config, seed):
    """Return the record of a second batch, from random weights and a random state: none is zero, no matrix is symmetric."""
    rng, trainer, layout = np.random.default_rng(seed), Trainer(config, Corpus(config)), config.compiled.layout
    weights = Weights(layout, rng.normal(size=layout.size).astype(config.dtype), updates=3)
    for name in layout.state_names:
        weights[name][...] = np.abs(weights[name])  # v is a mean of squares
    record = trainer.new_record()
    state = rng.normal(size=trainer.initial_state().size)
    trainer.run(
        record, min(1, config.num_batches - 1), weights, state, learn=True, settings={**config.settings, "learning_rate": 0.3}
    )
    return record


@pytest.fixture(params=[(name, seed) for name in MODELS for seed in range(2)], ids=lambda each: f"{each[0]}-{each[1]}")
def run(request):
    """Return a config in float64, its program, the record of a batch, and the value of every name in it."""
    name, seed = request.param
    config = Config.of(**{**MODELS[name], "dtype": "float64"})
    record = random_batch(config, seed)
    return config, program_of(config), record, Plain(config, record)


def close(got, expected, text):
    np.testing.assert_allclose(got, expected, rtol=1e-9, atol=1e-12, err_msg=text)


def worked_out(line, plain, t):
    return evaluated(line.formula, lambda name: plain.read(name, t), plain.sizes)


def test_every_line_of_a_timestep_computes_what_was_recorded(run):
    config, program, record, plain = run
    for line in program.lines.values():
        for t in range(config.seq_length) if line.phase in ("forward", "backward") and line.op == "=" else ():
            close(worked_out(line, plain, t), record.array(line.target)[t], line.text)


def test_the_loss_and_every_gradient_are_what_their_lines_add_up_to(run):
    config, program, record, plain = run
    close(worked_out(program.lines["loss"], plain, None), record.loss, "loss")
    for name in program.parameters:
        line = program.lines[f"d{name}"]
        assert line.op == "+="
        close(sum(worked_out(line, plain, t) for t in range(config.seq_length)), record.gradients[name], line.text)


def test_every_line_of_the_update_computes_what_was_recorded(run):
    _, program, record, plain = run
    for name in record.before.layout.places:  # when the line is executed: before its result, after its operands
        plain.memory[name] = record.before[name]
    for line in program.update:
        got = worked_out(line, plain, None)
        got = plain.memory[line.target] - got if line.op == "-=" else got
        places = record.after.layout.places
        expected = record.after[line.target] if line.target in places else plain.memory[line.target]
        close(got, expected, line.text)
        plain.memory[line.target] = expected


def test_every_part_of_a_line_computes_what_was_recorded_under_its_name(run):
    config, program, record, plain = run
    for name, part in program.parts.items():
        for t in range(config.seq_length):
            close(evaluated(part, lambda n, t=t: plain.read(n, t), plain.sizes), record.array(name)[t], name)
        line = program.lines[program.written_with[name]]
        assert part in set(line.formula.walk())
        assert program.tick_of(name, 0) == program.tick_of(line.target, 0)


def test_a_whole_batch_can_be_computed_from_the_table_alone(run):
    config, program, record, plain = run
    page, T = program.model.page, config.seq_length
    from_outside = {*page.inputs, *plain.before.layout.places}
    begins = {page.before(state): 0 if program.direction_of(state) > 0 else T - 1 for state in page.states}
    begins |= {page.received(state): T - 1 - begins[page.before(state)] for state in page.states}
    for name, value in plain.memory.items():
        if name in begins:
            value[[t for t in range(T) if t != begins[name]]] = np.nan
        elif name not in from_outside:
            value[...] = np.nan
    plain.run()
    for name in (*program.values, *program.deltas):
        close(plain.memory[name], record.array(name), name)
    close(plain.memory["loss"], record.loss, "loss")
    for name in record.after.layout.places:
        close(plain.memory[name], record.after[name], name)


@every_model
def test_what_comes_from_another_timestep_is_what_that_hands_back(config):
    record, page = random_batch(config, 0), config.model.page
    for state in page.states:
        ahead, handed, h, before = (
            record.array(n) for n in (page.received(state), f"d{page.before(state)}", state, page.before(state))
        )
        if page.states[state].backwards:
            ahead, handed, h, before = ahead[::-1], handed[::-1], h[::-1], before[::-1]
        np.testing.assert_array_equal(ahead[:-1], handed[1:])
        np.testing.assert_array_equal(before[1:], h[:-1])
        assert not ahead[-1].any()


@every_model
def test_every_name_of_the_equations_can_be_read_and_no_other(config):
    program, names = program_of(config), Names(config)
    assert set(program.readable) == names.all
    assert len(set(program.readable)) == len(program.readable)
    for name, named in program.names.items():
        assert named.timed == (name in names.timed), name


@every_model
def test_the_shape_of_every_name_is_that_of_its_value(config):
    session = Session.on(config)
    session.learning = True
    session.step("batch")
    shapes = {name: np.shape(session.value(name)) for name in session.program.readable}
    assert shapes == session.program.shapes


@every_model
def test_a_batch_executes_its_lines_in_order(config):
    program = program_of(config)
    listed = [(line.phase, line.target, t) for line, t in map(program.line_at, range(1, program.ticks + 1))]
    assert listed == [(line.phase, line.name, line.t) for line in executed(config)]
    for k, (_, name, t) in enumerate(listed, 1):
        assert program.tick_of(name, t) == k
    assert program.tick_of("nothing") is None


@every_model
def test_no_line_reads_what_has_not_been_computed(config):
    program, page = program_of(config), config.model.page
    way = {state: -1 if page.states[state].backwards else 1 for state in page.states}
    computed_by = {page.before(state): (state, way[state]) for state in page.states}
    computed_by |= {page.received(state): (f"d{page.before(state)}", -way[state]) for state in page.states}
    T = config.seq_length
    done = {(name, t) for name in page.inputs for t in range(T)} | {(name, T - 1) for name in (*program.parameters, *program.names)}
    done -= {
        (line.target, T - 1)
        for line in program.lines.values()
        if line.op != "-=" and line.target not in config.compiled.layout.places
    }
    done -= {(name, T - 1) for name in program.parts}
    for k in range(1, program.ticks + 1):
        line, t = program.line_at(k)
        for name in line.reads:
            source, step = computed_by.get(name, (name, 0))
            if step and not 0 <= t - step < T:
                continue  # the batch began with it
            once = source in program.names and not program.names[source].timed
            if source in program.names and name not in config.settings:
                every = range(T) if program.names[source].timed and line.phase == "loss" else [T - 1 if once else t - step]
                assert {(source, each) for each in every} <= done, (line.text, name, t)
        done |= {(name, t) for name in (line.target, *(n for n, home in program.written_with.items() if home == line.target))}


@every_model
def test_lines_read_only_what_has_a_name(config):
    program = program_of(config)
    others = {"earlier", *config.settings, GRADIENTS, UPDATES}
    for row in program.rows:
        if row.line is not None:
            assert {*row.line.reads, row.line.target} - others <= set(program.readable)
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


def test_the_listing_of_two_directions_has_a_loop_for_each():
    program = program_of(Config.of(bidirectional=True))
    headings = [row.text for row in program.rows if row.line is None and not row.text.startswith("#")]
    forwards, backwards = "for t in 1…3:", "for t in 3…1:"
    assert headings[:2] == ["for epoch in 1, 2, …:", "h_l0 = h_l0_reverse = 0"]
    assert headings[3:] == [forwards, backwards, forwards, backwards, forwards]
    layers = [row.text for row in program.rows if row.text.startswith("#")]
    assert layers[:4] == ["# forwards →: …_l0", "# backwards ←: …_l0_reverse", "# both directions", "# head and loss"]
    assert [block.phase for block in program.blocks] == [*["forward"] * 3, "loss", "backward", "backward", "update"]
    first = [block.lines[0].text for block in program.blocks]
    assert first[1].startswith("z_l0_reverse = σ(x Wz_l0_reverse + hₜ₊₁_l0_reverse Uz_l0_reverse")
    assert first[2] == "out_l0 = [h_l0, h_l0_reverse]"
    assert first[5].endswith("+ dh→_l0_reverse")


def test_the_listing_of_an_update_by_adam():
    program = program_of(Config.of(optimizer="adam", clip=1.0))
    assert [line.text for line in program.update[:7]] == [
        "‖∇‖ = sqrt(Σ (dW⊙dW) over the parameters)",
        "clip = min(1, limit/(‖∇‖ + 1e-6))",
        "g_Wz = clip⊙dWz",
        "m_Wz = β1⊙m_Wz + (1 − β1)⊙g_Wz",
        "v_Wz = β2⊙v_Wz + (1 − β2)⊙g_Wz⊙g_Wz",
        "m̂_Wz = m_Wz/(1 − β1^n)",
        "v̂_Wz = v_Wz/(1 − β2^n)",
    ]
    assert program.update[7].text == "Wz −= η⊙m̂_Wz/(sqrt(v̂_Wz) + ε)"


def test_the_update_of_a_layer_is_written_as_that_of_a_model_of_one_layer():
    text = "the cat sat on the mat"
    lines = [line.text for line in program_of(Config.of(text=text, layers=2, batch_size=1)).update]
    assert "m̂_Wz_l0 = m_Wz_l0/(1 − β1^n)" in lines
    assert "Wz_l0 −= η⊙m̂_Wz_l0/(sqrt(v̂_Wz_l0) + ε)" in lines


@pytest.mark.parametrize(("carry", "indent"), [("reset", 2), ("detach", 1)])
def test_the_state_is_cleared_where_the_carry_says(carry, indent):
    rows = program_of(Config.of(carry=carry)).rows
    assert [row.indent for row in rows if row.text == "h = 0"] == [indent]


@every_model
def test_positions_and_ticks_are_the_same(config):
    program = program_of(config)
    order = [(line.phase, line.name, line.t) for line in executed(config)]
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
        ("t1", 306 + 204 + 9), (0, 0), (-3, 0), (np.int64(7), 7), (FAR, FAR),
    ],
)  # fmt: skip
def test_naming_a_place(place, tick):
    program = program_of(Config.of())
    here = position_of(program, 306 + 204 + 5)  # epoch 2, batch 3
    assert tick_of(place, here, program) == tick


NOWHERE = ["", "  ", "x1", "e0", "e1 b4", "b0", "t4", "t1 b1", "e-1", "e1.5", 1.5, None, True, "e1 b1 t1 x"]
TOO_FAR = [10**20, FAR + 1, f"e{FAR}"]


@pytest.mark.parametrize("place", [*NOWHERE, *TOO_FAR])
def test_a_place_that_there_is_not(place):
    program = program_of(Config.of())
    with pytest.raises(TuiGruError):
        tick_of(place, position_of(program, 0), program)


@pytest.mark.parametrize("cell", ["gru", "lstm"])
def test_the_row_of_a_kind_says_where_its_numbers_are(cell):
    """At the end of a batch, what a record holds by a name's row is what the session shows, for every kind of name."""
    session = Session(cell=cell, optimizer="adam", clip=1.0)
    session.learning = True
    session.step("batch", 2)
    program, record = session.program, session.snapshot().record
    kinds = {named.kind for named in program.names.values()}
    assert kinds == set(ValueKind)
    for name, named in program.names.items():
        if named.kind.store in (Store.SETTINGS, Store.NOTHING):
            assert not named.kind.editable
            continue
        t = 1 if named.timed else None
        np.testing.assert_array_equal(named.complete(record, t), np.asarray(session.value(name, t=t)), err_msg=name)
        assert not (named.timed and named.kind.per_batch)
        if named.kind.store is not Store.NUMBERS:
            assert np.shares_memory(named.array(record), record.after.flat) == named.kind.is_weight
            assert np.shares_memory(named.array(record, after=False), record.before.flat) == named.kind.is_weight
    session.learning = False
    session.step("batch")
    missing = {named.kind for name, named in program.names.items() if named.kind.learned and session.value(name) is not None}
    assert missing == set()


def test_a_name_of_the_update_knows_its_parameter():
    names = Session(optimizer="adam").program.names
    assert {(names[name].of, names[name].vector) for name in ("m_Wz", "v_hat_by")} == {("Wz", "m"), ("by", "v_hat")}
    assert names["dUh"].of == "Uh"
    assert names["Wz"].of == names["dz"].of == ""
