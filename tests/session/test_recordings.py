"""Sessions on a recording: the kept steps are the batches, in any order, and training cannot continue."""

import json
import shutil

import numpy as np
import pytest
import torch
from torch import nn

from tests.capture.runs import IN, B, H, T, trained
from tests.capture.scripts import Seq2seq, loss_of
from tests.capture.test_sequences import BETWEEN, KINDS, Decoder, each
from tests.rounding import of_session
from tests.session.acting import altered, assert_every_level_leads_through_and_back
from tests.storage.machines import MARS, elsewhere, renamed
from tui_gru import Session, TuiGruError
from tui_gru.capture.record import record
from tui_gru.debugger.history import this_machine
from tui_gru.engine.training import Prefetch
from tui_gru.errors import RecordingError
from tui_gru.imported import captured as recorded
from tui_gru.imported.captured import RecordedBatches
from tui_gru.imported.recordings import Recording, open_recording
from tui_gru.session.opening import on_recording
from tui_gru.storage.file import SessionFileError


@pytest.fixture
def run(tmp_path):
    """A recording of steps 0, 4, 8 … of 21."""
    trained(tmp_path / "run.gru", steps=21, every=4, last=0)
    return tmp_path / "run.gru"


def assert_as_recorded(session):
    """Check that the current batch is computed as the script computed it."""
    session.step("batch")
    assert session.expected.agrees
    for name in session.parameter_names:
        ours, theirs = session.gradient(name), session.recorded_gradient(name)
        assert np.abs(ours - theirs).max() <= of_session(session) * max(1, np.abs(theirs).max()), name


def test_kept_steps_are_the_batches(run):
    s = Session.open(run)
    assert s.steps == (0, 4, 8, 12, 16, 20)
    assert s.notice.startswith("6 of 21 steps were kept, with 5 gaps")
    assert (s.config.num_batches, s.config.seq_length, s.config.batch_size, s.config.hidden_size) == (6, T, B, H)
    recording = open_recording(run)
    for number in s.steps:
        assert_as_recorded(s)
        step = recording.load(number)
        assert np.array_equal(s.value("x", t=1), step.calls[0].x[1])
        assert s.loss == step.loss
        assert s.config.source.places[s.position.batch].startswith(f"step {number}")
    assert s.position == s.end
    assert s.step("batch") == s.end


def test_the_loss_comes_from_the_script(run):
    s = Session.open(run)
    s.step("batch", 2)
    given = s.explain("loss")
    assert (given.value, given.terms) == (s.loss, ())
    assert "the loss that your script gave at step 4" in given.derivation.note


def test_any_step_is_reached_without_those_before_it(run):
    computed = []
    s = Session.open(run)
    s.seek("e1 b5 t2", progress=computed.append)
    assert len(computed) <= 2
    assert s.value("h", t=1).shape == (B, H)
    h = s.value("h")
    s.seek("e1 b2 t2")
    assert not np.array_equal(h, s.value("h"))
    s.step("batch", -1)
    s.seek("e1 b5 t2")
    assert np.array_equal(h, s.value("h"))


def test_every_level_of_steps_leads_through_and_back(run):
    assert_every_level_leads_through_and_back(Session.open(run), "timestep", "phase", "batch", "epoch")


def test_conditions_look_into_all_kept_steps(run):
    s = Session.open(run)
    recording = open_recording(run)
    norms = {}
    for i, number in enumerate(s.steps):
        grads = recording.load(number).gradients.values()
        norms[i] = float(np.sqrt(sum(float((g.astype(np.float64) ** 2).sum()) for g in grads)))
    wanted = sorted(norms.values())[2]
    first = next(i for i in norms if norms[i] < wanted * 0.999999 + 1e-9 or norms[i] <= wanted)
    assert s.run_until(f"grad_norm <= {wanted * (1 + 1e-6)}")
    assert s.position.batch == first
    losses = [recording.load(number).loss for number in s.steps]
    s.seek(0)
    least = min(losses)
    assert s.run_until(f"loss <= {least}")
    assert s.position.batch == losses.index(least)
    assert s.run_back_until("batch == 1") == (s.position.batch == 0)
    s.break_at("h", condition="batch == 4 and t == 3")
    s.seek(0)
    assert s.continue_()
    assert (s.position.batch, s.position.t) == (3, 2)


def test_a_change_stays_inside_of_its_step(run):
    s = Session.open(run)
    s.seek("e1 b2 t1")
    was = s.value("h")
    what = s.what_if("Uz", (0, 0), 2.0)
    assert what.differences
    s.step("batch", -1)
    s.edit("Uz", (0, 0), 2.0)
    s.step("batch")
    assert s.parameter("Uz")[0, 0] != 2.0 or s.position.batch == 0
    s.seek("e1 b2 t1")
    assert np.array_equal(s.value("h"), was)
    assert len(s.branches) == 2
    s.switch("main")
    s.seek("e1 b4 t1")
    assert_as_recorded(s)


def test_training_on_is_refused_with_the_reason(run):
    s = Session.open(run)
    for verb in (s.sgd, lambda: setattr(s, "learning_rate", 0.1)):
        with pytest.raises(TuiGruError, match="this is a recording"):
            verb()
    assert s.explain("Wz", (0, 0)).derivation.note == "a weight of run.gru at step 0"


def test_a_step_with_a_flipped_bit_is_omitted_and_named(run, monkeypatch):
    path = run / "step-00000008.rank0.safetensors"
    good = path.read_bytes()
    said = "step-00000008.rank0.safetensors: gradients.weight_hh_l0 in it does not match its checksum"
    path.write_bytes(good[:-200] + bytes([good[-200] ^ 4]) + good[-199:])
    s = Session.open(run)
    assert s.steps == (0, 4, 12, 16, 20)
    assert f"left out, since it cannot be read: {said}" in s.notice
    while s.position != s.end:
        assert_as_recorded(s)
    # A large recording is not read whole when it is opened.
    monkeypatch.setattr(recorded, "CHECKED", 0)
    s = Session.open(run)
    assert s.steps == (0, 4, 8, 12, 16, 20)
    s.step("batch", 2)
    before = s.position
    with pytest.raises(RecordingError, match=said):
        s.step("batch")
    assert s.position == before
    s.seek("e1 b4 t1")
    assert_as_recorded(s)


def test_steps_of_other_lengths_and_rows_are_made_alike(tmp_path):
    torch.manual_seed(3)
    gru = nn.GRU(IN, H, 2)
    optimizer = torch.optim.SGD(gru.parameters(), 0.1)
    with record(tmp_path / "run", gru, optimizer, every=1) as recorder:
        for rows, timesteps in ((2, 5), (3, 4), (1, 7)):
            optimizer.zero_grad()
            loss = loss_of(gru(torch.randn(timesteps, rows, IN))[0])
            loss.backward()
            optimizer.step()
            recorder.step(loss)
    s = Session.open(tmp_path / "run")
    assert (s.config.batch_size, s.config.seq_length) == (3, 7)
    for rows, timesteps in ((2, 5), (3, 4), (1, 7)):
        assert_as_recorded(s)
        live = np.stack([s.value("live", t=t) for t in range(7)])
        assert live.sum() == rows * timesteps


def test_a_loop_over_a_cell_is_one_batch(tmp_path):
    torch.manual_seed(3)
    model = Seq2seq()
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    with record(tmp_path / "run", model, optimizer, every=1) as recorder:
        for _ in range(3):
            optimizer.zero_grad()
            loss = loss_of(model(torch.randn(6, 3, 4)))
            loss.backward()
            optimizer.step()
            recorder.step(loss)
    names = [module.name for module in open_recording(tmp_path / "run").modules]
    for name in names:
        s = on_recording(tmp_path / "run", name)
        assert s.config.seq_length > 1
        for _ in s.steps:
            assert_as_recorded(s)
    with pytest.raises(TuiGruError, match="no GRU 'other' was recorded in it"):
        on_recording(tmp_path / "run", "other")


@pytest.mark.parametrize("between", ["attached", "by mask", "detached sometimes"])
@pytest.mark.parametrize("kind", ["GRU of two layers", "LSTMCell"])
def test_a_loop_of_single_timesteps_is_one_batch(tmp_path, kind, between):
    torch.manual_seed(3)
    model = Decoder(KINDS[kind](), between=each(BETWEEN[between][0]))
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    with record(tmp_path / "run", model, optimizer, every=1) as recorder:
        for _ in range(3):
            optimizer.zero_grad()
            loss = loss_of(model(torch.randn(9, 3, 4)))
            loss.backward()
            optimizer.step()
            recorder.step(loss)
    s = on_recording(tmp_path / "run")
    assert (s.config.seq_length, s.config.batch_size, len(s.steps)) == (9, 3, 3)
    for _ in s.steps:
        assert_as_recorded(s)


@pytest.mark.parametrize("kind", ["GRU", "LSTMCell"])
def test_a_loop_that_sets_a_state_in_a_later_step_only_is_opened(tmp_path, kind):
    """And one in which something reads c between the timesteps in a later step only."""
    torch.manual_seed(4)
    decoder = Decoder(KINDS[kind]())
    optimizer = torch.optim.SGD(decoder.parameters(), 0.1)
    with record(tmp_path / "run.gru", decoder, optimizer, every=1) as recorder:
        for number in range(40):
            decoder.between = each(BETWEEN["by mask" if number == 37 else "attached"][0])
            decoder.reads = lambda out, h, number=number: out + (h[1] if isinstance(h, tuple) and number == 38 else 0)
            optimizer.zero_grad()
            loss_of(decoder(torch.randn(9, 3, 4))).backward()
            optimizer.step()
            recorder.step()
    s = Session.open(tmp_path / "run.gru")
    assert (len(s.steps), s.config.seq_length, s.config.batch_size) == (40, 9, 3)
    for batch in (37, 38, 39):
        s.seek(f"e1 b{batch} t1")
        assert_as_recorded(s)
        assert ("keep is 0 there" in s.remarks) is (batch == 38)
        assert ("also reads c" in s.remarks) is (batch == 39 and kind == "LSTMCell")
    assert s.check().agrees


def test_ranks_are_rows_beside_each_other(tmp_path):
    """Two processes train together, as with DDP: each records its own share, and p.grad is the mean of both."""
    torch.manual_seed(4)
    weights = nn.GRU(IN, H).state_dict()
    shares = [torch.randn(T, B, IN) for _ in range(2)]
    grads = []
    for x in shares:
        gru = nn.GRU(IN, H)
        gru.load_state_dict(weights)
        loss_of(gru(x)[0]).backward()
        grads.append([p.grad for p in gru.parameters()])
    for rank, x in enumerate(shares):
        gru = nn.GRU(IN, H)
        gru.load_state_dict(weights)
        optimizer = torch.optim.SGD(gru.parameters(), 0.1)
        with record(tmp_path / f"run{rank}", gru, optimizer, every=1, rank=rank) as recorder:
            loss = loss_of(gru(x)[0])
            loss.backward()
            for p, pair in zip(gru.parameters(), zip(*grads, strict=True), strict=True):
                p.grad = (pair[0] + pair[1]) / 2
            optimizer.step()
            recorder.step(loss)
    folder = tmp_path / "run0"
    for file in (tmp_path / "run1").glob("*rank1*"):
        shutil.copy(file, folder / file.name)
    about = json.loads((folder / "run.json").read_text())
    (folder / "run.json").write_text(json.dumps({**about, "ranks": 2}))
    s = Session.open(folder)
    assert s.config.batch_size == 2 * B
    assert_as_recorded(s)
    for file in folder.glob("*rank1*"):
        file.unlink()
    s = Session.open(folder)
    assert s.config.batch_size == B
    assert "of 2 ranks these are missing: 1" in s.notice


def test_only_a_step_that_is_deleted_while_it_is_open_is_refused(run):
    s = Session.open(run)
    s.step("batch")
    (run / "step-00000008.rank0.safetensors").unlink()
    s.step("batch")
    here = s.position
    for go in (lambda: s.step("batch"), lambda: s.seek("e1 b3 t1"), lambda: s.run_until("grad_norm < 0")):
        with pytest.raises(
            TuiGruError, match=r"step-00000008\.rank0\.safetensors: it is not there any more; put it back, or go to"
        ):
            go()
        assert s.position == here
    s.seek("e1 b4 t1")  # the step after it
    assert s.snapshot().previous is None
    assert_as_recorded(s)
    s.seek("e1 b2 t1")
    s.step("batch", 3)  # past it
    assert s.position.batch == 3
    assert s.snapshot().previous is None
    s.step("batch")
    assert s.snapshot().previous.loss == s.snapshot().losses[3]


def test_the_next_step_is_computed_while_the_user_looks_at_one(run, monkeypatch):
    begun = []
    begin = Prefetch.begin
    monkeypatch.setattr(Prefetch, "begin", lambda ahead, key, compute: begun.append(key) or begin(ahead, key, compute))
    stepped, sought = Session.open(run), Session.open(run)
    for batch in range(6):
        stepped.step("batch")
        begun.clear()
        stepped.prefetch()
        assert begun[:1] == ([batch + 1] if 0 < batch < 5 else [])
        end = stepped.position
        sought.seek(0)
        sought.seek(end)
        ours, theirs = stepped.snapshot().moment.record, sought.snapshot().moment.record
        assert np.array_equal(ours.block, theirs.block)
        assert (ours.loss, ours.grad_norm, ours.max_weight) == (theirs.loss, theirs.grad_norm, theirs.max_weight)
        assert stepped.remarks == sought.remarks
    stepped.seek("e1 b2 t1")
    stepped.edit("Uz", (0, 0), 2.0)
    stepped.prefetch()
    stepped.step("batch")
    stepped.prefetch()
    assert_as_recorded(stepped)  # the next step is as it was recorded


def test_remarks_on_a_step_are_those_without_what_was_computed(run):
    """They use the gradients of the batch, if the step has one call; an edit does not change them."""
    s = Session.open(run)
    s.step("batch", 2)
    again = RecordedBatches(open_recording(run), open_recording(run).modules[0])
    assert s.remarks == again[1].remarks()
    s.seek("e1 b3 t2")
    s.edit("Uz", (0, 0), 2.0)
    s.seek(s.end)
    s.seek("e1 b3 t2")
    s.step("phase", 2)
    assert s.remarks == again[2].remarks()
    assert "p.grad is the derived gradient" in s.remarks


def test_a_step_that_cannot_be_read_ahead_is_refused_when_it_is_reached(run):
    shard = sorted(run.glob("step-*"))[3]
    s = Session.open(run)
    shard.write_bytes(shard.read_bytes()[:-4])
    s.step("batch", 1)
    s.step("batch", 1)
    s.step("batch", 1)
    here = s.position
    with pytest.raises(TuiGruError, match="cut off"):
        s.step("batch")
    assert s.position == here


def test_what_cannot_be_opened_says_why(tmp_path, run):
    (tmp_path / "empty").mkdir()
    with pytest.raises(TuiGruError, match="empty"):
        Session.open(tmp_path / "empty")
    (tmp_path / "empty" / "run.json").write_text("{}")
    with pytest.raises(TuiGruError, match="give the folder that"):
        Session.open(tmp_path / "empty")
    trained(tmp_path / "none", steps=3, every=0, last=0, on="")
    with pytest.raises(TuiGruError, match="no step was kept in it"):
        Session.open(tmp_path / "none")
    shard = sorted(run.glob("step-*"))[2]
    whole = shard.read_bytes()
    s = Session.open(run)
    shard.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(TuiGruError) as caught:
        s.seek("e1 b3 t1")
    assert "\n" not in str(caught.value)
    assert s.position.tick == 0
    s.seek("e1 b5 t1")
    shard.write_bytes(whole)
    s.seek("e1 b3 t1")
    assert s.position.batch == 2


@pytest.mark.parametrize("damage", [lambda data: b"", lambda data: data[:-4], lambda data: data.replace(b"notes", b"mates")])
@pytest.mark.parametrize("at", [0, 2, -1])
def test_a_damaged_step_is_left_out_and_the_others_are_there(run, tmp_path, damage, at):
    shards = sorted(run.glob("step-*"))
    numbers = [4 * i for i in range(6)]
    lost = numbers.pop(at)
    shards[at].write_bytes(damage(shards[at].read_bytes()))
    s = Session.open(run)
    assert s.steps == tuple(numbers)
    assert f"left out, since it cannot be read: step-{lost:08d}.rank0.safetensors: " in s.notice
    for _ in numbers:
        assert_as_recorded(s)
    assert s.position == s.end
    s.save(tmp_path / "s.tui-gru")
    assert Session.open(tmp_path / "s.tui-gru").steps == tuple(numbers)


def test_a_recording_with_damaged_steps_only_says_why(run):
    for shard in run.glob("step-*"):
        shard.write_bytes(b"")
    reason = r"run\.gru: none of its steps can be opened; left out.*it is empty.*\(and 5 more\)"
    with pytest.raises(TuiGruError, match=reason) as caught:
        Session.open(run)
    assert "\n" not in str(caught.value)


def test_steps_without_a_call_are_left_out(tmp_path):
    torch.manual_seed(5)
    pair = nn.ModuleDict({"a": nn.GRU(IN, H), "b": nn.GRU(IN, H)})
    optimizer = torch.optim.SGD(pair.parameters(), 0.1)
    with record(tmp_path / "run.gru", pair, optimizer, every=1) as recorder:
        for i in range(6):
            optimizer.zero_grad()
            loss = loss_of(pair["a" if i % 3 else "b"](torch.randn(T, B, IN))[0])
            loss.backward()
            optimizer.step()
            recorder.step(loss)
    s = on_recording(tmp_path / "run.gru", "a")
    assert s.steps == (1, 2, 4, 5)
    assert "left out: 2 steps in which a received no gradient" in s.notice
    for _ in s.steps:
        assert_as_recorded(s)
    assert on_recording(tmp_path / "run.gru", "b").steps == (0, 3)


@pytest.mark.parametrize("module", [nn.GRU(IN, H), nn.GRUCell(IN, H)])
def test_steps_without_rows_are_left_out(tmp_path, module):
    shape = (T,) if isinstance(module, nn.GRU) else ()
    with record(tmp_path / "run.gru", module, every=1) as recorder:
        for rows in (0, B, 0, 0):
            out = module(torch.randn(*shape, rows, IN))
            loss_of(out[0] if shape else out).backward()
            recorder.step(1.0)
    s = Session.open(tmp_path / "run.gru")
    assert s.steps == (1,)
    assert "left out: 3 steps in which" in s.notice
    s.step("batch")
    assert s.expected.agrees
    (tmp_path / "run.gru" / "step-00000001.rank0.safetensors").unlink()
    with pytest.raises(TuiGruError, match=r"run\.gru: none of its steps can be opened; left out: 3 steps in which .* or no row"):
        Session.open(tmp_path / "run.gru")


def test_a_call_without_rows_beside_another_changes_nothing(tmp_path):
    gru = nn.GRU(IN, H)
    optimizer = torch.optim.SGD(gru.parameters(), 0.1)
    with record(tmp_path / "run.gru", gru, optimizer, every=1) as recorder:
        (loss_of(gru(torch.randn(T, B, IN))[0]) + loss_of(gru(torch.randn(T, 0, IN))[0])).backward()
        optimizer.step()
        recorder.step(1.0)
    s = Session.open(tmp_path / "run.gru")
    assert_as_recorded(s)
    assert s.remarks.startswith("p.grad is the derived gradient")


class Headed(nn.Module):
    """A GRU whose head reads the output in some steps; in others the output is in the loss as well, or nothing else is."""

    def __init__(self):
        super().__init__()
        self.gru, self.head = nn.GRU(IN, H), nn.Linear(H, 7)

    def loss(self, x, kind):
        out = self.gru(x)[0]
        of_head = 0 if kind == "none" else self.head(out).pow(2).sum()
        return of_head if kind == "head" else of_head + out.pow(2).sum()


def recorded_with_head(folder, kinds, scale=lambda i: 1.0):
    torch.manual_seed(8)
    model = Headed()
    optimizer = torch.optim.SGD(model.parameters(), 1e-3)
    with record(folder, model, optimizer, head=model.head, every=1) as recorder:
        for i, kind in enumerate(kinds):
            optimizer.zero_grad()
            loss = model.loss(torch.randn(T, B, IN), kind) * scale(i)
            loss.backward()
            optimizer.step()
            recorder.step(loss)


@pytest.mark.parametrize("kinds", [("head", "none", "head"), ("none", "head"), ("both", "head")])
def test_a_head_that_is_not_read_in_every_step_is_left_out(tmp_path, kinds):
    recorded_with_head(tmp_path / "run.gru", kinds)
    s = Session.open(tmp_path / "run.gru")
    assert "V" not in s.config.sizes
    for _ in kinds:
        assert_as_recorded(s)
        assert s.remarks.startswith("p.grad is the derived gradient")


def test_a_step_whose_gradient_comes_not_only_through_the_head_is_refused(tmp_path):
    """Without the rest of the gradient, all that follows from it would be wrong."""
    recorded_with_head(tmp_path / "run.gru", ("head", "both", "head"))
    s = Session.open(tmp_path / "run.gru")
    assert s.config.sizes["V"] == 7
    s.step("batch")
    with pytest.raises(TuiGruError, match="step 1: its output received a gradient besides that of the head, unlike in the"):
        s.step("batch")
    s.step("batch", 2)
    assert s.remarks.startswith("p.grad is the derived gradient")


def test_a_step_with_nan_is_shown_with_its_head(tmp_path):
    recorded_with_head(tmp_path / "run.gru", ("head",) * 3, lambda i: float("nan") if i == 1 else 1.0)
    s = Session.open(tmp_path / "run.gru")
    assert s.config.sizes["V"] == 7
    s.step("batch", 2)
    assert np.isnan(s.value("dlogits", t=0)).all()
    assert s.remarks.startswith("p.grad has NaN")


@pytest.mark.parametrize("change", ["shorter", "fewer rows", "lengths"])
def test_a_step_that_was_recorded_again_while_it_is_open_is_refused(run, tmp_path, change):
    s = Session.open(run)
    torch.manual_seed(9)
    gru = nn.GRU(IN, H)
    rows, timesteps = B - (change == "fewer rows"), T - (change == "shorter")
    x = torch.randn(timesteps, rows, IN)
    with record(tmp_path / "other.gru", gru, every=1) as recorder:
        for _ in range(9):
            packed = nn.utils.rnn.pack_padded_sequence(x, torch.tensor([T, T - 1])) if change == "lengths" else x
            gru(packed)[1].sum().backward()
            recorder.step(1.0)
    shutil.copy(tmp_path / "other.gru" / "step-00000008.rank0.safetensors", run)
    s.step("batch", 2)
    with pytest.raises(TuiGruError, match="step 8 has changed since the recording was opened; open it again"):
        s.step("batch")
    s.step("batch", 2)
    assert s.expected.agrees


def test_loops_of_a_cell_may_have_any_length(tmp_path):
    torch.manual_seed(6)
    model = Seq2seq()
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    lengths = [*range(1, 41), 7]
    with record(tmp_path / "run.gru", model, optimizer, every=1) as recorder:
        for steps in lengths:
            optimizer.zero_grad()
            loss = loss_of(model(torch.randn(T, B, 4), steps))
            loss.backward()
            optimizer.step()
            recorder.step(loss)
    s = on_recording(tmp_path / "run.gru", "cell")
    assert (len(s.steps), s.config.seq_length) == (len(lengths), 40)
    for _ in lengths:
        assert_as_recorded(s)


def test_a_loss_that_alone_is_not_finite_is_said(tmp_path):
    trained(tmp_path / "run.gru", losses=[1.0, 1.0, 1.0, float("nan"), 1.0], every=0, last=2)
    s = Session.open(tmp_path / "run.gru")
    assert s.steps == (1, 2, 3)
    assert not s.run_to_not_finite()
    assert s.notice.startswith("every number of the GRU is finite, but the loss of step 3 is not: look at the head and the loss")


def test_one_that_is_still_written_is_opened_and_says_so(run):
    lines = next(run.glob("*.jsonl"))
    text = lines.read_text().splitlines(keepends=True)
    lines.write_text("".join(text[:-1]))
    assert "still being written, or its process ended without closing it" in Session.open(run).notice


def saved(run, tmp_path):
    """The file of a session on a recording with an edit in step 4, left in step 16."""
    s = Session.open(run)
    s.seek("e1 b2 t1")
    s.edit("Uz", (0, 0), 2.0)
    s.keep("marks", ["here"])
    s.seek("e1 b5 t3")
    s.save(tmp_path / "s.tui-gru")
    return s, tmp_path / "s.tui-gru"


def test_a_saved_session_goes_on_where_it_was_left(run, tmp_path):
    was, path = saved(run, tmp_path)
    assert path.stat().st_size < 100_000  # the numbers of the steps stay in the recording
    s = Session.open(path)
    assert (s.position, s.branch, s.branches, s.steps) == (was.position, was.branch, was.branches, was.steps)
    assert s.kept("marks") == ["here"]
    for name in ("h", "z", "x"):
        assert np.array_equal(s.value(name), was.value(name)), name
    assert s.undo()
    assert_as_recorded(s)
    s.seek("e1 b2 t1")
    assert_as_recorded(s)
    assert list(s.snapshot().losses) == list(was.snapshot().losses)
    s.seek("e1 b3 t2")
    s.record_to(path)
    s.step("batch")
    s.close()
    again = Session.open(path)
    assert again.position == s.position


@pytest.mark.parametrize("visited", [(), (1,), (3, 1, 6), (6,)], ids=str)
def test_a_saved_session_of_a_script_that_scales_its_gradients_is_opened_again(tmp_path, visited):
    """p.grad has another norm than the derived gradients, which are computed where one steps."""
    torch.manual_seed(2)
    model = nn.GRU(IN, H)
    optimizer = torch.optim.SGD(model.parameters(), 0.05)
    with record(tmp_path / "run.gru", model, optimizer, every=1) as recorder:
        for _ in range(6):
            optimizer.zero_grad()
            loss = loss_of(model(torch.randn(T, B, IN))[0])
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1e-4)
            optimizer.step()
            recorder.step(loss)
    s = Session.open(tmp_path / "run.gru")
    s.stop_on_nan = True
    for step in visited:
        s.seek(f"b{step}")
        s.step("batch")
        assert s.outcome.stopped_by is None  # nothing has grown, though the derived norm is 10,000 times that of p.grad
    place = s.position
    s.seek(0)
    while s.position != s.end:
        s.step("batch")
        assert s.outcome.stopped_by is None
    s.seek(place)
    assert s.state.timeline.column("grad_norm", 0, 5) == pytest.approx(np.full(6, 1e-4), rel=1e-3)
    s.save(tmp_path / "s.tui-gru")
    again = Session.open(tmp_path / "s.tui-gru")
    assert again.position == s.position
    for name in ("loss", "grad_norm"):
        for ours, theirs in zip(again.history(name), s.history(name), strict=True):
            assert np.array_equal(ours, theirs, equal_nan=True), name
    for step in (1, 4, 6):
        for session in (s, again):
            session.seek(f"b{step}")
            session.step("batch")
        assert again.value("grad_norm") == s.value("grad_norm")


def test_a_saved_session_leaves_out_steps_that_were_kept_since(run, tmp_path):
    later = sorted(run.glob("step-*"))[-1]
    beside = tmp_path / later.name
    later.rename(beside)
    was, path = saved(run, tmp_path)
    beside.rename(later)
    assert len(Session.open(run).steps) == len(was.steps) + 1
    assert Session.open(path).steps == was.steps


def test_a_saved_session_says_that_its_recording_has_moved_or_changed(run, tmp_path):
    _, path = saved(run, tmp_path)
    run.rename(tmp_path / "moved.gru")
    with pytest.raises(SessionFileError, match=r"its recording is not at .*run\.gru any more; move it back there, or open the"):
        Session.open(path)
    (tmp_path / "moved.gru").rename(run)
    shard = sorted(run.glob("step-*"))[2]
    whole = shard.read_bytes()
    for change, words in (
        (lambda: shard.write_bytes(whole.replace(b"every", b"other")), "step 8 of its recording .* has changed"),
        (lambda: shard.write_bytes(whole[:-4]), "step 8 of its recording .* has changed"),
        (lambda: shard.write_bytes(b"short"), "safetensors file"),
        (shard.unlink, "step 8 of its recording .* was deleted"),
    ):
        change()
        with pytest.raises(SessionFileError, match=words) as caught:
            Session.open(path)
        assert "\n" not in str(caught.value)
    shard.write_bytes(whole)
    assert Session.open(path).steps == (0, 4, 8, 12, 16, 20)


def test_a_session_finds_its_recording_beside_it_on_another_machine(run, tmp_path):
    was, path = saved(run, tmp_path)
    there = tmp_path / "there"
    there.mkdir()
    run.rename(there / run.name)
    path = path.rename(there / path.name)
    renamed(path, {this_machine(): MARS})
    session = Session.open(path)
    assert (session.position, session.steps) == (was.position, was.steps)
    assert session.machine_difference is None
    assert_as_recorded(Session.open(there / run.name))
    altered(path, "run", lambda fact: {**fact, "recording": {**fact["recording"], "folder": f"C:\\somewhere\\{run.name}"}})
    assert Session.open(path).steps == was.steps


def test_what_another_machine_recorded_is_opened_and_agrees(tmp_path):
    found = elsewhere("record_a_module", tmp_path)
    run, saved_there, loaded = tmp_path / "run.gru", tmp_path / "run.tui-gru", tmp_path / "model.tui-gru"
    for path in (saved_there, loaded):
        if found["machine"] == this_machine():
            renamed(path, {this_machine(): MARS})
    assert_as_recorded(Session.open(run))
    session = Session.open(saved_there)
    assert session.position.tick == found["tick"]
    assert session.parameter("Wz")[0, 0] == 0.5
    assert np.asarray(session.snapshot().losses).tolist() == found["losses"]
    assert session.undo()
    session.seek(3 * session.program.ticks)
    assert_as_recorded(session)
    session = Session.open(loaded)
    assert session.parameter("Wz")[0, 0] == 0.25
    assert np.abs(session.value("h") - np.array(found["h"])).max() < 1e-5
    session.step("timestep", -2)
    assert session.undo()
    assert (session.machine_difference or 0) < 1e-4


def test_outputs_that_are_all_tiny_are_those_that_were_recorded(tmp_path):
    """If z is nearly 1, the rounding of 1 − z is large relative to the output."""
    torch.manual_seed(0)
    gru = nn.GRU(IN, H)
    with torch.no_grad():
        gru.bias_ih_l0[H : 2 * H] = 13.0
    trained(tmp_path / "run", steps=2, every=1, model=gru)
    s = Session.open(tmp_path / "run")
    s.step("batch")
    assert s.expected.one_step.largest < 1e-4
    assert s.expected.one_step.error > s.expected.tolerance
    assert s.expected.agrees


def test_the_first_number_that_is_not_finite_is_looked_for_where_the_norms_are_not(tmp_path, monkeypatch):
    model, calls = nn.GRU(IN, H), []

    def break_it(module, inputs):
        calls.append(1)
        if len(calls) == 14:
            with torch.no_grad():
                model.weight_hh_l0[0, 0] = torch.nan

    model.register_forward_pre_hook(break_it)
    trained(tmp_path / "run", steps=16, every=1, model=model)
    loaded, load = [], Recording.load
    monkeypatch.setattr(Recording, "load", lambda recording, number, rank: loaded.append(number) or load(recording, number, rank))
    s = Session.open(tmp_path / "run")
    loaded.clear()
    assert s.run_to_not_finite()
    assert (s.steps[s.position.batch], s.position.phase) == (13, "forward")
    assert min(loaded) >= 12
    trained(tmp_path / "finite", steps=16, every=1)
    s = Session.open(tmp_path / "finite")
    loaded.clear()
    assert not s.run_to_not_finite()
    assert loaded == []
    s.seek("step 4 t2")
    s.edit("Wh", (0, 0), 3e38)
    s.edit("Wh", (1, 0), 3e38)
    assert s.run_to_not_finite()
    assert s.steps[s.position.batch] == 4


def test_a_step_is_reached_by_its_number(run):
    s = Session.open(run)
    assert s.seek("step 8 t2").batch == 2
    assert s.position.t == 1
    for number in s.steps:
        assert s.steps[s.seek(f"step {number}").batch] == number
        assert s.position.tick <= s.seek(f"step {number} t1").tick
    for place, words in (
        ("step 9", "step 9 was not recorded; next to it are 8 and 12"),
        ("step 99", "step 99 was not recorded; next to it are 20"),
        ("step x", "a step is a whole number"),
        ("step 8 t9", "a timestep is at most 5"),
        ("nowhere", "write it as step 20 t1 or e3 b2 t1"),
    ):
        with pytest.raises(TuiGruError, match=words):
            s.seek(place)
    with pytest.raises(TuiGruError, match="is not a place in time"):
        Session().seek("step 3")
