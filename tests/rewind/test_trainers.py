"""The callbacks of trainers, with small trainers that call them as Lightning and the Trainer of Hugging Face do."""

import sys
import types

import pytest
import torch

import tui_gru
from tests.rewind.loops import Net, batches
from tests.rewind.test_rewind import is_same, outcome
from tui_gru.errors import TuiGruError


class Progress:
    """Counts batches, as the progress of Lightning does."""

    def __init__(self):
        self.current, self.is_last_batch = types.SimpleNamespace(ready=0, processed=0), False


class Optimization:
    def __init__(self, trainer):
        self.trainer, self.optim_progress = trainer, Progress()

    def run(self, optimizer, index, arguments):
        self.optim_progress.current.ready += 1
        x, y = arguments["batch"]
        loss = (self.trainer.module.net(x)[0] - y).pow(2).mean()
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.trainer.module.parameters(), 0.5)
        optimizer.step()
        self.trainer.losses.append(loss.item())


class LightningTrainer:
    """Calls a callback and runs an epoch loop, in the order in which Lightning does."""

    def __init__(self, callback, fails_at=None):
        self.callback, self.fails_at = callback, fails_at
        self.module = torch.nn.Module()
        self.module.net, self.module.automatic_optimization = Net(), True
        self.optimizers = [torch.optim.Adam(self.module.parameters(), 1e-2)]
        self.schedule = torch.optim.lr_scheduler.StepLR(self.optimizers[0], 1, 0.5)
        self.lr_scheduler_configs, self.losses = [types.SimpleNamespace(scheduler=self.schedule)], []
        self.fit_loop = types.SimpleNamespace(epoch_progress=Progress(), epoch_loop=self)
        self.batch_progress, self.automatic_optimization = Progress(), Optimization(self)

    @property
    def current_epoch(self):
        return self.fit_loop.epoch_progress.current.processed

    def _build_kwargs(self, arguments, batch, index):
        return {**arguments, "batch": batch, "batch_idx": index}

    def _num_ready_batches_reached(self):
        return self.batch_progress.current.ready == 5

    def update_lr_schedulers(self, interval, update_plateau_schedulers):
        if interval == "epoch":
            self.schedule.step()

    def fit(self):
        self.callback.on_train_start(self, self.module)
        for _ in range(3):
            for index, batch in enumerate(batches(5)):
                self.batch_progress.current.ready, self.batch_progress.is_last_batch = index + 1, index == 4
                self.callback.on_train_batch_start(self, self.module, batch, index)
                try:
                    if len(self.losses) == self.fails_at:
                        raise ZeroDivisionError("the batch is empty")
                    self.automatic_optimization.run(self.optimizers[0], index, self._build_kwargs({}, batch, index))
                except ZeroDivisionError as error:
                    self.callback.on_exception(self, self.module, error)
                    raise
                self.update_lr_schedulers("step", update_plateau_schedulers=False)
                if self._num_ready_batches_reached():
                    self.update_lr_schedulers("epoch", update_plateau_schedulers=False)
                self.callback.on_train_batch_end(self, self.module, None, batch, index)
            self.callback.on_train_epoch_end(self, self.module)
            self.fit_loop.epoch_progress.current.processed += 1
        self.callback.on_train_end(self, self.module)
        return [*self.losses, self.automatic_optimization.optim_progress.current.ready], self.module


class Accelerator:
    """Sets when gradients are whole, and clips them."""

    optimizer_step_was_skipped = False

    def __init__(self):
        self.gradient_state, self.whole = types.SimpleNamespace(_set_sync_gradients=self.set), False

    def set(self, whole):
        self.whole = whole

    def clip_grad_norm_(self, parameters, norm):
        assert self.whole
        torch.nn.utils.clip_grad_norm_(parameters, norm)


class FaceTrainer:
    """Calls callbacks and runs its loop in the order in which the Trainer of Hugging Face does; two batches are an update."""

    def __init__(self, callback):
        self.callback_handler, self.accelerator = types.SimpleNamespace(callbacks=[callback]), Accelerator()
        self.model = self.model_wrapped = Net()
        self.optimizer = torch.optim.AdamW(self.model.parameters(), 1e-2)
        self.schedule = torch.optim.lr_scheduler.LambdaLR(self.optimizer, lambda step: 0.9**step)
        self.args, self.losses = types.SimpleNamespace(max_grad_norm=0.5), []

    def call(self, event):
        more = {"model": self.model, "optimizer": self.optimizer, "lr_scheduler": self.schedule}
        for callback in self.callback_handler.callbacks:
            getattr(callback, event)(self.args, None, None, **more)

    def training_step(self, model, inputs, count):
        loss = (model(inputs["x"])[0] - inputs["y"]).pow(2).mean() / self.current_gradient_accumulation_steps
        loss.backward()
        return loss.detach()

    def train(self):
        self.call("on_train_begin")
        for _ in range(2):
            self.call("on_epoch_begin")
            parts = [{"x": x, "y": y} for x, y in batches(13)]
            for first in range(0, 13, 2):
                update = parts[first : first + 2]
                self.current_gradient_accumulation_steps = len(update)
                for place, inputs in enumerate(update):
                    self.accelerator.set(place == len(update) - 1)
                    if not place:
                        self.call("on_step_begin")
                    self.losses.append(self.training_step(self.model, inputs, len(update)).item())
                self.accelerator.clip_grad_norm_(self.model.parameters(), 0.5)
                self.optimizer.step()
                self.schedule.step()
                self.model.zero_grad()
                self.call("on_step_end")
            self.call("on_epoch_end")
        self.call("on_train_end")
        return self.losses, self.model


@pytest.fixture
def stand_ins(monkeypatch):
    """Modules under the names of both libraries, with the class of a callback that does nothing."""

    class Callback:
        pass

    lightning, inner = types.ModuleType("lightning"), types.ModuleType("lightning.pytorch")
    inner.Callback = lightning.pytorch = Callback
    transformers = types.ModuleType("transformers")
    transformers.TrainerCallback = type("TrainerCallback", (), {"on_epoch_end": lambda *arguments, **named: None})
    for module in (lightning, inner, transformers):
        monkeypatch.setitem(sys.modules, module.__name__, module)
    for name in ("lightning", "transformers"):
        monkeypatch.delitem(sys.modules, f"tui_gru.{name}", raising=False)
        monkeypatch.delattr(tui_gru, name, raising=False)
    yield
    for name in ("lightning", "transformers"):
        sys.modules.pop(f"tui_gru.{name}", None)
        vars(tui_gru).pop(name, None)


class Silent:
    """A callback that does nothing."""

    def __getattr__(self, name):
        return lambda *arguments, **named: None


def trials(seen):
    def attempt(run):
        again = run.again()
        seen.append((run.step, again.is_equal, len(again.losses), again.why))
        assert not run.again(rate=10, clip=0.01).is_equal
        assert run.again(edit=lambda names: 1 / 0).why.startswith("ZeroDivisionError in step")
        run.again(seed=7, skip=run.step)
        assert len(run.rates()) == 7
        assert len(run.session().steps) == len(again.losses)

    return attempt


@pytest.mark.usefixtures("stand_ins")
def test_batches_of_lightning_are_tried_and_the_training_goes_on_as_if_nothing_was():
    seen = []
    plain = outcome(lambda wrap: LightningTrainer(Silent()).fit(), None)
    watched = outcome(lambda wrap: LightningTrainer(tui_gru.lightning.Steps(screen=False)).fit(), None)
    steps = tui_gru.lightning.Steps(pause=[4, 8], keep=6, screen=trials(seen))
    tried = outcome(lambda wrap: LightningTrainer(steps).fit(), None)
    assert seen == [(4, True, 4, ""), (8, True, 6, "")]  # the second one over the end of an epoch
    assert is_same(plain, watched)
    assert is_same(plain, tried)
    assert steps.run.step == 15


@pytest.mark.usefixtures("stand_ins")
def test_updates_of_transformers_are_tried_and_the_training_goes_on_as_if_nothing_was():
    seen = []
    plain = outcome(lambda wrap: FaceTrainer(Silent()).train(), None)
    watched = outcome(lambda wrap: FaceTrainer(tui_gru.transformers.Steps(screen=False)).train(), None)
    tried = outcome(lambda wrap: FaceTrainer(tui_gru.transformers.Steps(pause=[4, 9], keep=6, screen=trials(seen))).train(), None)
    assert seen == [(4, True, 4, ""), (9, True, 6, "")]
    assert is_same(plain, watched)
    assert is_same(plain, tried)


@pytest.mark.usefixtures("stand_ins")
def test_a_trainer_that_fails_has_its_last_steps_recorded(tmp_path):
    steps = tui_gru.lightning.Steps(record=str(tmp_path / "run.gru"), every=100, screen=False)
    with pytest.raises(ZeroDivisionError):
        LightningTrainer(steps, fails_at=7).fit()
    session = tui_gru.Session.open(tmp_path / "run.gru")
    assert [int(str(step)) for step in session.steps][:7] == [1, 2, 3, 4, 5, 6, 7]


@pytest.mark.usefixtures("stand_ins")
def test_what_is_no_trainer_and_what_is_missing_is_said(monkeypatch):
    steps = tui_gru.transformers.Steps(screen=False)
    with pytest.raises(TuiGruError, match="is a callback of a Trainer"):
        steps.on_train_begin(None, None, None, model=None, optimizer=None, lr_scheduler=None)
    with pytest.raises(TuiGruError, match="keep must be a whole number"):
        tui_gru.lightning.Steps(keep=0)
    for name, cure in (("lightning", "pip install lightning"), ("transformers", "pip install transformers accelerate")):
        monkeypatch.setitem(sys.modules, name, None)
        monkeypatch.setitem(sys.modules, "lightning.pytorch", None)
        monkeypatch.setitem(sys.modules, "pytorch_lightning", None)
        sys.modules.pop(f"tui_gru.{name}", None)
        vars(tui_gru).pop(name, None)
        with pytest.raises(TuiGruError, match=cure):
            getattr(tui_gru, name)
