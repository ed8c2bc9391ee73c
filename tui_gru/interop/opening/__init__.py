"""Opening a GRU from a file as a run: its convention as equations, its weights under our names, and its inputs."""

from tui_gru.interop.opening.choosing import chosen
from tui_gru.interop.opening.equations import cell_in
from tui_gru.interop.opening.numbers import Numbers, array_of
from tui_gru.interop.opening.running import given_run

__all__ = ["Numbers", "array_of", "cell_in", "chosen", "given_run"]
