"""The derivations that a page computes from recorded arrays: the same words and digits as those of the debugger."""

import json
import random
import shutil
import subprocess

import numpy as np
import pytest

from tui_gru import Session
from tui_gru.debugger.program import Store
from tui_gru.debugger.rules import NoRuleError
from tui_gru.tui.derivations import DerivedNumbers, ExplainedNumbers
from tui_gru.tui.draw import Ref
from tui_gru.tui.player import SCRIPT, Walk

COMPUTED = """
const {derivations, unpackedNumbers} = require(process.argv[1]);
const [data, packed, places] = JSON.parse(require('fs').readFileSync(0, 'utf8'));
const derived = derivations(data, unpackedNumbers(Uint8Array.from(Buffer.from(packed, 'hex')), data.itemsize));
console.log(JSON.stringify(places.map(([ref, moment]) => derived.shown(derived.atMoment(ref, moment)))));
"""


def computed(data, packed, places):
    """Return what a page shows of numbers, each a reference and a moment: see `ExplainedNumbers.data`."""
    given = json.dumps([data, packed.hex(), places])
    done = subprocess.run(["node", "-e", COMPUTED, str(SCRIPT)], input=given, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def explained(session, ticks, ref, at):
    """Return what the debugger shows of a number, in the same form."""
    numbers = ExplainedNumbers(session.state.timeline, ticks)
    number = numbers.number_of(ref, at)
    all_of = numbers.data()
    name, value, line, place, moment, made, rows = all_of[number]
    written = []
    for depth, sign, label, digits, share, how, _, own in rows:
        known = all_of[own] if own is not None else [label, digits, "", "", None, how]
        written.append([depth, sign, label or known[0], digits or known[1], share, known[5] if own is not None else how])
    return [name, value, line, place, moment, made, written]


def sampled(session, ticks, count, seed):
    """Yield random numbers of the walk, of every kind: references and moments."""
    draw, program, timeline = random.Random(seed), session.program, session.state.timeline
    names = [name for name, named in program.names.items() if named.kind.store is not Store.NOTHING]
    while count:
        name, moment = draw.choice(names), draw.randrange(len(ticks))
        t = draw.randrange(program.seq_length) if program.names[name].timed else None
        value = timeline.moment(ticks[moment]).value(name, t)
        if value is not None:  # it is computed already
            count -= 1
            yield Ref(name, tuple(draw.randrange(n) for n in np.shape(value)), t), moment


def check(session, count):
    """Compare the derivations of numbers of the whole walk with those of the debugger."""
    ticks, timeline = Walk.to_here(session, "line").ticks, session.state.timeline
    derived = DerivedNumbers(timeline, ticks)
    sample = list(sampled(session, ticks, count, seed=0))
    places = [(derived.number_of(ref, timeline.position(ticks[moment])), moment) for ref, moment in sample]
    shown = computed(derived.data(), derived.packed(), places)
    for (ref, moment), (*head, rows) in zip(sample, shown, strict=True):
        assert [*head, [row[:6] for row in rows]] == explained(session, ticks, ref, timeline.position(ticks[moment]))


needs_node = pytest.mark.skipif(shutil.which("node") is None, reason="node is not installed")
OWN = """
reads x
state h : H
parameters Wa Ua ba Wb Ub

a = relu(x Wa + h_prev Ua + ba) ⊙ sigmoid(x Wb + h_prev Ub)
g = gelu(a) + softplus(x Wb)
h = tanh(g)^2 / (1 + sqrt(mean a^2 over units + 0.1)) + max(0, h_prev) ⊙ clamp(x Wb)
"""
TEXT = "the cat sat on the mat and the dog ran to the cat; " * 4


@needs_node
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"cell": "lstm", "optimizer": "adam", "clip": 0.5},
        {"bidirectional": True, "layers": 2, "dtype": "float64"},
        {"cell": "gru-reset-after", "embedding": 3, "optimizer": "momentum", "carry": "reset"},
        {"text": TEXT, "hidden_size": 16, "batch_size": 3, "seq_length": 5},
        {"cell": OWN},
        {"learning_rate": 300.0},  # ŷ becomes 0
    ],
    ids=["tutorial", "lstm", "two directions", "embedding", "own text", "own cell", "diverged"],
)
def test_a_number_has_the_words_and_digits_that_the_debugger_shows(options, tmp_path):
    if options.get("cell") == OWN:
        (tmp_path / "own.cell").write_text(OWN, "utf-8")
        options = {"cell": str(tmp_path / "own.cell")}
    session = Session(**options)
    session.learning = True
    session.step("batch", 2)
    session.step("line", session.program.ticks // 2)
    check(session, 100)


@needs_node
def test_a_number_of_another_batch_leads_to_its_terms():
    session = Session()
    session.learning = True
    session.step("batch", 2)
    derived = DerivedNumbers(session.state.timeline, ticks := Walk.to_here(session, "timestep").ticks)
    end = session.state.timeline.position(ticks[-1])
    number = derived.number_of(Ref("Wz", (0, 0)), end), len(ticks) - 1
    ((name, _, line, place, moment, _, rows),) = computed(derived.data(), derived.packed(), [number])
    assert (name, line, place) == ("Wz[“h”, unit 1]", "Wz −= η⊙dWz", "epoch 1 · batch 2 · t 3 · update")
    assert moment == len(ticks) - 1
    assert [row[2] for row in rows] == ["prev(Wz[“h”, unit 1])", "η⊙dWz", "η", "dWz[“h”, unit 1]"]
    assert [row[7] is not None for row in rows] == [True, False, True, True]


def test_numbers_that_do_not_follow_from_the_lines_alone_are_derived_when_the_page_is_made():
    edited = Session()
    edited.step("line", 10)  # just after z
    edited.edit("z", (0, 0), 0.5)
    for session in (edited, Session(carry="notebook")):
        session.step("line", 3)
        ticks = Walk.to_here(session, "line").ticks
        with pytest.raises(NoRuleError):
            DerivedNumbers(session.state.timeline, ticks)
        assert isinstance(Walk.to_here(session, "line").derivations(10**6), ExplainedNumbers)


def test_batches_that_there_is_no_room_for_are_counted():
    session = Session()
    session.step("batch", 3)
    walk = Walk.to_here(session, "timestep")
    derived = walk.derivations(700)
    at = [session.state.timeline.position(tick) for tick in walk.ticks]
    assert derived.number_of(Ref("h", (0, 0)), at[1]) is not None
    assert derived.number_of(Ref("h", (0, 0)), at[-1]) is None
    assert derived.refused == 1
    assert derived.number_of(Ref("dWz", (0, 0)), at[1]) is None  # it is not computed
    assert derived.refused == 1
