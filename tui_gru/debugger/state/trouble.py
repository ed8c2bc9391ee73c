"""What a session says of its own accord is an answer, or it is a warning."""

from __future__ import annotations


class Trouble(str):
    """A notice that something is not as it should be; any other notice answers what was asked for."""

    __slots__ = ()


def joined(*notices: str) -> str:
    """Several notices as one, which is trouble if any of them is."""
    said = [notice for notice in notices if notice]
    text = "; ".join(said)
    return Trouble(text) if any(isinstance(notice, Trouble) for notice in said) else text
