"""Time from the start to the drawing of the first step, compared with the first paint of an empty Textual app; and the memory used.

    python -m tests.benchmarks.start

All are started in turn, in fresh processes, headless; the medians and their ratios are printed. Once the step is recorded, as it is
from the command line, with the file begun, closed and put away; once it is not. All are compiled beforehand, as what is installed
is, even where PYTHONDONTWRITEBYTECODE would have this program, and not Textual, compiled anew at every start.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time

BARE = """
from textual.app import App
from textual.widgets import Static
class Bare(App):
    def compose(self):
        yield Static("hello")
    def on_ready(self):
        self.call_after_refresh(self.exit)
Bare().run(headless=True)
"""
OURS = """
import gc, os
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # as tui_gru.__main__ does
gc.disable()  # as tui_gru.cli.options.open_debugger does
from tui_gru.engine.config import Config
from tui_gru.tui.app import make_app, new_session
from tui_gru.tui.keys import Step
app = make_app(new_session(Config.of(), record=RECORD))
def step_and_leave():
    app.screen.play.walk(Step("timestep", 1))
    app.screen.call_after_refresh(lambda: app.call_after_refresh(app.exit))
app.call_after_refresh(step_and_leave)
app.run(headless=True)
import sys
assert "torch" not in sys.modules
assert ("sqlite3" in sys.modules) is (app.main.session.recording is not None) is RECORD
print(int(open("/proc/self/status").read().split("VmRSS:")[1].split()[0]) / 1024)
"""
ROUNDS = 9


def once(program: str, compiled: str) -> tuple[float, str]:
    """Return the seconds that a fresh process of a program takes, and its output. Bytecode is stored in the folder `compiled`."""
    with tempfile.TemporaryDirectory() as state:
        environment = {**os.environ, "XDG_STATE_HOME": state, "PYTHONPYCACHEPREFIX": compiled}
        environment.pop("PYTHONDONTWRITEBYTECODE", None)
        begun = time.perf_counter()
        done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, env=environment)
        return time.perf_counter() - begun, done.stdout.strip()


def main() -> None:
    programs = {"bare": BARE, "plain": OURS.replace("RECORD", "False"), "recorded": OURS.replace("RECORD", "True")}
    times: dict[str, list[float]] = {name: [] for name in programs}
    memory = 0.0
    with tempfile.TemporaryDirectory() as compiled:
        for program in programs.values():  # compile, and fill the disk cache
            once(program, compiled)
        for _ in range(ROUNDS):
            for name, program in programs.items():
                seconds, printed = once(program, compiled)
                times[name].append(seconds)
                memory = max(memory, float(printed.splitlines()[-1])) if printed else memory
    bare, plain, recorded = (statistics.median(each) for each in times.values())
    print(f"bare Textual app {bare:.3f} s, first step done {plain:.3f} s, ratio {plain / bare:.2f} (at most 2)")
    print(f"the same with the step recorded {recorded:.3f} s, ratio {recorded / bare:.2f}")
    print(f"memory {memory:.0f} MB (at most 80)")


if __name__ == "__main__":
    main()
