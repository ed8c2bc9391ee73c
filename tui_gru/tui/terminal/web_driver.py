"""Textual's driver for a browser, which ends the program when its server is gone."""

from __future__ import annotations

import os
from contextlib import suppress
from typing import Any

from textual import messages
from textual.drivers.web_driver import WebDriver

from tui_gru.debugger.storage.confinement import confine
from tui_gru.engine.errors import TuiGruError

SERVED_FOLDER = "TUI_GRU_SERVED_FOLDER"  # the environment variable by which `tui-gru serve` names the folder that a page may use


def confine_to_served_folder() -> None:
    """Confine this process to the folder that its server names.

    Raises `TuiGruError` if it names none: other servers, such as `textual serve`, do not ask who connects, and every page that the
    user's browser shows could write files here.
    """
    folder = os.environ.get(SERVED_FOLDER)
    if folder is None:
        raise TuiGruError("this server lets every web page in: use `tui-gru serve`, which asks for a token")
    confine(folder)


class ServedDriver(WebDriver):
    """A `WebDriver` that ends the program at the end of its input. In textual 8.2, the program would continue unreachable."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._write = self._write_if_read  # type: ignore[assignment]

    def _write_if_read(self, data: bytes) -> None:
        with suppress(OSError):  # a broken pipe, which Windows reports as an invalid argument
            os.write(self.fileno, data)

    def run_input_thread(self) -> None:
        super().run_input_thread()
        self._app.post_message(messages.ExitApp())
