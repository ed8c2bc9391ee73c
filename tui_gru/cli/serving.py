"""`tui-gru serve`: the debugger in a browser of this machine, on the page and the terminal of textual-serve.

Any page that a browser shows can send requests to this server, and any name can be made to lead to its address. So it answers only
requests for its own address, sent by its own pages, with the token that it has printed.
"""

from __future__ import annotations

import asyncio
import json
import os
import socket
import subprocess
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from html import escape
from importlib.util import find_spec
from pathlib import Path
from secrets import compare_digest, token_urlsafe
from typing import Any

import tui_gru
from tui_gru.errors import TuiGruError
from tui_gru.paths import SERVED_FOLDER

try:
    from aiohttp import WSMsgType, web
except ModuleNotFoundError:
    raise TuiGruError("a browser needs textual-serve: pip install 'tui-gru[serve]'") from None

ADDRESS = "127.0.0.1"
NAMES = (ADDRESS, "localhost")  # of the server in the addresses of its pages
PATIENCE = 2  # seconds that a page waits for a place
ENDING = 10  # seconds that a debugger has to end after its page
READY = b"__GANGLION__\n"  # what a Textual program writes before its first packet
LARGEST = 1000  # columns or rows
_CONFINED = "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; font-src 'self'; img-src data:; "
HEADERS = {
    "Cache-Control": "no-store",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",  # the address has the token
    "X-Content-Type-Options": "nosniff",
}
PAGE = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<title>tui-gru</title>
<link rel="stylesheet" href="{files}/css/xterm.css">
<style>
@font-face {{ font-family: "Roboto Mono"; src: url("{files}/fonts/RobotoMono-VariableFont_wght.ttf"); font-weight: 100 700 }}
html, body, #terminal {{ margin: 0; width: 100vw; height: 100vh; overflow: hidden; background: #101413; color: #e8e6dc }}
p {{ position: fixed; z-index: 10; bottom: 0; margin: 0; padding: 1ex; background: #101413; font: 16px "Roboto Mono", monospace }}
#ended, .-first-byte #starting, .-closed #starting {{ display: none }}
.-closed #ended {{ display: block }}
a {{ color: inherit }}
</style>
<p id="starting">The debugger starts …</p>
<p id="ended">The debugger has ended. <a href="">Start another</a></p>
<div id="terminal" class="textual-terminal" data-session-websocket-url="{socket}" data-font-size="16"></div>
<script src="{files}/js/textual.js"></script>
</html>
"""
# It tries again by itself: a browser that loads a page again ends the old one, and so its debugger, only when there is an answer.
FULL = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta http-equiv="refresh" content="2">
<title>tui-gru</title>
<p>{words}</p>
<p>This page tries again every few seconds.</p>
</html>
"""

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def command(arguments: Sequence[str]) -> list[str]:
    """Return the command of a debugger. It imports nothing from the current folder, where a page may write."""
    package = str(Path(tui_gru.__file__).parents[1])  # found also where it is not installed
    start = f"import sys; sys.path.append({package!r}); from tui_gru.__main__ import main; main()"
    return [sys.executable, "-P", "-c", start, *arguments]


def environment(folder: Path, width: int, height: int) -> dict[str, str]:
    """Return the environment of a debugger in a page, which may use `folder`; its size is in cells."""
    return os.environ | {
        "TEXTUAL_DRIVER": "textual.drivers.web_driver:WebDriver",
        "TEXTUAL_COLOR_SYSTEM": "truecolor",
        "TERM_PROGRAM": "textual",
        "COLUMNS": str(width),
        "ROWS": str(height),
        SERVED_FOLDER: str(folder),
    }


def serve_debuggers(arguments: Sequence[str], *, port: int, folder: Path, debuggers: int) -> None:
    """Serve debuggers, started with `arguments`, until ctrl+c. Prints the address.

    At most `debuggers` run at once; a page may use the files in `folder`. Raises `TuiGruError` if the port cannot be had, or a
    debugger cannot be started.
    """
    if SERVED_FOLDER in os.environ:
        raise TuiGruError("a debugger in a page serves no others; start it in a terminal")
    _try(arguments, folder)
    try:
        listening = socket.create_server((ADDRESS, port))
    except OSError as error:
        raise TuiGruError(f"{port} cannot be had: {error.strerror}; choose another, or 0 for a free one", option="port") from None
    server = Server(arguments, listening.getsockname()[1], folder, debuggers)
    app = server.app()
    app.on_startup.append(server.announce)  # ctrl+c ends it orderly from then on
    web.run_app(app, sock=listening, print=None, access_log=None, shutdown_timeout=ENDING)


def _try(arguments: Sequence[str], folder: Path) -> None:
    """Start a debugger that ends at once, since it has no input. Raises `TuiGruError` with what it says if it draws nothing."""
    debugger = subprocess.run(command(arguments), input=b"", capture_output=True, env=environment(folder, 80, 24))
    if debugger.returncode or not debugger.stdout.startswith(READY):
        words = debugger.stderr.decode(errors="replace").strip().removeprefix("tui-gru: ")
        raise TuiGruError(words or "these arguments open no debugger; leave out those of another command")


class Server:
    """Answers the requests of pages, and runs a debugger for each."""

    def __init__(self, arguments: Sequence[str], port: int, folder: Path, debuggers: int) -> None:
        self._arguments, self._folder, self._most = arguments, folder, debuggers
        self._token = token_urlsafe(32)
        self._hosts = {name if port == 80 else f"{name}:{port}" for name in NAMES}
        self._free = asyncio.Semaphore(debuggers)
        self._sockets: set[web.WebSocketResponse] = set()
        spec = find_spec("textual_serve")
        if spec is None or spec.origin is None:
            raise TuiGruError("a browser needs textual-serve: pip install 'tui-gru[serve]'")
        files = Path(spec.origin).parent / "static"
        self._files = {path.relative_to(files).as_posix(): path for path in files.rglob("*") if path.is_file()}
        self.address = f"http://{ADDRESS}:{port}/?token={self._token}"

    async def announce(self, _: web.Application) -> None:
        """Print the address."""
        print(f"Open this address in a browser of this machine; it has a token, so keep it to yourself:\n\n  {self.address}\n")
        print(
            f"A page reads and writes files in {self._folder} only. At most {self._most} can be open. ctrl+c ends all.", flush=True
        )

    def app(self) -> web.Application:
        """Return the application for aiohttp. It must run in one process, which counts the debuggers."""

        @web.middleware
        async def guard(request: web.Request, handler: Handler) -> web.StreamResponse:
            refusal = self._refusal(request)
            if refusal:
                return web.Response(status=403, text=f"tui-gru: {refusal}\n")
            return await handler(request)

        app = web.Application(middlewares=[guard])
        # The terminal of textual-serve adds a query to the address of the socket, so the token is in its path.
        app.add_routes(
            [
                web.get("/", self._page),
                web.get("/ws", self._socket),
                web.get("/ws/{token}", self._socket),
                web.get("/static/{token}/{file:.+}", self._file),
            ]
        )
        app.on_response_prepare.append(_add_headers)
        app.on_shutdown.append(self._close)
        return app

    def _refusal(self, request: web.Request) -> str:
        """Return why a request is refused: it is for another host, of a page from elsewhere, or without the token. An empty string
        if it is not."""
        host, origin = request.headers.get("Host", "").lower(), request.headers.get("Origin")
        if host not in self._hosts:
            return f"this server is {' or '.join(sorted(self._hosts))}, and has no other name"
        if origin is not None and origin.lower() != f"http://{host}":
            return "pages of other sites are not let in"
        token = request.match_info.get("token") or request.query.get("token", "")
        if not compare_digest(token.encode(errors="replace"), self._token.encode()):
            return "open the whole address that `tui-gru serve` has printed, with its token"
        return ""

    async def _page(self, request: web.Request) -> web.Response:
        """Return the page of a new debugger, or one that says that there are too many."""
        headers = {"Content-Security-Policy": f"{_CONFINED}connect-src ws://{request.host}; frame-ancestors 'none'"}
        async with self._place() as place:
            if place:
                page = PAGE.format(files=f"/static/{self._token}", socket=f"ws://{escape(request.host)}/ws/{self._token}")
                return web.Response(text=page, content_type="text/html", headers=headers)
        return web.Response(status=503, text=FULL.format(words=self._full), content_type="text/html", headers=headers)

    @property
    def _full(self) -> str:
        open_ = "one debugger is" if self._most == 1 else f"{self._most} debuggers are"
        return f"{open_} open, as many as this server runs at once: close a page, or start tui-gru serve with --debuggers"

    @asynccontextmanager
    async def _place(self) -> AsyncIterator[bool]:
        """Take the place of a debugger in this context; False if there is none within `PATIENCE`."""
        try:
            await asyncio.wait_for(self._free.acquire(), PATIENCE)
        except TimeoutError:
            yield False
            return
        try:
            yield True
        finally:
            self._free.release()

    async def _file(self, request: web.Request) -> web.StreamResponse:
        """Return a file of textual-serve."""
        path = self._files.get(request.match_info["file"])
        return web.Response(status=404) if path is None else web.FileResponse(path)

    async def _socket(self, request: web.Request) -> web.StreamResponse:
        """Run a debugger until its page or it ends."""
        async with self._place() as place:
            if not place:
                return web.Response(status=503, text=f"tui-gru: {self._full}\n")
            socket_ = web.WebSocketResponse(heartbeat=15)
            await socket_.prepare(request)
            self._sockets.add(socket_)
            try:
                await self._debug(socket_, _cells(request, "width", 80), _cells(request, "height", 24))
            finally:
                self._sockets.discard(socket_)
            return socket_

    async def _debug(self, socket_: web.WebSocketResponse, width: int, height: int) -> None:
        process = await asyncio.create_subprocess_exec(
            *command(self._arguments), stdin=PIPE, stdout=PIPE, stderr=PIPE, env=environment(self._folder, width, height)
        )
        drawing = asyncio.create_task(_draw(process, socket_))
        try:
            async for message in socket_:
                if message.type is WSMsgType.TEXT:
                    await _pass_on(message.data, process, socket_)
        finally:
            await asyncio.shield(_end(process, drawing))

    async def _close(self, _: web.Application) -> None:
        for socket_ in tuple(self._sockets):
            await socket_.close()


async def _add_headers(_: web.Request, response: web.StreamResponse) -> None:
    response.headers.update(HEADERS)


def _cells(request: web.Request, name: str, default: int) -> int:
    """Return a number of columns or rows in the query of a request."""
    with suppress(ValueError):
        return max(1, min(int(request.query.get(name, default)), LARGEST))
    return default


async def _draw(process: Process, socket_: web.WebSocketResponse) -> None:
    """Pass on what a debugger draws, until it ends; then what it says if it could not start. Close the page."""
    assert process.stdout is not None
    assert process.stderr is not None
    problems = asyncio.create_task(process.stderr.read())
    with suppress(asyncio.IncompleteReadError):
        if await process.stdout.readline() == READY:
            while True:
                kind, size = await process.stdout.readexactly(1), await process.stdout.readexactly(4)
                data = await process.stdout.readexactly(int.from_bytes(size, "big"))
                if kind == b"D":
                    with suppress(ConnectionError):  # the page is closed; read on, since a debugger that cannot write cannot end
                        await socket_.send_bytes(data)
    with suppress(ConnectionError):
        if words := (await problems).strip():
            print(words.decode(errors="replace"), file=sys.stderr, flush=True)
            await socket_.send_bytes(b"\x1b[2J\x1b[H" + words.replace(b"\n", b"\r\n"))
        await socket_.close()


async def _pass_on(message: str, process: Process, socket_: web.WebSocketResponse) -> None:
    """Pass on a message of a page to its debugger. Messages of another form are ignored."""
    try:
        kind, *values = json.loads(message)
    except (ValueError, TypeError, RecursionError):
        return
    match kind, *values:
        case "stdin", str(keys):
            await _send(process, b"D", keys.encode(errors="replace"))
        case "resize", {"width": int(width), "height": int(height)}:
            size = {"width": max(1, min(width, LARGEST)), "height": max(1, min(height, LARGEST))}
            await _send(process, b"M", _json({"type": "resize", **size}))
        case (("focus" | "blur"), *_):
            await _send(process, b"M", _json({"type": kind}))
        case "ping", (int() | float() | str()) as sent:
            await socket_.send_json(["pong", sent])


def _json(value: Any) -> bytes:
    return json.dumps(value).encode()


async def _send(process: Process, kind: bytes, data: bytes) -> None:
    assert process.stdin is not None
    with suppress(ConnectionError, RuntimeError):  # it has ended
        process.stdin.write(kind + len(data).to_bytes(4, "big") + data)
        await process.stdin.drain()


async def _end(process: Process, drawing: asyncio.Task[None]) -> None:
    """End a debugger: as `q` does, and if it does not end within `ENDING`, at once."""
    assert process.stdin is not None
    try:
        async with asyncio.timeout(ENDING):
            await _send(process, b"M", _json({"type": "quit"}))
            process.stdin.close()
            await process.wait()
    except TimeoutError:
        process.kill()
        await process.wait()
    await drawing
