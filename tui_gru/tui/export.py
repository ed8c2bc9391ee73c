"""Exports panels and derivations as text, LaTeX and corrected SVG."""

from __future__ import annotations

import html
import os
import re
from collections import defaultdict
from collections.abc import Iterator
from io import StringIO
from pathlib import Path

from rich.cells import cell_len
from rich.console import Console
from textual.app import App
from textual.strip import Strip, StripRenderable

from tui_gru.analysis.tables import Columns, csv_text
from tui_gru.disk import save_bytes
from tui_gru.equations.writing import Writer, latex_text
from tui_gru.errors import TuiGruError, shown
from tui_gru.session.snapshot import line_latex, values_latex
from tui_gru.tui.draw import Ref
from tui_gru.tui.keys import with_keys
from tui_gru.tui.panel import Panel
from tui_gru.tui.panels.derivation import DerivationPanel
from tui_gru.tui.screen import MainScreen
from tui_gru.tui.terminal import drawn_lines

# ------------------------------------------------------------------------------
# Corrects exported SVG pictures: the places of texts, combining characters and clipping.


_LOW = "ₜ₋₁"  # subscripts reach below their line
_FILLED = re.compile(r'<rect fill="#([0-9a-f]{6})" x="[\d.]+" y="[\d.]+" width="([\d.]+)" height="([\d.]+)"')
_FRAME = re.compile(
    r'<rect fill="#292929" stroke="rgba\(255,255,255,0.35\)" stroke-width="1" x="1" y="1" width="([\d.]+)" height="([\d.]+)"'
)
_TEXT_ELEMENT = re.compile(r'<text ([^>]*?)x="([\d.]+)" y="([\d.]+)" textLength="([\d.]+)"( clip-path="[^"]*")?>([^<]*)</text>')
# ASCII words with single spaces between them, lines of a frame, or one other character
_ASCII = r"[!-~](?![\u0300-\u036f])"
_PIECE = re.compile(rf"{_ASCII}(?:\xa0?{_ASCII})*|[\u2500-\u259f]{{1,16}}|\S[\u0300-\u036f]*")


def mend(svg: str) -> str:
    """Return the exported picture with each text in its cells, and with h̃ and subscripts drawn correctly.

    Rich (15, `Console.export_svg`) relies on `textLength` for the places of all characters of a line in one style, which some
    programs ignore (librsvg, which drops spaces at both ends as well). It stretches a text to one cell per code point, although
    combining characters have no width, and clips it to its line, which cuts off a tilde above a tall letter and the foot of a
    subscript.
    """
    return _TEXT_ELEMENT.sub(lambda text: "".join(_pieces(text)), _on_paper(svg))


def _on_paper(svg: str) -> str:
    """Return a picture of a light theme with its frame in the same colour: a dark one would show between cells as hairlines."""
    areas, frame = defaultdict[str, float](float), _FRAME.search(svg)
    for colour, width, height in _FILLED.findall(svg):
        areas[colour] += float(width) * float(height)
    colour = max(areas, key=areas.__getitem__, default="")
    if frame is None or areas[colour] < float(frame[1]) * float(frame[2]) / 2 or sum(bytes.fromhex(colour)) < 3 * 128:
        return svg
    framed = frame[0].replace("292929", colour).replace("255,255,255", "0,0,0")
    return re.sub(r'(-title" fill=")#c5c8c6', r"\1#404040", svg.replace(frame[0], framed))


def _pieces(text: re.Match[str]) -> Iterator[str]:
    attributes, left, y, length, clip, content = text.groups()
    written = html.unescape(content)
    cell = float(length) / len(written)
    for piece in _PIECE.finditer(written):
        sign = piece[0]
        cells = cell_len(sign)
        clipped = clip if clip and sign not in _LOW and cells == len(sign) else ""
        x = float(left) + cell * cell_len(written[: piece.start()])
        fitted = ' lengthAdjust="spacingAndGlyphs"' if cells == 1 and not sign.isascii() else ""  # some, as ①, are wider
        escaped = html.escape(sign).replace("\xa0", "&#160;")
        yield f'<text {attributes}x="{x:g}" y="{y}" textLength="{cell * cells:g}"{fitted}{clipped}>{escaped}</text>'


# ------------------------------------------------------------------------------
# Exports the derivation, the panel in focus or the screen to a file, as text, LaTeX or SVG.


SUFFIXES = {".txt": "text", ".tex": "LaTeX", ".svg": "a picture", ".csv": "CSV"}


def write_export(screen: MainScreen, path: Path, *, overwrite: bool = False) -> str:
    """Write to `path` in the format of its suffix, and return the name of what was written.

    That is the first that exists of the derivation, the panel in focus and the screen; for `.tex`, of the derivation, the values
    of the panel in focus and the current line; for `.csv`, the numbers of the story, units, losses or findings that are shown.
    Raises `TuiGruError` if the suffix is unknown, there is nothing to write, the file exists and `overwrite` is False, or it
    cannot be written.
    """
    if path.suffix not in SUFFIXES:
        raise TuiGruError(f"export writes {', '.join(SUFFIXES)}, not {path.name!r}; type, for example, {path.stem}.txt")
    screen.lay_out()  # without the `:` line, which has just been closed
    written, content = _content(screen, path.suffix)
    try:
        save_bytes(path, content.encode("utf-8", "backslashreplace"), overwrite=overwrite)
    except FileExistsError:
        raise TuiGruError(f"{path} exists and is left as it is; name another, or overwrite it with export! {path}") from None
    except OSError as error:
        raise TuiGruError(f"{path} cannot be written: {error.strerror}; write it elsewhere") from None
    except ValueError:  # a zero byte, or a character that cannot be encoded
        raise TuiGruError(f"{shown(str(path))} is not a valid file name; type, for example, export here.txt") from None
    return written


def preview(screen: MainScreen, path: Path, *, overwrite: bool = False) -> str:
    """Return what an export to `path` would write; without a suffix, what each suffix writes."""
    if path.suffix in SUFFIXES:
        again = "; overwrites the file" if overwrite else "; asks before it overwrites the file"
        return f"writes {subject(screen, path.suffix)[0]} as {SUFFIXES[path.suffix]}{again if os.path.exists(path) else ''}"
    formats: dict[str, list[str]] = {}
    for suffix, word in SUFFIXES.items():
        if suffix == ".csv" and _table(screen) is None:
            continue
        formats.setdefault(subject(screen, suffix)[0], []).append(f"{word} ({suffix})")
    return "writes " + ", ".join(f"{exported} as {' or '.join(words)}" for exported, words in formats.items())


def subject(screen: MainScreen, suffix: str) -> tuple[str, Panel | None]:
    """Return what an export writes, in words, and the panel that has it; None for the screen and the current line."""
    overlay, used = screen.overlay, screen.in_use
    if suffix == ".csv" and isinstance(overlay, Panel):
        return f"the numbers of {overlay.heading}", overlay
    if isinstance(overlay, DerivationPanel):
        return "the derivation", overlay
    panel = used if isinstance(used, Panel) and used.heading else None
    if suffix == ".tex" and not (panel and panel.shown()):
        return "the current line", None
    return f"the panel {panel.heading}" if panel else "the screen", panel


def _content(screen: MainScreen, suffix: str) -> tuple[str, str]:
    noun, panel = subject(screen, suffix)
    if suffix == ".csv":
        if (numbers := _table(screen)) is None:
            opened = "the story (<story>), the units (<units>), the losses (<losses>) and the findings (<findings>)"
            raise TuiGruError(with_keys(screen, f"{opened} are exported as .csv; open one of them first"))
        return noun, csv_text(numbers)
    derivation = panel if isinstance(panel, DerivationPanel) else None
    match suffix:
        case ".svg":
            return noun, _picture(screen.app, panel)
        case ".txt":
            return noun, derivation.text() if derivation else panel.plain_text() if panel else _text(drawn_lines(screen))
    if derivation:
        return noun, derivation.text(latex=True)
    if panel:
        minus = next((region.minus for widget in panel.ancestors_with_self if (region := screen.panels.seen_by(widget)).minus), "")
        values = [(_named(screen.snapshot.program.writer, ref, minus), value) for ref, value in panel.shown()]
        return noun, values_latex(screen.snapshot, values)
    line = line_latex(screen.snapshot)
    if line is None:
        raise TuiGruError("there is no formula to export as LaTeX; step to a line, or open a derivation with enter")
    return noun, line


def _table(screen: MainScreen) -> Columns | None:
    return screen.overlay.columns() if isinstance(screen.overlay, Panel) else None


def _named(writer: Writer, ref: Ref, minus: str) -> str:
    """Return the name of a value: `\\Delta W_z`, `{h}^{(2)}`, or in a comparison `z - z_{main}`."""
    name = writer.symbols.latex(ref.name)
    name = f"{{{name}}}^{{({ref.t + 1})}}" if ref.t is not None else name
    name = rf"\Delta {name}" if ref.change else name
    return f"{name} - {{{name}}}_{{{latex_text(minus)}}}" if minus else name


def _text(strips: list[Strip]) -> str:
    return "".join(f"{strip.text.rstrip()}\n" for strip in strips)


def _picture(app: App[None], panel: Panel | None) -> str:
    """Return the screen, or the region of a panel, as SVG."""
    if panel is None:
        return app.export_screenshot(title="tui-gru")
    x, y, width, height = panel.region
    strips = [strip.crop(x, x + width) for strip in drawn_lines(app.screen)[y : y + height]]
    console = Console(
        width=width, height=height, file=StringIO(), force_terminal=True, color_system="truecolor", record=True,
        legacy_windows=False, safe_box=False,
    )  # fmt: skip
    console.print(StripRenderable(strips, width))
    return mend(console.export_svg(title=panel.heading))
