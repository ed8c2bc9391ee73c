"""Sessions on a GRU from a file: the computed numbers, and every command of the debugger."""

import sys
from contextlib import suppress

import numpy as np
import onnx
import pytest
import torch
from safetensors.torch import save_file
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

import tui_gru
from tests.debugger.deriving import combined
from tests.extent import examples
from tests.files.onnx_models import gru_model
from tests.rounding import of_session
from tui_gru import TuiGruError

T, B, INPUTS, H = 6, 3, 3, 4


@pytest.fixture
def encoder(tmp_path):
    """A file with a bidirectional stack, the module in it, an input and a first state."""
    torch.manual_seed(3)
    gru = torch.nn.GRU(INPUTS, H, 2, bidirectional=True)
    torch.save({"encoder." + name: tensor for name, tensor in gru.state_dict().items()}, tmp_path / "model.pt")
    return tmp_path / "model.pt", gru, torch.randn(T, B, INPUTS), torch.randn(4, B, H)


def outputs(session, name="out_l1"):
    session.seek(session.end)
    return np.stack([session.value(name, t=t) for t in range(session.config.seq_length)])


def assert_same(session, ours, theirs):
    theirs = theirs.detach().numpy() if isinstance(theirs, torch.Tensor) else theirs
    assert np.abs(ours - theirs).max() <= of_session(session) * np.abs(theirs).max()


@pytest.mark.parametrize("bidirectional", [False, True])
def test_the_work_of_opening_grows_in_proportion_to_the_layers(tmp_path, bidirectional):
    """Counted in executed lines of the project: a weight file may have hundreds of layers."""

    def lines(layers):
        executed, path = 0, tmp_path / f"{layers}.pt"
        torch.save(torch.nn.GRU(INPUTS, H, layers, bidirectional=bidirectional).state_dict(), path)

        def trace(frame, event, argument):
            nonlocal executed
            if "tui_gru" not in frame.f_code.co_filename:
                return None
            executed += 1
            return trace

        before = sys.gettrace()
        sys.settrace(trace)
        try:
            tui_gru.load(path)
        finally:
            sys.settrace(before)
        return executed

    lines(1)  # imports, and what is computed once
    few, more, many = map(lines, (6, 12, 24))
    assert many - more < 2.1 * (more - few)


def test_a_stack_in_both_directions_computes_what_torch_does(encoder):
    path, gru, x, h0 = encoder
    s = tui_gru.load(path, "encoder", inputs=x, h0=h0)
    y, hn = gru(x, h0)
    assert_same(s, outputs(s), y)
    assert s.value("h_l0_reverse", t=3).shape == (B, H)
    assert_same(s, s.value("h_l1_reverse", t=0), hn[3])
    assert np.array_equal(s.value("h_prev_l0", t=0), h0[0].numpy())
    assert np.array_equal(s.value("x", t=2), x[2].numpy())
    assert (s.config.dtype, s.loss) == ("float32", None)


def test_rows_of_different_lengths(encoder):
    path, gru, x, h0 = encoder
    lengths = [4, 6, 1]
    s = tui_gru.load(path, inputs=x.numpy(), h0=h0.numpy(), lengths=lengths)
    packed, _ = gru(pack_padded_sequence(x, torch.tensor(lengths), enforce_sorted=False), h0)
    assert_same(s, outputs(s, "out"), pad_packed_sequence(packed)[0])
    assert tui_gru.load(path, inputs=x, lengths=[T] * B).program_text() == tui_gru.load(path, inputs=x).program_text()


def test_float64_and_one_direction_backwards(tmp_path):
    torch.manual_seed(4)
    gru = torch.nn.GRU(INPUTS, H).double()
    save_file(gru.state_dict(), tmp_path / "model")
    x = torch.randn(T, B, INPUTS, dtype=torch.float64)
    s = tui_gru.load(tmp_path / "model", inputs=x)
    assert s.config.dtype == "float64"
    assert np.abs(outputs(s, "h") - gru(x)[0].detach().numpy()).max() < 1e-15
    weights = {"W": gru.weight_ih_l0, "R": gru.weight_hh_l0, "B": torch.cat([gru.bias_ih_l0, gru.bias_hh_l0])}
    weights = {name: weight.detach().numpy()[None] for name, weight in weights.items()}
    model = gru_model(np.random.default_rng(0), arrays=weights, direction="reverse", linear_before_reset=1, dtype=np.float64)
    onnx.save(model, tmp_path / "m.onnx")
    back = tui_gru.load(tmp_path / "m.onnx", inputs=x, order="rzn")
    assert "for t in 6…1:" in back.program_text()
    assert np.abs(outputs(back, "h") - gru(x.flip(0))[0].flip(0).detach().numpy()).max() < 1e-15


def test_the_listing_ends_at_the_states(encoder):
    path, *_ = encoder
    s = tui_gru.load(path)
    lines = s.program_text().splitlines()
    assert lines[-1].strip() == "out_l1 = [h_l1, h_l1_reverse]"
    assert "h0" in lines[2]
    assert {row.line.phase for row in s.program.rows if row.line is not None} == {"forward"}
    assert "normal random numbers, seed 0" in s.notice
    again = tui_gru.load(path)
    assert np.array_equal(outputs(s), outputs(again))


def test_it_is_stepped_in_both_directions_of_time(encoder):
    path, _, x, h0 = encoder
    s = tui_gru.load(path, inputs=x, h0=h0)
    assert s.value("z_l0") is None
    seen = []
    while s.position != s.end:
        seen.append((s.position.tick, s.value("h_l0"), s.value("h_l1_reverse")))
        before = s.position
        s.step("op")
        assert s.position > before
    assert len(seen) == T * 2 * (4 + 4 + 1)
    for tick, first, last in reversed(seen):
        s.step("op", -1)
        assert s.position.tick == tick
        for was, now in ((first, s.value("h_l0")), (last, s.value("h_l1_reverse"))):
            assert (was is None and now is None) or np.array_equal(was, now)
    for level, stops in (("timestep", 5 * T), ("phase", 1), ("batch", 1), ("epoch", 1)):
        s.seek(0)
        count = 0
        while s.position != s.end:
            s.step(level)
            count += 1
        assert count == stops, level
    assert s.step("epoch", 5) == s.end


def test_conditions_breakpoints_and_derivations(encoder):
    path, _, x, h0 = encoder
    s = tui_gru.load(path, inputs=x, h0=h0)
    states = outputs(s, "h_l0_reverse")
    t = T - 1 - int(np.argmax(states[::-1, 1, 2] > 0))
    s.seek(0)
    assert s.run_until("h_l0_reverse[1,2] > 0") == bool((states[:, 1, 2] > 0).any())
    assert s.position.t == t
    s.break_at("h_l1")
    assert s.continue_()
    assert (s.position.line.target, s.position.t) == ("h_l1", 0)
    node = s.explain("h_l1", (0, 1))
    assert node.derivation.formula == "h_l1 = z_l1⊙hₜ₋₁_l1 + (1 − z_l1)⊙h̃_l1"
    assert abs(combined(node.derivation) - node.value) < 1e-6
    assert s.explain("Wz_l0", (0, 1)).derivation.note == "a weight of model.pt"
    assert s.explain("x", (0, 1), t=2).derivation.note == "x as it was given: your inputs"
    assert s.explain("h_prev_l0", (0, 1), t=0).derivation.note == "h_l0 as given with the batch: h0"


def test_what_if_and_edits_stay_inside(encoder):
    path, gru, x, h0 = encoder
    s = tui_gru.load(path, inputs=x, h0=h0)
    s.seek(s.end)
    before = s.value("out_l1")
    with torch.no_grad():
        gru.weight_hh_l0[H + 1, 2] = 0.75  # torch's rows: r, z, n
    found = s.what_if("Uz_l0", (2, 1), 0.75)
    assert found.differences
    assert_same(s, found.then.value("out_l1", T - 1), gru(x, h0)[0][T - 1])
    assert np.array_equal(s.value("out_l1"), before)
    s.seek(0)
    s.edit("Uz_l0", (2, 1), 0.75)
    assert len(s.branches) == 2
    assert_same(s, outputs(s)[-1], gru(x, h0)[0][T - 1])
    s.undo()
    assert np.array_equal(outputs(s)[-1], before)


def test_it_is_checked_against_autograd(encoder):
    path, _, x, h0 = encoder
    s = tui_gru.load(path, inputs=x, h0=h0, lengths=[6, 2, 3])
    s.seek(s.end)
    report = s.check()
    assert report.agrees
    assert {"h_l1_reverse", "out"} <= {row.name for row in report.rows}


def test_an_expected_output_is_compared_one_step_at_a_time(encoder):
    path, gru, x, h0 = encoder
    y = gru(x, h0)[0].detach().numpy()
    s = tui_gru.load(path, inputs=x, h0=h0, expect=y)
    assert s.expected.agrees
    assert "the output is the expected one" in s.notice
    assert s.expected.whole.over_time.shape == (T,)
    wrong = y.copy()
    wrong[3:] += 0.01
    s = tui_gru.load(path, inputs=x, h0=h0, expect=wrong, reset="after")
    assert not s.expected.agrees
    assert "is not the expected one" in s.notice
    table = s.expected.table().splitlines()
    assert len(table) == T + 1
    assert s.expected.one_step.over_time[1] < 1e-6 < 1e-3 < s.expected.one_step.over_time[3]


def test_the_convention_is_proved_by_an_output(tmp_path, random):
    """Stacked z r n, reset before, z takes the new state; the file does not say so."""
    shapes = {"g_W": (3 * H, INPUTS), "g_U": (3 * H, H), "g_b": (3 * H,)}
    np.savez(tmp_path / "m.npz", **{name: random.normal(size=shape).astype(np.float32) for name, shape in shapes.items()})
    x = random.normal(size=(T, B, INPUTS)).astype(np.float32)
    right = {"order": "nzr", "reset": "before", "z": "takes", "gate": "hard_sigmoid"}
    y = outputs(tui_gru.load(tmp_path / "m.npz", inputs=x, **right), "h")
    with pytest.raises(TuiGruError, match="order"):
        tui_gru.load(tmp_path / "m.npz", inputs=x)
    s = tui_gru.load(tmp_path / "m.npz", inputs=x, expect=y)
    assert "proved by an input and its output" in s.notice
    assert s.expected.agrees
    assert s.config.source.structure.cell == "gru, reset before, z takes, hard_sigmoid"
    wrong = tui_gru.load(tmp_path / "m.npz", inputs=x, expect=y, order="rzn")
    assert not wrong.expected.agrees


def test_whole_numbers_pick_rows_of_an_embedding(encoder, random):
    path, gru, *_ = encoder
    table = random.normal(size=(7, INPUTS)).astype(np.float32)
    tokens = random.integers(0, 7, (T, B))
    s = tui_gru.load(path, inputs=tokens, embedding=table)
    assert_same(s, outputs(s), gru(torch.tensor(table[tokens]))[0])
    assert np.array_equal(s.parameter("E"), table)


def test_the_embedding_may_be_a_tensor_of_the_file(encoder, random, tmp_path):
    _, gru, *_ = encoder
    table = torch.randn(7, INPUTS)
    tensors = {"embed.weight": table} | {"encoder." + name: tensor for name, tensor in gru.state_dict().items()}
    torch.save(tensors, tmp_path / "model.pt")
    tokens = random.integers(0, 7, (T, B))
    s = tui_gru.load(tmp_path / "model.pt", inputs=tokens, embedding="embed")
    assert_same(s, outputs(s), gru(table[tokens])[0])
    with pytest.raises(TuiGruError, match="there is no tensor 'embd' in the file; did you mean embed"):
        tui_gru.load(tmp_path / "model.pt", inputs=tokens, embedding="embd")


def test_arrays_may_be_files(encoder, tmp_path):
    path, gru, x, _ = encoder
    np.save(tmp_path / "x.npy", x.numpy())
    s = tui_gru.load(path, inputs=tmp_path / "x.npy")
    assert_same(s, outputs(s), gru(x)[0])
    assert s.explain("x", (0, 1), t=2).derivation.note == "x as it was given: x.npy"


def test_numbers_that_are_not_finite_are_shown(tmp_path):
    weights = torch.nn.GRU(INPUTS, H).state_dict()
    weights["weight_hh_l0"][H, 0] = torch.nan
    torch.save(weights, tmp_path / "m.pt")
    s = tui_gru.load(tmp_path / "m.pt", h0=np.ones((1, 2, H)))
    assert s.notice.endswith("Uz of the file has 1 entry that is not finite, the first at [0,0]")
    s.step("timestep")
    assert np.isnan(s.value("z")[:, 0]).all()
    assert np.isfinite(s.value("z")[:, 1:]).all()


REFUSED = {
    "inputs of another width": ({"inputs": np.zeros((6, 2, 5))}, r"the inputs have the shape \(6, 2, 5\); encoder reads .*, 3\)"),
    "inputs of other axes": ({"inputs": np.zeros((3, 6, 2))}, "the input size comes last"),
    "inputs of nothing": ({"inputs": np.zeros((0, 2, 3))}, "the inputs have the shape"),
    "whole numbers without a table": ({"inputs": np.zeros((6, 2), int)}, "give the embedding's table as well"),
    "tokens beyond the table": ({"inputs": np.full((6, 2), 9), "embedding": np.zeros((4, 3))}, "go from 9 to 9"),
    "a table of another width": ({"inputs": np.zeros((6, 2), int), "embedding": np.zeros((4, 5))}, "the embedding has the shape"),
    "words": ({"inputs": np.array([["a"]])}, "give real numbers"),
    "a ragged list": ({"inputs": [[1.0], [1.0, 2.0]]}, "inputs is not an array"),
    "a missing file": ({"inputs": "nowhere.npy"}, "nowhere.npy: no such file or directory; check the name"),
    "h0 of another shape": ({"h0": np.zeros((4, 9, 4)), "inputs": np.zeros((6, 2, 3))}, r"h0 has the shape \(4, 9, 4\)"),
    "lengths beyond the end": ({"lengths": [7, 2], "inputs": np.zeros((6, 2, 3))}, "lengths must be 2 whole numbers from 0 to 6"),
    "an output of another shape": ({"expect": np.zeros((6, 2, 4)), "inputs": np.zeros((6, 2, 3))}, "the expected output has"),
    "an output with the rows first": (
        {"expect": np.zeros((2, 6, 8)), "inputs": np.zeros((6, 2, 3))},
        "swap its first two axes: the timesteps come first",
    ),
    "objects": ({"inputs": np.array([[[None] * 3]])}, "inputs has the type object; give real numbers"),
    "an option of a text": ({"seed": 1}, "seed is for a run on a text; give a head and a text as well, or leave it out"),
    "an unknown option": ({"colour": 1}, "unknown option 'colour'"),
    "a number as a name": ({"name": 3}, "there is no GRU 3 in it"),
    "a number as an order": ({"order": 3}, "order is '3'; write the gates"),
    "another name": ({"name": "decoder"}, "there is no GRU 'decoder' in it"),
    "no order": ({"order": "abc"}, "order is 'abc'"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_does_not_fit_is_refused_in_one_line(encoder, what):
    options, reason = REFUSED[what]
    with pytest.raises(TuiGruError, match=reason) as caught:
        tui_gru.load(encoder[0], **options)
    assert "\n" not in str(caught.value)


def test_one_of_several_is_to_be_named(tmp_path):
    save_file(torch.nn.ModuleDict({"a": torch.nn.GRU(3, 4), "b": torch.nn.GRU(3, 4)}).state_dict(), tmp_path / "m")
    with pytest.raises(TuiGruError, match="there are 2 GRUs in it; name one of a, b"):
        tui_gru.load(tmp_path / "m")
    assert tui_gru.load(tmp_path / "m", "b").config.source.title == "b of m"


def test_inputs_may_be_tensors_of_a_script(encoder):
    path, gru, x, h0 = encoder
    s = tui_gru.load(path, inputs=x.clone().requires_grad_(), h0=h0.bfloat16(), expect=gru(x, h0.bfloat16().float())[0])
    assert s.expected.agrees
    with pytest.raises(TuiGruError, match="path must be the name of a file, not NoneType"):
        tui_gru.load(None)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_an_output_in_half_precision_is_compared_as_such(tmp_path, dtype):
    torch.manual_seed(5)
    gru, x = torch.nn.GRU(INPUTS, 16).to(dtype), torch.randn(T, B, INPUTS).to(dtype)
    torch.save(gru.state_dict(), tmp_path / "m.pt")
    half, single = gru(x)[0].detach().float(), gru.float()(x.float())[0]
    s = tui_gru.load(tmp_path / "m.pt", inputs=x, expect=half)
    assert s.expected.agrees
    assert "the tolerance of half precision" in s.expected.sentence
    wrong = tui_gru.load(tmp_path / "m.pt", inputs=x, expect=half, reset="before")
    assert not wrong.expected.agrees
    exact = tui_gru.load(tmp_path / "m.pt", inputs=x, expect=single)
    assert exact.expected.sentence.startswith("the output is the expected one: off by")
    almost = tui_gru.load(tmp_path / "m.pt", inputs=x, expect=single + 1e-3)
    assert not almost.expected.agrees


def test_a_float64_model_is_compared_with_an_output_in_float32(tmp_path):
    torch.manual_seed(6)
    gru, x = torch.nn.GRU(INPUTS, H).double(), torch.randn(T, B, INPUTS, dtype=torch.float64)
    torch.save(gru.state_dict(), tmp_path / "m.pt")
    y = gru(x)[0].detach()
    for rounded in (y.float(), y.float().double()):
        assert tui_gru.load(tmp_path / "m.pt", inputs=x, expect=rounded).expected.agrees
    assert not tui_gru.load(tmp_path / "m.pt", inputs=x, expect=y + 1e-8).expected.agrees


def test_what_needs_a_loss_says_so(encoder):
    s = tui_gru.load(encoder[0])
    for verb in (s.sgd, lambda: setattr(s, "learning", True), lambda: setattr(s, "learning_rate", 0.1)):
        with pytest.raises(TuiGruError, match="without a head and a loss"):
            verb()
    with pytest.raises(TuiGruError, match="nothing to sample"):
        s.sample("a")
    with pytest.raises(TuiGruError, match="text cannot be changed"):
        s.edit("text", 0, "a")
    assert s.position.tick == 0


def test_an_input_can_be_another_one(encoder):
    path, gru, x, h0 = encoder
    s = tui_gru.load(path, inputs=x, h0=h0)
    s.seek(s.end)
    before = s.value("out_l1", t=0)
    x = x.clone()
    x[2, 1, 0] = 0.75
    y = gru(x, h0)[0]
    found = s.what_if("x", (1, 0), 0.75, t=2)
    assert_same(s, found.then.value("out_l1", 0), y[0])  # through the direction that reads backwards
    assert_same(s, found.then.value("out_l1", T - 1), y[T - 1])
    assert np.array_equal(s.value("out_l1", t=0), before)
    for keep in (lambda: s.adopt(found), lambda: s.edit("x", (1, 0), 0.75)):
        with pytest.raises(TuiGruError, match="x is a given input and cannot be edited"):
            keep()


def test_damaged_arrays_are_refused_before_any_memory_is_taken(encoder, tmp_path, random):
    path = tmp_path / "x.npy"
    np.save(path, np.zeros((6, 2, 3), np.float32))
    whole = path.read_bytes()
    huge = whole.replace(b"(6, 2, 3)", b"(10**9, 3)")
    for data in (b"", whole[:40], whole[:-4], huge, whole.replace(b"(6, 2, 3)", b"(9999999, 3)")[:200], b"PK" + whole):
        path.write_bytes(data)
        with pytest.raises(TuiGruError, match="it is not an array written by numpy") as caught:
            tui_gru.load(encoder[0], inputs=path)
        assert "\n" not in str(caught.value)
    for _ in range(examples(30, soak=1000)):
        data = bytearray(whole)
        data[random.integers(0, 128)] ^= 1 << random.integers(0, 8)
        path.write_bytes(data)
        with suppress(TuiGruError):  # and no other error
            tui_gru.load(encoder[0], inputs=path)


def test_the_growth_of_a_difference_is_said(tmp_path):
    """A GRU that separates neighbouring states: float32 and float64 differ much at the end, and agree one step at a time."""
    torch.manual_seed(0)
    gru = torch.nn.GRU(2, 24)
    with torch.no_grad():
        gru.weight_hh_l0 *= 16
        gru.bias_ih_l0[24:48] = -4  # z is small: the candidate replaces the state
    torch.save(gru.state_dict(), tmp_path / "m.pt")
    x = torch.randn(200, 1, 2)
    y = gru.double()(x.double())[0].detach().numpy()
    found = tui_gru.load(tmp_path / "m.pt", inputs=x.numpy(), expect=y).expected
    assert found.agrees
    assert found.whole.worst > 1e3 * found.one_step.worst
    assert found.growth > 1.05
    assert f"growing {found.growth:.2f} times a timestep" in found.sentence
    steady = tui_gru.load(tmp_path / "m.pt", inputs=x.numpy()[:3], expect=y[:3]).expected
    assert steady.growth == 1
    assert "growing" not in steady.sentence


def test_rows_may_come_before_timesteps(tmp_path):
    """As in torch with batch_first: the numbers of the run are those of the swapped arrays, and its first answer says the shape."""
    module = torch.nn.GRU(5, 8, batch_first=True)
    torch.save(module.state_dict(), tmp_path / "gru.pt")
    x = torch.randn(3, 7, 5, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        y = module(x)[0].numpy()
    np.save(tmp_path / "x.npy", x.numpy())
    session = tui_gru.load(tmp_path / "gru.pt", inputs=tmp_path / "x.npy", expect=y, batch_first=True)
    assert "the inputs are read as 7 timesteps of 3 rows of 5 numbers" in session.notice
    session.step("batch")
    assert session.expected.agrees
    swapped = tui_gru.load(tmp_path / "gru.pt", inputs=x.numpy().swapaxes(0, 1))
    assert "the inputs are read as 7 timesteps of 3 rows of 5 numbers" in swapped.notice
    swapped.step("batch")
    assert np.array_equal(session.value("h"), swapped.value("h"))
    assert "3 timesteps of 7 rows" in tui_gru.load(tmp_path / "gru.pt", inputs=x.numpy()).notice
