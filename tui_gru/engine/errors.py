"""The error for bad input."""


class TuiGruError(ValueError):
    """Bad input. The message says what was wrong, where, and what to do; it is one line.

    `option` is the config field the message is about (`"learning_rate"`), so that a front end can name its own option.
    """

    def __init__(self, message: str, *, option: str | None = None) -> None:
        super().__init__(message)
        self.option = option
