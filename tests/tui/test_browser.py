"""The debugger in a browser: under Textual's web driver and, if both are installed, in a headless Chromium."""

from __future__ import annotations

import asyncio
import json
import os
import re
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
from tests.tui.test_main_screen import Driver, driving
from tui_gru import Session, TuiGruError
from tui_gru.cli.commands import main
from tui_gru.paths import SERVED_FOLDER, confine
from tui_gru.storage.store import automatic_folder, session_path, sessions_folder
from tui_gru.tui.app import TuiGruApp
from tui_gru.tui.command import complete
from tui_gru.tui.headless import until_idle
from tui_gru.tui.keys import execute

PATIENCE = 60  # seconds until a missing event is given up
DRIVER = "textual.drivers.web_driver:WebDriver"
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


class Served:
    """The program as a server of Textual starts it, with packets for its input and output."""

    def __init__(self, *arguments: str) -> None:
        environment = {name: value for name, value in os.environ.items() if name != "TERM"}
        environment |= {"TEXTUAL_DRIVER": DRIVER, "COLUMNS": "100", "ROWS": "30", "LC_ALL": "C.UTF-8", SERVED_FOLDER: os.curdir}
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
    served.shows("epoch 1  batch 1 of 3  t 1 of 3 ")
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
    served.shows("batch 1 of 3  t 1 of 3 ")
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


def test_a_python_without_terminals_does_not_blame_the_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TEXTUAL_DRIVER", raising=False)
    monkeypatch.setattr("textual.constants.DRIVER", None)
    monkeypatch.setitem(sys.modules, "textual.drivers.linux_driver", None)  # its import fails
    with pytest.raises(
        TuiGruError, match=r"^this Python cannot use the terminal: .*linux_driver.*; tui-gru run works without one$"
    ):
        TuiGruApp.get_driver_class(object.__new__(TuiGruApp))


def test_a_server_that_lets_every_page_in_is_refused() -> None:
    """`textual serve`, for example, which asks for no token."""
    done = process(env=os.environ | {"TEXTUAL_DRIVER": DRIVER})
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("tui-gru: ")
    assert "`tui-gru serve`" in done.stderr


# `tui-gru serve`


class Site:
    """A running `tui-gru serve`, which prints its address when it answers."""

    def __init__(self, *arguments: str, **options: Any) -> None:
        self.process = subprocess.Popen(
            [*PROGRAM, "serve", "--port", "0", *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options
        )
        assert self.process.stdout is not None
        self.printed = ""
        while "ctrl+c" not in self.printed:
            line = self.process.stdout.readline()
            assert line, self.process.stderr and self.process.stderr.read()
            self.printed += line
        (self.address,) = re.findall(r"http://\S+", self.printed)
        self.base, self.token = self.address.split("?token=")

    def close(self) -> int:
        """End it as ctrl+c does, and return its exit code."""
        self.process.send_signal(signal.SIGINT)
        self.process.communicate(timeout=PATIENCE)
        return self.process.returncode


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which pages may write, with a link that leads to another one."""
    folder = tmp_path_factory.mktemp("site")
    for name in ("course", "other", "state"):
        (folder / name).mkdir()
    (folder / "course" / "link").symlink_to(folder / "other")
    return folder


@pytest.fixture(scope="module")
def site(folders: Path) -> Iterator[Site]:
    """A server of one debugger at a time."""
    state = {"XDG_STATE_HOME": str(folders / "state"), "XDG_CONFIG_HOME": str(folders / "state" / "config")}
    site = Site("--debuggers", "1", "--hidden-size", "3", cwd=folders / "course", env=os.environ | state)
    try:
        yield site
        assert site.close() == 0
        assert [path.read_text() for path in folders.glob("state/tui-gru/reports/*")] == []
    finally:
        site.process.kill()
        site.process.communicate()


class Terminal:
    """The terminal of a page: what a debugger draws, over its socket."""

    def __init__(self, socket: Any) -> None:
        self._socket, self._screen = socket, pyte.Screen(100, 30)
        self._stream = pyte.ByteStream(self._screen)

    async def type(self, keys: str) -> None:
        await self._socket.send_json(["stdin", keys])

    async def shows(self, text: str) -> None:
        async with asyncio.timeout(PATIENCE):
            while text not in "\n".join(self._screen.display):
                message = await self._socket.receive()
                assert isinstance(message.data, bytes), "\n".join(self._screen.display)
                self._stream.feed(message.data)

    async def ends(self) -> None:
        """Quit, and wait until the server has closed the socket."""
        await self.type("q")
        async with asyncio.timeout(PATIENCE):
            while isinstance((await self._socket.receive()).data, bytes):
                pass


async def test_only_its_own_pages_with_the_token_are_let_in(site: Site) -> None:
    import aiohttp

    foreign = [{"Host": "evil.example"}, {"Host": f"evil.example:{site.base.split(':')[-1]}"}, {"Origin": "http://evil.example"}]
    foreign += [{"Origin": "null"}, {"Origin": "http://127.0.0.1"}, {"Origin": site.base.rstrip("/").replace("http", "https")}]
    async with aiohttp.ClientSession() as http:

        async def status(path: str, **headers: str) -> int:
            async with http.get(f"{site.base}{path}", headers=headers) as answer:
                assert answer.headers["Referrer-Policy"] == "no-referrer"
                return answer.status

        paths = (f"?token={site.token}", f"static/{site.token}/js/textual.js", f"ws?token={site.token}", f"ws/{site.token}")
        for headers in foreign:
            assert [await status(path, **headers) for path in paths] == [403] * 4, headers
        for token in ("", "wrong", site.token[:-1], f"{site.token}x", "%ff", site.token.swapcase()):
            paths = (f"?token={token}", f"ws?token={token}", f"ws/{token or 'none'}", f"static/{token or 'none'}/js/textual.js")
            assert [await status(path) for path in ("", "ws", *paths)] == [403] * 6, token
            with pytest.raises(aiohttp.WSServerHandshakeError):
                await http.ws_connect(f"{site.base}ws/{token or 'none'}")
        for headers in ({}, {"Origin": site.base.rstrip("/")}, {"Host": site.base[7:-1].replace("127.0.0.1", "localhost")}):
            paths = (f"?token={site.token}", f"static/{site.token}/js/textual.js", f"static/{site.token}/server.py")
            assert [await status(path, **headers) for path in paths] == [200, 200, 404]


async def test_a_page_has_its_debugger_and_one_too_many_is_told(site: Site) -> None:
    import aiohttp

    async with aiohttp.ClientSession() as http:
        async with http.get(site.address) as answer:
            page = await answer.text()
            assert "frame-ancestors 'none'" in answer.headers["Content-Security-Policy"]
        (socket_address,) = re.findall(r'data-session-websocket-url="(.*?)"', page)
        assert re.findall(r"(?:src|href|url)\W*(https?:)", page) == []  # nothing is loaded from elsewhere
        async with http.ws_connect(f"{socket_address}?width=100&height=30", origin=site.base.rstrip("/")) as socket_:
            terminal = Terminal(socket_)
            await terminal.shows("training loop")
            for path in (f"?token={site.token}", f"ws?token={site.token}"):
                async with http.get(f"{site.base}{path}") as answer:
                    assert answer.status == 503
                    assert "one debugger is open" in await answer.text()
            for other in ("[]", "[" * 100_000):  # messages of another form are ignored
                await socket_.send_str(other)
            await socket_.send_str('["resize", {"width": "wide"}]')
            await terminal.type("s")
            await terminal.shows("batch 1 of 3  t 1 of 3 ")
            await terminal.ends()
        async with http.get(site.address) as answer:
            assert answer.status == 200


async def test_a_page_writes_reads_and_lists_in_one_folder(site: Site, folders: Path) -> None:
    import aiohttp

    course, other = folders / "course", folders / "other"
    Session().save(other / "secret.tui-gru")
    async with aiohttp.ClientSession() as http, http.ws_connect(f"{site.base}ws/{site.token}?width=100&height=30") as socket_:
        terminal = Terminal(socket_)
        await terminal.shows("training loop")
        await terminal.type("s:export here.txt\r")
        await terminal.shows("wrote the screen to")
        for command in ("export! ../other/x.txt", f"export {other / 'y.txt'}", "export link/z.txt", "save ../other/w.tui-gru"):
            await terminal.type(f":{command}\r")
            await terminal.shows("is outside of")
            await terminal.type("o\x1b")
        await terminal.type(":open link/secret.tui-gru\r")
        await terminal.shows("is outside of")
        await terminal.type("o:save walk\r")
        await terminal.shows("saved to")
        await terminal.ends()
    assert sorted(path.name for path in course.iterdir()) == ["here.txt", "link", "walk.tui-gru"]
    assert [path.name for path in other.iterdir()] == ["secret.tui-gru"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ("--port x", "--port: 'x' is not a whole number"),
        ("--port 65536", "--port: '65536' is not a port"),
        ("--folder nowhere", "--folder: there is no folder nowhere"),
        ("--debuggers 0", "--debuggers: at least 1"),
        ("--hidden-size 0", "--hidden-size must be at least 1"),
        ("-- open nothing.pt", "nothing.pt: it cannot be opened"),
        ("-- trace", "these arguments open no debugger"),
        ("--prot 8000", "--port"),
    ],
)
def test_a_server_that_cannot_start_says_why(arguments: str, said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["serve", *arguments.split()]) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.count("\n") == 1
    assert said in printed.err


def test_a_port_in_use_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        assert main(["serve", "--port", str(taken.getsockname()[1])]) == 2
    error = capsys.readouterr().err
    assert error.startswith("tui-gru: --port: ")
    assert error.count("\n") == 1


def test_without_the_extra_the_install_is_said(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setitem(sys.modules, "aiohttp", None)
    monkeypatch.delitem(sys.modules, "tui_gru.cli.serving", raising=False)
    assert main(["serve"]) == 2
    assert capsys.readouterr().err == "tui-gru: a browser needs textual-serve: pip install 'tui-gru[serve]'\n"


# In a confined process


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """The folder that this process is confined to. It has a session, and links that lead out of it and within it."""
    (tmp_path / "own" / "sub").mkdir(parents=True)
    Session().save(tmp_path / "secret.tui-gru")
    Session().save(tmp_path / "own" / "lesson.tui-gru")
    Session().save(sessions_folder() / "mine.tui-gru")
    (tmp_path / "own" / ".hidden.txt").write_text("settings")
    for name, target in {"out.tui-gru": "../secret.tui-gru", "up": "..", "in": "sub"}.items():
        (tmp_path / "own" / name).symlink_to(target)
    confine(tmp_path / "own")
    yield tmp_path / "own"
    confine(None)


OUTSIDE = ("../x", "sub/../../x", "up/x", "{outside}/x", "~/x", "/x", "in/../../x")
WRITING = (("export", "svg"), ("export!", "txt"), ("save", "tui-gru"), ("save!", "tui-gru"))


async def answer(d: Driver, command: str) -> str:
    """Execute a command of the `:` line, and return its answer or error."""
    try:
        execute(d.screen, command)
    except TuiGruError as error:
        return str(error)
    await until_idle(d.pilot)
    await d.pilot.pause()
    return d.says


async def test_no_verb_writes_outside(folder: Path) -> None:
    before = sorted(folder.parent.rglob("*"))
    async with driving() as d:
        await d.type("s")
        commands = [f"{verb} {path}.{suffix}" for path in OUTSIDE for verb, suffix in WRITING]
        for command in (*commands, "save! out", "save! ./out.tui-gru", "save! mine/../../mine.tui-gru"):
            assert "is outside of" in await answer(d, command.format(outside=folder.parent)), command
        for command in ("export .bashrc.txt", "export sub/.x.txt", "save! ./.hidden.txt", "export! ./.hidden.txt"):
            assert "is a hidden file" in await answer(d, command), command
        assert sorted(folder.parent.rglob("*")) == before
        assert "wrote the screen to" in await answer(d, "export in/a.txt")
        assert "saved to" in await answer(d, "save walk")
        assert "saved to" in await answer(d, "save sub/b.tui-gru")
    new = {path.relative_to(folder).as_posix() for path in {*folder.parent.rglob("*")} - {*before}}
    assert new == {"sub/a.txt", "walk.tui-gru", "sub/b.tui-gru"}


async def test_no_verb_reads_or_lists_outside(folder: Path) -> None:
    async with driving() as d:
        for name in ("../secret.tui-gru", "out", "./out.tui-gru", "up/secret.tui-gru", f"{folder.parent}/secret.tui-gru copy"):
            assert "is outside of" in await answer(d, f"open {name}"), name
        assert "there is no" in await answer(d, "open mine")  # it is one of the user's own sessions
        assert d.session is d.screen.session

        def listed(typed: str) -> list[str]:
            return [each.text for each in complete(d.screen, typed).candidates]

        assert listed("export ") == ["in/", "lesson.tui-gru", "sub/"]
        assert [listed(f"export {path}") for path in ("../", "up/", f"{folder.parent}/", "/", "~/", "sub/../../")] == [[]] * 6
        assert listed("open ") == ["last", "lesson"] or listed("open ") == ["lesson", "last"]
        assert listed("open ./") == ["./in/", "./lesson.tui-gru", "./sub/"]
        assert "is outside of" in complete(d.screen, "export ../secret.txt").verb.words
        await answer(d, "open last")
        assert d.screen.session.recorder.opened_from == folder / "lesson.tui-gru"


def test_a_confined_library_uses_no_other_files(folder: Path) -> None:
    outside = folder.parent / "secret.tui-gru"
    session = Session.open(folder / "lesson.tui-gru")
    for use in (Session.open, session.save, session.record_to):
        for path in (outside, folder / "out.tui-gru", folder / "up" / "secret.tui-gru", folder.parent):
            with pytest.raises(TuiGruError, match="is outside of"):
                use(path)
    with pytest.raises(TuiGruError, match="is outside of"):
        Session.open(outside, record=True)
    session.recorder.record_later(lambda: automatic_folder() / "2026-11-28-Math.tui-gru")  # the program's own path
    session.step("batch")
    session.edit("Wz", (0, 0), 1.0)
    assert session.recording is not None
    session.close()


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
    """The address at which `tui-gru serve` offers the debugger, on a session named `web`."""
    site = Site("--", "--session", "web")
    yield site.address
    site.close()


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
            await page("Page.navigate", url=url)
            await page.until("document.body?.classList.contains('-first-byte')")
            await page.value("document.querySelector('textarea').focus()")
            await page.type("s")
            while left_at() != 9:  # the lines of a timestep
                await asyncio.sleep(0.1)
            await page.type("q")
            await page.until("document.body.classList.contains('-closed')")


def left_at() -> int | None:
    """Return the position of the browser's session; None if there is none yet."""
    try:
        return Session.open(session_path("web")).position.tick
    except TuiGruError:
        return None
