"""The manual in the help: its sections, the search for words in them, and a section drawn without markup.

The pages are files of the package, which are read at the first search.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from functools import cache, lru_cache
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import NamedTuple

from rich.cells import cell_len
from rich.segment import Segment
from rich.style import Style

from tui_gru.tui.draw import EMPTY, Box, from_rows, in_columns, pad, text_box, vstack
from tui_gru.tui.theme import Palette, transliterate

FOLDER = Path(__file__).parents[1] / "manual"
LEAST = 20  # cells: the least width of the last column of a table whose cells are side by side
#: Words of a question that say nothing about its subject.
LITTLE = frozenset(["a", "about", "an", "and", "are", "can", "do", "does", "how", "i", "in", "is", "it", "of", "on", "the", "to"])
FENCE = "```"
#: The markup of the pages: code, bold and slanted words, and links.
MARKUP = re.compile(
    r"`(?P<code>[^`]+)`|\*\*(?P<bold>[^*]+)\*\*|(?<![\w*])\*(?P<slanted>[^*\s][^*]*)\*|\[(?P<words>[^]]+)\]\([^)\s]+\)"
)
PICTURE = re.compile(r"^!\[[^]]*\]\([^)]*\)$")
RULE = re.compile(r"^\|(-+\|)+$")

StyledText = Sequence[tuple[str, Style]]


class Section(NamedTuple):
    """A section of a page of the manual: the title of the page, its own title, and its text, in Markdown."""

    page: str
    title: str
    markdown: str

    @property
    def plain(self) -> str:
        """The text without markup, in one line."""
        return _without_markup(self.markdown)

    @property
    def heading(self) -> str:
        """The title of the page and of the section; once, if the section is what the page begins with."""
        return self.title if self.title == self.page else f"{self.page} · {self.title}"


@cache  # each letter of a search reads the text of each section that it finds
def _without_markup(markdown: str) -> str:
    lines = (
        "; ".join(filter(None, _cells(line))) if line.startswith("|") else line
        for line in markdown.splitlines()
        if not (PICTURE.match(line) or RULE.match(line) or FENCE in line)
    )
    return " ".join(MARKUP.sub(lambda match: match[match.lastgroup or 0], " ".join(lines)).split())


@cache
def sections() -> tuple[Section, ...]:
    """Return all sections, those of a page together."""
    return tuple(section for path in sorted(FOLDER.glob("*.md")) for section in _sections_of(path.read_text(encoding="utf-8")))


def _sections_of(page: str) -> Iterator[Section]:
    """Yield the sections of a page that have a text; the first is what stands before the first heading."""
    name = title = page.partition("\n")[0].removeprefix("# ")
    lines, code = list[str](), False
    for line in [*page.splitlines()[1:], "## "]:
        code ^= line.startswith(FENCE)
        if code or not line.startswith("## "):
            lines.append(line)
            continue
        section = Section(name, title, "\n".join(lines).strip("\n"))
        if section.plain:
            yield section
        title, lines = line.removeprefix("## "), []


def search(words: str) -> list[Section]:
    """Return the sections that contain all of these words, those with the words in their titles first."""
    return list(_matching(words))


@lru_cache(maxsize=64)  # the help asks several times for each letter that is typed
def _matching(words: str) -> tuple[Section, ...]:
    sought = _sought(words)
    matches = [section for section in sections() if all(word in _letters(section) for word in sought)]
    return tuple(sorted(matches, key=lambda section: _rank(section, sought), reverse=True)) if sought else ()


def _sought(words: str) -> list[str]:
    typed = words.lower().split()
    return [word for word in typed if word not in LITTLE] or typed


@cache
def _letters(section: Section) -> str:
    return f"{section.heading} {section.plain}".lower()


def _rank(section: Section, sought: Sequence[str]) -> tuple[int, int, int]:
    """Return how many of the words begin words of the title, how many those of the page's title, and how often they occur."""
    begins = [re.compile(rf"(?<!\w){re.escape(word)}") for word in sought]
    in_title, in_page = (sum(bool(word.search(title.lower())) for word in begins) for title in (section.title, section.page))
    return in_title, in_page, sum(len(word.findall(_letters(section))) for word in begins)


def is_about(section: Section, words: str) -> bool:
    """Return True if all of these words begin words of the section's title."""
    sought = _sought(words)
    return _rank(section, sought)[0] == len(sought)


def excerpt(section: Section, words: str, length: int = 200) -> str:
    """Return the first sentence of a section with one of these words, cut to about this many characters around the word."""
    plain, sought = section.plain, _sought(words)
    sentences = re.split(r"(?<=[.?]) ", plain)
    best = max(sentences, key=lambda sentence: sum(word in sentence.lower() for word in sought))
    at = max(min((best.lower().find(word) for word in sought if word in best.lower()), default=0) - length // 2, 0)
    shown = best[at : at + length].strip()
    return f"{'…' if at else ''}{shown}{'…' if at + length < len(best) else ''}"


def suggestion(words: str, names: Iterable[str]) -> str:
    """Return what to search for in the place of words that no section has: `did you mean breakpoint?`, or the empty text."""
    from difflib import get_close_matches

    text = "\n".join(map(_letters, sections()))
    unknown = [word for word in _sought(words) if word not in text]
    if not unknown:
        return "no section of the manual has all of these words; leave one out"
    vocabulary = dict.fromkeys([*names, *re.findall(r"[^\W\d_]{3,}", text)])
    close = get_close_matches(unknown[0], vocabulary, n=3, cutoff=0.7)
    return f"did you mean {' or '.join(close)}?" if close else ""


# ------------------------------------------------------------------------------
# Drawing a section: paragraphs, lists, tables and code, folded to the width.


def drawn_section(palette: Palette, section: Section, width: int) -> Box:
    """Return a section as it is read on screen: without its pictures, with code in the style of what is typed."""
    return vstack(*_blocks(palette, section.markdown.splitlines(), max(width, 1)), gap=1)


def _blocks(p: Palette, lines: Sequence[str], width: int) -> Iterator[Box]:
    kinds = groupby(_with_kinds(lines), key=itemgetter(0))
    for kind, group in kinds:
        block = [line for _, line in group]
        match kind:
            case "code":
                yield from_rows(row for line in block for row in _code(p, line, width))
            case "table":
                yield _table(p, [_cells(line) for line in block if not RULE.match(line)], width)
            case "item":
                items = re.split(r"(?:^|\n)- ", "\n".join(block))[1:]
                written = (_paragraph(p, words, max(width - 2, 1)) for words in items)
                yield vstack(*(in_columns(text_box(p, "–", p.dim), paragraph, gap=1) for paragraph in written))
            case "words":
                yield _paragraph(p, " ".join(block), width)


def _with_kinds(lines: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Yield each line after its kind; an empty kind separates blocks."""
    code = item = False
    for line in lines:
        if line.startswith(FENCE):
            code = not code
            yield "", line
        elif code:
            yield "code", line
        elif not line.strip() or PICTURE.match(line):
            item = False
            yield "", line
        elif line.startswith("|"):
            yield "table", line
        else:
            item = item or line.startswith("- ")
            yield ("item" if item else "words"), line


def _styled(p: Palette, markdown: str, plain: Style | None = None) -> StyledText:
    """Return the parts of a text with their styles, without markup."""
    ordinary = p.plain if plain is None else plain
    styles = {"code": p.keyword, "bold": p.strong, "slanted": ordinary, "words": ordinary}
    parts, end = list[tuple[str, Style]](), 0
    for match in MARKUP.finditer(markdown):
        parts.append((markdown[end : match.start()], ordinary))
        kind = match.lastgroup or "words"
        parts += [(match[kind], styles[kind])]
        end = match.end()
    parts.append((markdown[end:], ordinary))
    return [(transliterate(part, p.glyphs), style) for part, style in parts if part]


def _paragraph(p: Palette, markdown: str, width: int, plain: Style | None = None) -> Box:
    """Return a text folded between words; longer words are broken at the end of the line."""
    cells = [(char, style) for part, style in _styled(p, markdown, plain) for char in part]
    rows: list[list[tuple[str, Style]]] = []
    used = 0
    for blank, group in groupby(cells, key=lambda cell: cell[0].isspace()):
        word = list(group)
        size = sum(cell_len(char) for char, _ in word)
        if blank:
            continue
        if rows and used + 1 + size <= width:
            space = word[0][1] if rows[-1][-1][1] == word[0][1] else p.plain
            rows[-1] += [(" ", space), *word]
            used += 1 + size
            continue
        rows.append([])
        used = 0
        for char, style in word:
            if rows[-1] and used + cell_len(char) > width:
                rows.append([])
                used = 0
            rows[-1].append((char, style))
            used += cell_len(char)
    return from_rows(
        [Segment("".join(char for char, _ in run), style) for style, run in groupby(row, key=itemgetter(1))] for row in rows
    )


def _code(p: Palette, line: str, width: int) -> Iterator[list[Segment]]:
    """Yield the rows of a line of code; the rows after the first are indented."""
    shown, room = transliterate(line, p.glyphs), max(width - 2, 5)
    indent = "  "
    while cell_len(shown) > room:
        cut = max(shown.rfind(" ", 0, room), 0) or room
        yield [Segment(indent), Segment(shown[:cut].rstrip(), p.keyword)]
        shown, room, indent = shown[cut:].lstrip(), max(width - 6, 5), " " * 6
    yield [Segment(indent), Segment(shown, p.keyword)]


def _cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip().strip("|").split("|")] if line.strip(" |") else []


def _table(p: Palette, rows: Sequence[Sequence[str]], width: int) -> Box:
    """Return a table with its cells side by side if the last column then has room, otherwise below the first one of their row."""
    head, *body = rows
    count = max(map(len, rows))
    lines = [[*row, *[""] * (count - len(row))] for row in rows]

    def natural(column: int) -> int:
        return max((_paragraph(p, line[column], 10**6).width for line in lines), default=0)

    left = [natural(column) for column in range(count - 1)]
    room = width - sum(column_width + 2 for column_width in left)
    if room < min(LEAST, natural(count - 1)):
        named = [_paragraph(p, " · ".join(filter(None, head)), width, p.dim)] if any(head) else []
        return vstack(*named, *(_stacked(p, row, width) for row in body))
    boxes = []
    for number, line in enumerate(lines):
        if number == 0 and not any(head):
            continue
        style = p.strong if number == 0 else None
        row = [_paragraph(p, cell, size, style) if cell else EMPTY for cell, size in zip(line, [*left, room], strict=True)]
        sized = [
            pad(box, right=size - box.width, bottom=not box.height) if box.height else text_box(p, " " * size)
            for box, size in zip(row, [*left, room], strict=True)
        ]
        boxes.append(in_columns(*sized, gap=2))
    return vstack(*boxes)


def _stacked(p: Palette, row: Sequence[str], width: int) -> Box:
    first, *others = (cell for cell in row if cell)
    below = (pad(_paragraph(p, cell, max(width - 2, 1)), left=2) for cell in others)
    return vstack(_paragraph(p, first, width, p.strong), *below)
