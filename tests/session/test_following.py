"""A recording is followed while another process writes it: new steps appear, and the place stays unless it is the end."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import nn

import tui_gru
from tests.terminal import Terminal
from tests.tui.test_main_screen import driving_app
from tui_gru.cli.commands import main
from tui_gru.session.opening import on_recording, with_newer_steps
from tui_gru.session.session import Session
from tui_gru.tui import screen as screens
from tui_gru.tui.app import make_app

T, B, IN, H = 4, 2, 3, 4


class Writer:
    """A script that trains and records, step by step."""

    def __init__(self, folder: Path, **options: object) -> None:
        torch.manual_seed(1)
        self.folder, self.model = folder, nn.GRU(IN, H)
        self.optimizer = torch.optim.SGD(self.model.parameters(), 0.1)
        self.recorder = tui_gru.record(folder, self.model, self.optimizer, **{"every": 1, **options})  # type: ignore[arg-type]

    def train(self, steps: int = 1, loss: float = 1.0) -> None:
        for _ in range(steps):
            self.optimizer.zero_grad()
            self.model(torch.randn(T, B, IN))[0].sum().backward()
            self.optimizer.step()
            self.recorder.step(loss)


@pytest.fixture
def writer(tmp_path: Path) -> Iterator[Writer]:
    writer = Writer(tmp_path / "run.gru")
    writer.train(3)
    yield writer
    writer.recorder.close()


def newer(s: Session) -> tuple[Session, str] | None:
    assert s.config.source.newer is not None  # type: ignore[attr-defined]
    found = s.config.source.newer()  # type: ignore[attr-defined]
    return None if found is None else (with_newer_steps(s, found[0]), found[1])


def test_new_steps_appear_and_the_place_stays(writer: Writer) -> None:
    s = on_recording(writer.folder, follow=True)
    assert s.notice == "3 of 3 steps were kept; it is followed: newer steps appear when they are written"
    assert newer(s) is None
    s.seek("step 1 t2")
    s.mark("a", "here")
    s.break_at("z")
    place, z = s.position, s.value("z").copy()
    writer.train(2)
    found = newer(s)
    assert found is not None
    again, words = found
    assert words == "2 new steps, up to step 4"
    assert (again.steps, again.position) == ((0, 1, 2, 3, 4), place)
    assert (again.value("z") == z).all()
    assert again.state.stops == s.state.stops
    assert again.state.marks.get("a").text == "here"
    assert newer(again) is None
    writer.recorder.close()
    assert newer(again) is None


def test_at_the_end_one_goes_along(writer: Writer) -> None:
    s = on_recording(writer.folder, follow=True)
    s.seek(s.end)
    writer.train()
    writer.recorder.close()
    found = newer(s)
    assert found is not None
    again, words = found
    assert words == "1 new step, up to step 3; the recording is complete"
    assert again.end is not None
    assert again.position.tick == again.end.tick
    assert again.position.batch == 3


def test_steps_that_come_between_do_not_move_the_place(tmp_path: Path) -> None:
    """A spike writes the steps before it, which were held in memory."""
    writer = Writer(tmp_path / "run.gru", every=4, last=3, on="loss > 9")
    writer.train(6)
    s = on_recording(writer.folder, follow=True)
    assert s.steps == (0, 4)
    s.seek("step 4 t3")
    s.mark("b")
    h = s.value("h").copy()
    writer.train(1, loss=10.0)
    found = newer(s)
    assert found is not None
    again, _ = found
    assert again.steps == (0, 3, 4, 5, 6)
    writer.recorder.close()
    assert (again.value("h") == h).all()
    for position in (again.position, again.state.timeline.position(again.state.marks.get("b").tick)):
        assert (again.config.source.step(position.batch), position.t) == ("step 4", 2)


def test_a_session_with_changes_keeps_its_steps(writer: Writer) -> None:
    s = on_recording(writer.folder, follow=True)
    s.seek("step 1 t2")
    s.edit("h", (0, 0), 0.5)
    writer.train()
    with pytest.raises(tui_gru.TuiGruError, match="since this session has changes; undo them, or open the recording again"):
        newer(s)


def test_other_modules_are_followed_as_well(tmp_path: Path) -> None:
    from tests.session.test_several_modules import recorded
    from tui_gru.session.opening import other_module

    s = other_module(on_recording(recorded(tmp_path), follow=True))
    assert s.config.source.newer is not None  # type: ignore[attr-defined]


async def test_the_screen_shows_new_steps(writer: Writer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(screens, "FOLLOWED", 0.02)
    session = on_recording(writer.folder, follow=True)
    async with driving_app(make_app(session), (100, 30)) as d:
        await d.type("n", "n", "s")
        assert d.screen.session is session
        await d.type(":")
        writer.train(2)
        for _ in range(20):
            await d.pilot.pause(0.02)
        assert d.screen.session is session  # while something is typed, the screen stays
        await d.type("escape")
        begun = time.monotonic()
        while d.screen.session is session and time.monotonic() - begun < 20:
            await d.pilot.pause(0.02)
        assert d.screen.session.steps == (0, 1, 2, 3, 4)
        assert d.says == "2 new steps, up to step 4"
        assert (d.screen.session.position.batch, d.screen.session.position.t) == (2, 0)
        await d.type("n", "n")
        assert d.screen.session.position.batch == 3


def test_only_a_recording_is_followed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    torch.save(nn.GRU(IN, H).state_dict(), tmp_path / "model.pt")
    assert main(["open", str(tmp_path / "model.pt"), "--follow"]) == 2
    assert "--follow: " in (said := capsys.readouterr().err)
    assert "does not grow: it is no folder of a recording; leave the option out" in said


def test_nobody_waits_for_a_recording_that_ended_without_a_step(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Writer(tmp_path / "run.gru").recorder.close()
    assert main(["open", str(tmp_path / "run.gru"), "--follow"]) == 2
    said = capsys.readouterr().err
    assert "no step was kept in it" in said
    assert "waiting" not in said


SCRIPT = """
import sys, time, torch, tui_gru
model = torch.nn.GRU(3, 4)
recorder = tui_gru.record(sys.argv[1], model, every=1)
print("begun", flush=True)
for line in sys.stdin:
    model(torch.randn(4, 2, 3))[0].sum().backward()
    recorder.step(1.0)
    print("done", flush=True)
"""


def test_another_process_writes_and_is_killed(tmp_path: Path) -> None:
    """In a terminal: it waits for the first step, shows the next, and stays when the writer dies."""
    folder = tmp_path / "run.gru"
    command = [sys.executable, "-c", SCRIPT, str(folder)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as script:
        assert script.stdin is not None
        assert script.stdout is not None
        assert script.stdout.readline() == "begun\n"
        terminal = Terminal("open", str(folder), "--follow")
        try:
            terminal.wait("waiting for the first step of")
            for words in ("step 0", "1 new step, up to step 1"):
                script.stdin.write("\n")
                script.stdin.flush()
                assert script.stdout.readline() == "done\n"
                terminal.wait(words)
            script.send_signal(signal.SIGKILL)
            script.wait()
            for key in "Nnn":
                terminal.type(key)
            terminal.wait("step 1")
            terminal.type("q")
            assert terminal.wait_for_the_end() == 0
        finally:
            terminal.close()
            script.kill()
