"""The panels of the screen. Each module is loaded when it is first used."""

from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # a type checker knows the modules that are imported somewhere
    import tui_gru.tui.panels.imported
    import tui_gru.tui.panels.learning
    import tui_gru.tui.panels.story
    import tui_gru.tui.panels.trials  # noqa: F401
else:

    def __getattr__(name: str) -> ModuleType:
        try:
            return import_module(f"{__name__}.{name}")
        except ModuleNotFoundError as error:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}") from error
