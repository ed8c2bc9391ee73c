"""The error class for invalid input."""

from tui_gru.engine.safe_text import cut_long_words


class TuiGruError(ValueError):
    """Invalid input. The message is one line that says what was wrong, where, and what to do; very long words in it are cut.

    `option` is the config field that the message is about (`"learning_rate"`), so that a user interface can name its own option.
    """

    def __init__(self, message: str, *, option: str | None = None) -> None:
        super().__init__(cut_long_words(message))
        self.option = option
