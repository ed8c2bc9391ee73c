"""The layout of the screen, which is saved with a session."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple, Self

from tui_gru.tui.panels.values.weights import MODES, Weights
from tui_gru.tui.widgets.panel import Panel

if TYPE_CHECKING:
    from tui_gru.tui.screens.main import MainScreen


class Layout(NamedTuple):
    """What is singled out, shown and zoomed.

    `row` is 0-based, None if no row is singled out. `zoomed` is the name of the class of a panel, empty if none is zoomed. `layer`
    is counted through all directions; None follows the current line.
    """

    page: int = 1
    row: int | None = None
    speed: int = 2
    weights: str = MODES[0]
    parameter: str = ""
    zoomed: str = ""
    layer: int | None = None

    @classmethod
    def of(cls, screen: MainScreen) -> Self:
        """Return the current layout of the screen."""
        weights, zoomed = screen.query_one(Weights), screen.maximized
        return cls(
            screen.panels.page,
            screen.view.row,
            screen.play.speed,
            weights.mode,
            weights.chosen,
            "" if zoomed is None else type(zoomed).__name__,
            screen.view.layer,
        )

    @classmethod
    def read(cls, kept: Any) -> Self:
        """Return a layout that was saved with a session. Invalid parts are replaced by defaults."""
        layout = cls()
        if not isinstance(kept, dict):
            return layout
        known = {name: kept[name] for name, value in layout._asdict().items() if name in kept and _alike(kept[name], value)}
        return cls(**known)

    def keep(self) -> dict[str, Any]:
        """Return the layout as a JSON value."""
        return self._asdict()

    def apply(self, screen: MainScreen) -> None:
        """Apply the layout to the screen, as far as the session allows."""
        config, weights = screen.snapshot.config, screen.query_one(Weights)
        if weights.mode != self.weights and self.weights in MODES:
            weights.mode = self.weights
        if self.parameter in screen.snapshot.program.parameters:
            weights.chosen = self.parameter
        screen.panels.turn_to(self.page)
        screen.play.set_speed(self.speed)
        rows, layers = range(config.batch_size), range(len(screen.snapshot.program.layers))
        row = self.row if self.row in rows else None
        layer = self.layer if self.layer in layers else None
        screen.look(replace(screen.view, row=row, layer=layer))
        panels = (panel for panel in screen.query(Panel) if type(panel).__name__ == self.zoomed)
        if (zoomed := next(panels, None)) is not None:
            screen.maximize(zoomed)
        elif screen.maximized is not None:
            screen.minimize()


def _alike(kept: Any, value: Any) -> bool:
    return type(kept) is type(value) or (value is None and type(kept) is int) or (kept is None and value is None)
