"""Textual's command palette, for screens of any size and keys and clicks that come in any order."""

from __future__ import annotations

from textual.await_complete import AwaitComplete
from textual.command import CommandList, CommandPalette


class Palette(CommandPalette):
    """Moving in a list that has no room does nothing, and so does leaving the palette a second time (textual 8.2)."""

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        if action == "command_list":
            lists = self.query(CommandList)
            return bool(lists) and bool(lists.first().scrollable_content_region)
        return super().check_action(action, parameters)

    def dismiss(self, result: None = None) -> AwaitComplete:
        if self.app.screen is not self:
            return AwaitComplete()
        return super().dismiss(result)
