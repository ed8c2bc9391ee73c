"""A killed training process: every step that was kept is in the recording and can be read."""

import os
import random
import signal
import sys
from contextlib import contextmanager
from pathlib import Path
from subprocess import PIPE, Popen

import pytest

from tui_gru.imported.recordings import open_recording

ROOT = Path(__file__).parents[2]
KILLS = 4  # `python -m tests.capture.test_kills 50` does more


@contextmanager
def running():
    """A process that starts a run for each folder it is given; see tests/capture/killed.py."""
    with Popen([sys.executable, "-m", "tests.capture.killed"], cwd=ROOT, stdin=PIPE, stdout=PIPE, text=True, bufsize=1) as process:
        yield process
        process.kill()


@pytest.fixture(scope="module")
def process():
    with running() as process:
        yield process


def kill(process, folder, after):
    """Kill a run after it has printed `after` steps, and return the number of the last printed one."""
    process.stdin.write(f"{folder}\n")
    run = int(process.stdout.readline())
    said = [int(process.stdout.readline()) for _ in range(after)]
    os.kill(run, signal.SIGKILL)
    said += map(int, iter(lambda: process.stdout.readline().rstrip(), "gone"))
    return said[-1]


def check(folder, last):
    """Check that every step up to the last one is recorded and complete."""
    recording = open_recording(folder)
    numbers = [step.number for step in recording.steps]
    assert numbers[: last + 1] == list(range(last + 1))
    assert len(numbers) <= last + 2  # one step may be kept whose number was not printed
    assert not recording.closed
    assert recording.damaged == ()
    for number in numbers:
        step = recording.load(number)
        assert (len(step.calls), step.updated) == (1, True)
    return len(numbers)


@pytest.mark.parametrize("seed", range(KILLS))
def test_no_kept_step_is_lost(process, tmp_path, seed):
    check(tmp_path / "run.gru", kill(process, tmp_path / "run.gru", random.Random(seed).randint(1, 40)))


if __name__ == "__main__":
    import tempfile

    total = 0
    with running() as process:
        for seed in range(int(sys.argv[1])):
            with tempfile.TemporaryDirectory() as place:
                folder = Path(place) / "run.gru"
                total += check(folder, kill(process, folder, random.Random(seed).randint(1, 40)))
    print(f"{sys.argv[1]} kills, {total} kept steps, 0 lost")
