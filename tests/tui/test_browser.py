"""The debugger in a browser: under Textual's web driver and, if both are installed, in a headless Chromium."""

from __future__ import annotations

import asyncio
import json
import os
import select
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyte
import pytest

from tests.process import PROGRAM, process
from tui_gru import Session, TuiGruError
from tui_gru.cli.program import main
from tui_gru.debugger.storage.store import automatic_folder, session_path

PATIENCE = 60  # seconds until a missing event is given up
DRIVER = "textual.drivers.web_driver:WebDriver"
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


class Served:
    """The program as a server of Textual starts it, with packets for its input and output."""

    def __init__(self, *arguments: str) -> None:
        environment = {name: value for name, value in os.environ.items() if name != "TERM"}
        environment |= {"TEXTUAL_DRIVER": DRIVER, "COLUMNS": "100", "ROWS": "30", "LC_ALL": "C.UTF-8"}
        self.process = subprocess.Popen(
            [*PROGRAM, *arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment
        )
        self._screen = pyte.Screen(100, 30)
        self._stream, self._data, self.told = pyte.ByteStream(self._screen), b"", []

    def send(self, kind: bytes, payload: bytes) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(kind + len(payload).to_bytes(4, "big") + payload)
        self.process.stdin.flush()

    def wait(self, done: Callable[[], Any]) -> None:
        deadline = time.monotonic() + PATIENCE
        while not done():
            assert time.monotonic() < deadline, "\n".join(self._screen.display)
            self._read()

    def shows(self, text: str) -> None:
        self.wait(lambda: text in "\n".join(self._screen.display))

    def _read(self) -> None:
        assert self.process.stdout is not None
        if not select.select([self.process.stdout], [], [], 0.05)[0]:
            return
        self._data += os.read(self.process.stdout.fileno(), 65536)
        self._data = self._data.removeprefix(b"__GANGLION__\n")
        while len(self._data) >= 5 and len(self._data) >= 5 + (size := int.from_bytes(self._data[1:5], "big")):
            kind, payload, self._data = self._data[:1], self._data[5 : 5 + size], self._data[5 + size :]
            if kind == b"D":
                self._stream.feed(payload)
            else:
                self.told.append(json.loads(payload))


@pytest.fixture
def served() -> Iterator[Served]:
    program = Served()
    with program.process:
        yield program
        program.process.kill()


def test_it_runs_under_the_driver_that_textual_names(served: Served) -> None:
    served.shows("training loop")
    served.send(b"D", b"s")
    served.shows("epoch 1 · batch 1/3 · t 1/3 · forward")
    served.send(b"M", json.dumps({"type": "resize", "width": 80, "height": 24}).encode())
    served.send(b"D", b"n\x1bq")
    served.wait(lambda: served.process.poll() is not None)
    served.wait(lambda: {"type": "exit"} in served.told)
    assert served.process.returncode == 0
    assert served.process.stderr is not None
    assert served.process.stderr.read() == b""


def test_it_ends_with_the_page(served: Served) -> None:
    served.shows("training loop")
    served.send(b"M", json.dumps({"type": "quit"}).encode())
    served.wait(lambda: served.process.poll() is not None)
    assert served.process.returncode == 0


def test_it_ends_with_the_server(served: Served) -> None:
    served.shows("training loop")
    served.send(b"D", b"s")
    served.shows("t 1/3 · forward")
    for pipe in (served.process.stdin, served.process.stdout):
        assert pipe is not None
        pipe.close()
    assert served.process.wait(PATIENCE) == 0
    assert served.process.stderr is not None
    assert served.process.stderr.read() == b""
    (session,) = automatic_folder().iterdir()  # closed: there is no log beside it
    assert Session.open(session).position.tick == 9


def is_one_line(error: str, named: str) -> bool:
    return error.count("\n") == 1 and error.startswith(f"tui-gru: TEXTUAL_DRIVER is {named!r}, which cannot be loaded: ")


def test_a_driver_that_there_is_not_is_one_line() -> None:
    done = process(env=os.environ | {"TEXTUAL_DRIVER": "nosuchmodule:Driver"})
    assert (done.returncode, done.stdout) == (2, "")
    assert is_one_line(done.stderr, "nosuchmodule:Driver")


@pytest.mark.parametrize("named", ["", "nosuchmodule:Driver", "textual.app:App", "textual.drivers.web_driver:Nothing", "os"])
def test_so_is_every_name_of_no_driver(named: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("TEXTUAL_DRIVER", named)
    monkeypatch.setattr("textual.constants.DRIVER", named)  # read from the environment when Textual was imported
    assert main([]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert is_one_line(said.err, named)


# In Chromium


class Page:
    """A page of a headless Chromium, driven over its DevTools protocol."""

    def __init__(self, socket: Any) -> None:
        self._socket, self._sent = socket, 0

    async def __call__(self, method: str, **parameters: Any) -> Any:
        self._sent += 1
        await self._socket.send_json({"id": self._sent, "method": method, "params": parameters})
        while (answer := await self._socket.receive_json()).get("id") != self._sent:
            pass
        return answer["result"]

    async def value(self, expression: str) -> Any:
        return (await self("Runtime.evaluate", expression=expression))["result"].get("value")

    async def until(self, expression: str) -> None:
        async with asyncio.timeout(PATIENCE):
            while not await self.value(expression):
                await asyncio.sleep(0.1)

    async def type(self, key: str) -> None:
        code = {"windowsVirtualKeyCode": ord(key.upper()), "key": key}
        await self("Input.dispatchKeyEvent", type="keyDown", text=key, **code)
        await self("Input.dispatchKeyEvent", type="keyUp", **code)


@pytest.fixture
def url() -> Iterator[str]:
    """The address at which `textual serve` offers the debugger, on a session named `web`."""
    pytest.importorskip("textual_serve", reason="textual-serve is not installed")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    code = f"from textual_serve.server import Server; Server({' '.join(PROGRAM)!r} + ' --session web', '127.0.0.1', {port}).serve()"
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as server:
        yield f"http://127.0.0.1:{port}"
        server.send_signal(signal.SIGTERM)


@pytest.fixture
def chromium(tmp_path: Path) -> Iterator[Callable[[], str]]:
    """The DevTools address of a headless Chromium that connects to no other host."""
    if CHROMIUM is None:
        pytest.skip("Chromium is not installed")
    options = "headless no-sandbox disable-gpu no-first-run disable-background-networking disable-component-update disable-sync"
    arguments = [f"--{option}" for option in options.split()]
    arguments += [
        "--remote-debugging-port=0",
        f"--user-data-dir={tmp_path}",
        "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
    ]
    told = tmp_path / "DevToolsActivePort"
    with subprocess.Popen([CHROMIUM, *arguments], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as browser:
        yield lambda: told.read_text().splitlines()[0] if told.exists() else ""
        browser.kill()


async def test_in_a_browser_keys_lead_where_they_do_in_a_terminal(url: str, chromium: Callable[[], str]) -> None:
    import aiohttp

    async with asyncio.timeout(3 * PATIENCE), aiohttp.ClientSession() as http:
        while not (port := chromium()):
            await asyncio.sleep(0.1)
        async with http.put(f"http://127.0.0.1:{port}/json/new?about:blank") as answer:
            where = (await answer.json())["webSocketDebuggerUrl"]
        async with http.ws_connect(where, max_msg_size=0) as connection:
            page = Page(connection)
            while not await serves(http, url):
                await asyncio.sleep(0.1)
            await page("Page.navigate", url=url)
            await page.until("document.body?.classList.contains('-first-byte')")
            await page.value("document.querySelector('textarea').focus()")
            await page.type("s")
            while left_at() != 9:  # the lines of a timestep
                await asyncio.sleep(0.1)
            await page.type("q")
            await page.until("document.body.classList.contains('-closed')")


async def serves(http: Any, url: str) -> bool:
    import aiohttp

    try:
        async with http.get(url) as answer:
            return bool(answer.ok)
    except aiohttp.ClientConnectionError:
        return False


def left_at() -> int | None:
    """Return the position of the browser's session; None if there is none yet."""
    try:
        return Session.open(session_path("web")).position.tick
    except TuiGruError:
        return None
