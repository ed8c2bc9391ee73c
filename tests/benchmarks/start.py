"""From start to the first step drawn, against the first paint of a bare Textual app; and the memory of the running program.

    python -m tests.benchmarks.start

Both are started in turn, in fresh processes, headless; the medians and their ratio are printed.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
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
gc.disable()  # as tui_gru.cli.screen.open_debugger does
from tui_gru.engine.config import Config
from tui_gru.tui.app import make_app
app = make_app(Config.of())
def step_and_leave():
    app.screen.action_step("timestep", 1)
    app.screen.call_after_refresh(lambda: app.call_after_refresh(app.exit))
app.call_after_refresh(step_and_leave)
app.run(headless=True)
import sys
assert "torch" not in sys.modules
print(int(open("/proc/self/status").read().split("VmRSS:")[1].split()[0]) / 1024)
"""
ROUNDS = 9


def once(program: str) -> tuple[float, str]:
    """Seconds that a fresh process takes for a program, and what it prints."""
    begun = time.perf_counter()
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    return time.perf_counter() - begun, done.stdout.strip()


def main() -> None:
    once(BARE), once(OURS)  # warm the disk's cache
    bare, ours, memory = [], [], 0.0
    for _ in range(ROUNDS):
        bare.append(once(BARE)[0])
        seconds, printed = once(OURS)
        ours.append(seconds)
        memory = max(memory, float(printed.splitlines()[-1]))
    a, b = statistics.median(bare), statistics.median(ours)
    print(f"bare Textual app {a:.3f} s, first step done {b:.3f} s, ratio {b / a:.2f} (at most 2)")
    print(f"memory {memory:.0f} MB (at most 80)")


if __name__ == "__main__":
    main()
