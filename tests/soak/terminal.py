"""Random bytes and keys sent to the program in a pseudo-terminal: it ends only on request, and prints no traceback.

python -m tests.soak.terminal --count 100000 --seed 0

A block is one program, which receives some hundred keys, clicks, commands, bytes and sizes, and must then respond and quit. The
input of a block with a finding is saved in a file. Blocks with even numbers have no bytes that a keyboard does not send. Some
programs have a shell, which continues them at once when ctrl+z stops them; the others are alone in their terminal.
"""

from __future__ import annotations

import os
import random
import re
import signal
import tempfile
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

from tests.soak.blocks import run_blocks
from tests.terminal import SLOWER, Terminal
from tui_gru import Session

TYPED = 1000  # keys and bytes of a block
ANSWER = 30.0 * SLOWER  # seconds that the program may take to redraw the screen, or to end
MEMORY = 2**20  # KiB

PROGRAMS = (
    (),
    ("--text", "hello world, hello", "--hidden-size", "3", "--learn"),
    ("--carry", "notebook", "--ascii"),
    ("--text", "a\u0301b[c]d\\e日本 " * 3, "--theme", "whiteboard"),
    ("--hidden-size", "40", "--reset", "after", "--history-memory", "1M"),
)
SIZES = ((100, 30), (160, 50), (80, 24), (40, 12), (10, 3), (200, 60), (1, 1))
LETTERS = "osneafgcbBtwmxzvrRiklpuUJOSNEFGCT=[]'.:+-? 0123456789jhMad,;/\\\"$%&(){}<>|^_`~@!*"
CONTROLS = [chr(code) for code in range(32) if code not in (0x11, 0x1B)] + ["\x7f"]  # ctrl+q quits
SEQUENCES = [f"\x1b[{end}" for end in "ABCDHFZ"] + [f"\x1b[{n}~" for n in (1, 2, 3, 4, 5, 6, 15, 24)] + ["\x1b", "\x1b", "\x1bOP"]
VERBS = """
    step go until back break watch stops delete enable disable continue reverse mark jump marks sgd learning set why what-if sample
    check undo redo branches branch compare rename delete-branch theme help save open export export! foo
""".split()  # noqa: SIM905
WORDS = """
    1 -3 0 99999 9999999999 1e400 nan e3 b2 t1 50% +100 -2e x Wz[0,1] Wz[,] Wz[9,9] h[1,0] h z loss dWz[0,0] text[3] a learning_rate
    0.5 Ma 10 tutorial main main~1 every on off if any(h>0.5) prev(loss) log {loss} hits %5 stop copy . / ~ ~nosuchuser/x here.txt
    here.tex here.svg t 2 é \u0301 日本 [red] '' line timestep phase batch epoch
""".split()  # noqa: SIM905


def typed(chance: random.Random, any_bytes: bool) -> bytes:
    """Return random input: typed, clicked, pasted, or damaged."""

    def mouse() -> str:
        button, x, y = chance.choice((0, 0, 2, 32, 35, 64, 65)), chance.randrange(1, 170), chance.randrange(1, 55)
        return f"\x1b[<{button};{x};{y}{chance.choice('Mm')}"

    def command() -> str:
        return " ".join([f":{chance.choice(VERBS)}", *chance.choices(WORDS, k=chance.randrange(4))]) + chance.choice("\r\r\r\t\x1b")

    kinds: list[Callable[[], str]] = [
        lambda: chance.choice(LETTERS),
        lambda: chance.choice(LETTERS),
        lambda: chance.choice(LETTERS) * chance.randrange(1, 30),
        lambda: chance.choice(CONTROLS),
        lambda: chance.choice(SEQUENCES),
        mouse,
        command,
        lambda: f"\x1b[200~{''.join(chance.choices(WORDS, k=5))}\n\x1b[201~",
    ]
    odd: list[Callable[[], bytes]] = [
        lambda: chance.randbytes(chance.randrange(1, 40)),
        lambda: b"\x1b[" + bytes(chance.choices(b"0123456789;:<>?=~ABMmuRt\x1b", k=chance.randrange(1, 25))),
        lambda: b"\x1b" + bytes(chance.choices(b"[]OP_X^\\c78", k=3)),
        lambda: bytes(chance.choices(b"\xff\xe9\xc3\x80\xf0\x9f", k=3)),
    ]
    written = chance.choice(odd)() if any_bytes and chance.random() < 0.4 else chance.choice(kinds)().encode()
    return bytes(byte for byte in written if byte not in b"q\x11")


def resized(terminal: Terminal, columns: int, rows: int) -> None:
    terminal.resize(columns, rows)
    terminal.rest(0.05)


def storm(terminal: Terminal, chance: random.Random, sent: bytearray, *, any_bytes: bool) -> None:
    """Type random input at random speed while the window changes its size."""
    while len(sent) < TYPED and terminal.process.poll() is None:
        written = typed(chance, any_bytes)
        sent += written
        terminal.send(written)
        if chance.random() < 0.3:
            terminal.rest(chance.choice((0.0, 0.01, 0.05)))
        if chance.random() < 0.03:
            resized(terminal, *chance.choice(SIZES))


def answers(terminal: Terminal) -> bool:
    """Return True if the program still draws after all input has been handled, at another size."""
    terminal.send(b"\x1b[201~")  # ends a paste that may have begun
    deadline = time.monotonic() + ANSWER
    size = 0
    while time.monotonic() < deadline:
        terminal.send(b"\x1b")
        before = len(terminal.output)
        size = 1 - size
        resized(terminal, 100 + size, 30)
        terminal.rest(0.5)
        if len(terminal.output) - before > 1000:
            return True
    return False


def quits(terminal: Terminal) -> bool:
    deadline = time.monotonic() + ANSWER
    while terminal.process.poll() is None and time.monotonic() < deadline:
        terminal.send(b"\x1b")
        terminal.rest(0.3)
        terminal.send(b"q")
        terminal.rest(0.5)
    return terminal.process.poll() is not None


def peak(terminal: Terminal) -> int:
    """Return the largest memory use of the program in KiB; 0 if this system does not report it."""
    status = Path(f"/proc/{terminal.pid}/status")
    lines = status.read_text(encoding="utf-8").splitlines() if status.exists() else []
    return next((int(line.split()[1]) for line in lines if line.startswith("VmHWM")), 0)


def faults(terminal: Terminal, folder: Path) -> list[str]:
    """Return the faults after the storm."""
    found = []
    ended = terminal.process.poll() is not None
    if not ended:
        if not answers(terminal):
            found.append(f"does not draw within {ANSWER:.0f} s")
        if (most := peak(terminal)) > MEMORY:
            found.append(f"took {most >> 10} MiB")
        if not quits(terminal):
            found.append("does not quit")
            os.kill(terminal.pid, signal.SIGTERM)
            terminal.rest(15 * SLOWER)
            if terminal.process.poll() is None:
                before = len(terminal.output)
                os.kill(terminal.pid, signal.SIGABRT)  # Python prints the stacks of its threads
                terminal.rest(1)
                at = terminal.output[before:].decode(errors="replace")
                return [*found, f"does not end with SIGTERM within {15 * SLOWER} s:\n{at}"]
    said = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", terminal.output.decode(errors="replace"))
    if terminal.process.returncode not in (0, 128 + signal.SIGTERM) or "Traceback" in said:
        found.append(f"ended with the code {terminal.process.returncode}:\n{said[-4000:]}")
    if not terminal.restored():
        found.append("left the terminal as it was not")
    state = folder / "state" / "tui-gru"
    reports = [each for each in state.rglob("*") if each.is_file() and "sessions" not in each.relative_to(state).parts]
    found += [f"a report, {each.name}: {each.read_text('utf-8', 'replace')[-3000:]}" for each in reports]
    for path in state.rglob("*.tui-gru"):
        try:
            Session.open(path)
        except Exception as error:
            found.append(f"left a session that does not open: {error!r}")
    return found


def block(seed: int) -> int:
    """Run one program from start to end. Returns the number of keys and bytes that it was sent."""
    chance, sent = random.Random(seed), bytearray()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        own = {f"XDG_{kind.upper()}_HOME": str(folder / kind) for kind in ("state", "config", "data", "cache")}
        own |= {"HOME": name, "PYTHONFAULTHANDLER": "1", "CONTINUES": "1"}
        os.chdir(folder)
        try:
            started = Terminal(*chance.choice(PROGRAMS), size=chance.choice(SIZES[:4]), shell=chance.random() < 0.5, **own)
            with closing(started) as terminal:
                terminal.wait(lambda: b"\x1b[?1049h" in terminal.output)
                terminal.rest(chance.random())
                storm(terminal, chance, sent, any_bytes=seed % 2 == 1)
                found = faults(terminal, folder)
        finally:
            os.chdir("/")
    if found:
        kept = Path(tempfile.gettempdir()) / f"tui-gru-soak-{seed}.keys"
        kept.write_bytes(sent)
        raise AssertionError(f"after {len(sent)} bytes, in {kept}, the last {bytes(sent[-60:])!r}:\n" + "\n".join(found))
    return len(sent)


if __name__ == "__main__":
    run_blocks(__doc__ or "", "keys and bytes", 10**5, block)
