"""Construction of names: of a previous state, of a gradient, with the suffix of a layer and direction."""

from __future__ import annotations

import re
from collections.abc import Mapping
from string import ascii_letters
from unicodedata import normalize

AXES = {"vocabulary": "V", "rows": "B", "timesteps": "T", "units": "H", "inputs": "I", "parameters": "P"}
WORDS = {axis: word for word, axis in AXES.items()}

_SUFFIX = re.compile(r"_l\d+(?:_reverse)?$")
_WRITTEN = {"prev": ("ₜ₋₁", "_{t-1}"), "next": ("ₜ₊₁", "_{t+1}")}
_ACCENTS = {"tilde": ("\u0303", r"\tilde"), "hat": ("\u0302", r"\hat"), "bar": ("\u0304", r"\bar")}
_LONGEST = 3  # letters of a name that consists of a letter and an index, such as bhn; longer names are words
_ARROWS = {"future": ("←", r"\overleftarrow"), "past": ("→", r"\overrightarrow")}
_GREEK = {
    "α": r"\alpha", "β": r"\beta", "γ": r"\gamma", "ε": r"\epsilon", "η": r"\eta", "μ": r"\mu", "λ": r"\lambda", "ρ": r"\rho",
    "σ": r"\sigma",
}  # fmt: skip

_ONE_CHARACTER = [c for x in ascii_letters for sign, _ in _ACCENTS.values() if len(c := normalize("NFC", x + sign)) == 1]
_ACCENTED = f"(?:[{''.join(_ONE_CHARACTER)}]|[A-Za-z][{''.join(sign for sign, _ in _ACCENTS.values())}])"
_MARKS = "|".join(sign for sign, _ in (*_WRITTEN.values(), *_ARROWS.values()))
#: The pattern of a name in its on-screen spelling that has a mark which code spells out, such as ŷ, hₜ₋₁ or dh←.
MARKED = rf"[A-Za-z]*(?:{_ACCENTED}(?:{_MARKS})*|[A-Za-z](?:{_MARKS})+)(?:_l\d+(?:_reverse)?)?"


def split(name: str) -> tuple[str, str]:
    """Split a name into its base and the suffix of layer and direction: `h_prev_l0` gives `h_prev` and `_l0`."""
    found = _SUFFIX.search(name)
    return (name[: found.start()], found[0]) if found else (name, "")


def with_word(name: str, word: str) -> str:
    """Return a name with a word inserted before the suffix: `h_l0` and `prev` give `h_prev_l0`."""
    base, suffix = split(name)
    return f"{base}_{word}{suffix}"


def code_name(written: str) -> str:
    """Return the code spelling of a name that is in code or on-screen spelling: `h̃` gives h_tilde, `hₜ₋₁` gives h_prev."""
    name = normalize("NFD", written)
    for word, (sign, _) in _WRITTEN.items():
        name = name.replace(sign, f"_{word}")
    for words in (_ACCENTS, _ARROWS):
        for word, (sign, _) in words.items():
            if sign in name:
                base, suffix = split(name.replace(sign, ""))
                name = (
                    f"{base}_{word}{suffix}" if not base.endswith(("_prev", "_next")) else f"{base[:-5]}_{word}{base[-5:]}{suffix}"
                )
    return name


class Symbols:
    """The on-screen and LaTeX spelling of names. `special` has the symbols that model files declare, as (text, LaTeX)."""

    def __init__(self, special: Mapping[str, tuple[str, str]] | None = None) -> None:
        self._special = dict(special or {})
        self._text: dict[str, str] = {}
        self._latex: dict[str, str] = {}

    def text(self, name: str) -> str:
        """Return the on-screen spelling: h̃ for h_tilde, hₜ₋₁_l0 for h_prev_l0, do for dlogits if logits has the symbol o."""
        if name not in self._text:
            base, suffix = (name, "") if name in self._special else split(name)
            self._text[name] = self._base_text(base) + suffix
        return self._text[name]

    def latex(self, name: str) -> str:
        """Return the LaTeX spelling."""
        if name not in self._latex:
            base, suffix = (name, "") if name in self._special else split(name)
            latex = self._base_latex(base)
            self._latex[name] = rf"{{{latex}}}^{{\mathrm{{{suffix[1:].replace('_', r' ')}}}}}" if suffix else latex
        return self._latex[name]

    def _base_text(self, name: str) -> str:
        if name in self._special:
            return self._special[name][0]
        stem, _, word = name.rpartition("_")
        if stem and word in _WRITTEN:
            return self._base_text(stem) + _WRITTEN[word][0]
        if stem and word in _ACCENTS:
            return normalize("NFC", self._base_text(stem) + _ACCENTS[word][0])
        if stem and word in _ARROWS:
            return self._base_text(stem) + _ARROWS[word][0]
        if self._is_gradient(name):
            return "d" + self._base_text(name[1:])
        return name

    def _base_latex(self, name: str) -> str:
        if name in self._special:
            return self._special[name][1]
        stem, _, word = name.rpartition("_")
        if stem and word in _WRITTEN:
            return self._base_latex(stem) + _WRITTEN[word][1]
        if stem and word in _ARROWS:
            return rf"{_ARROWS[word][1]}{{{self._base_latex(stem)}}}"
        if stem and word in _ACCENTS:
            return (
                rf"{_ACCENTS[word][1]}{{{self._base_latex(stem)}}}"
                if not self._is_gradient(stem)
                else "d" + self._base_latex(name[1:])
            )
        if self._is_gradient(name) and name[1:] in self._special:
            return "d" + self._special[name[1:]][1]
        stem = name[1:] if self._is_gradient(name) else name
        if "_" in name or (len(stem) > _LONGEST and stem.isascii() and stem.isalpha() and stem.islower()):
            return rf"\mathit{{{name}}}".replace("_", r"\_")
        head, tail = (name[:2], name[2:]) if self._is_gradient(name) else (name[:1], name[1:])
        head = "".join(_GREEK.get(sign, sign) for sign in head)
        return f"{head}_{{{tail}}}" if tail else head

    def _is_gradient(self, name: str) -> bool:
        return len(name) > 1 and name[0] == "d"
