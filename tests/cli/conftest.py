"""Runs the program as a command does, in the process of the tests."""

from __future__ import annotations

import pytest

from tui_gru.cli.commands import main


@pytest.fixture
def run(capsys):
    """Run the program in this process: (exit code, standard output, standard error)."""

    def run(*arguments):
        code = main([str(argument) for argument in arguments])
        return code, *capsys.readouterr()

    return run
