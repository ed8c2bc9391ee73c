"""The manual as a site that any static host can serve: python -m tests.site OUT

The README is its first page. Each page of the manual is a page of its own, with the pictures; below a command that writes a walk it
can be stepped, and the lessons are answered in the page. Nothing is loaded from elsewhere.
"""

from __future__ import annotations

import html
import os
import posixpath
import re
import shlex
import shutil
import sys
from collections.abc import Iterator, Sequence
from contextlib import chdir
from itertools import pairwise
from pathlib import Path

from markdown_it import MarkdownIt
from markdown_it.token import Token

from tui_gru.cli.commands import main as tui_gru_command
from tui_gru.teaching.lesson import SHIPPED, shipped_lessons

ROOT = Path(__file__).parents[1]
MANUAL = ROOT / "tui_gru" / "manual"
README, CONTENTS = ROOT / "README.md", MANUAL / "contents.md"
#: The pages by their files, as paths of the site.
_IN_ORDER = [CONTENTS, *(MANUAL / name for name in re.findall(r"\]\(([\w-]+\.md)\)", CONTENTS.read_text(encoding="utf-8")))]
PAGES = {README: "index.html"} | {path: f"manual/{path.stem}.html" for path in _IN_ORDER}
PAGES |= {path: f"{path.stem.lower()}.html" for path in sorted((ROOT / ".github").glob("*.md"))}
LESSONS = [SHIPPED / f"{name}.md" for name in shipped_lessons()]
STYLE = Path(__file__).with_name("site.css")


def heading_id(words: str) -> str:
    """Return the anchor of a heading, as GitHub makes it."""
    return re.sub(r"[^\w\- ]", "", words.lower()).replace(" ", "-")


class Site:
    """The pages, written into a folder."""

    def __init__(self, out: Path, lessons: Sequence[Path] = LESSONS) -> None:
        self.out, self._lessons = out, lessons
        self._markdown = MarkdownIt("commonmark", {"html": False}).enable("table")

    def write(self) -> list[str]:
        """Write every page with what it shows; return the paths of the pages within the folder."""
        shutil.copytree(ROOT / "screenshots", self.out / "screenshots", dirs_exist_ok=True)
        (self.out / "site.css").write_text(STYLE.read_text(encoding="utf-8"), encoding="utf-8")
        shutil.copy(ROOT / "LICENSE", self.out / "license.txt")
        for source, path in PAGES.items():
            self._write_page(source, path)
        lessons = [self._write_lesson(source) for source in self._lessons]
        items = "".join(f'<li><a href="{html.escape(path)}">{html.escape(title)}</a></li>' for path, title in lessons)
        words = "Each is a page that asks, checks the answers and can hint. Nothing that is typed leaves the page."
        self._write_html("lessons.html", "Lessons", f"<h1>Lessons</h1><p>{words}</p><ul>{items}</ul>")
        return [*PAGES.values(), "lessons.html", *(path for path, _ in lessons)]

    def _write_page(self, source: Path, path: str) -> None:
        tokens = self._markdown.parse(source.read_text(encoding="utf-8"))
        title = next(after.content for token, after in pairwise(tokens) if token.type == "heading_open")
        body = self._markdown.renderer.render(list(self._on_site(tokens, source, path)), self._markdown.options, {})
        self._write_html(path, title, body)

    def _on_site(self, tokens: list[Token], source: Path, path: str) -> Iterator[Token]:
        """Yield the tokens of a page with anchors, addresses on the site, and walks below the commands that write them."""
        for token, after in zip(tokens, [*tokens[1:], None], strict=True):
            if token.type == "heading_open" and after is not None:
                token.attrSet("id", heading_id(after.content))
            for part in token.children or ():
                for name in ("href", "src"):
                    if isinstance(target := part.attrGet(name), str):
                        part.attrSet(name, self.address(target, source, path))
            yield token
            if token.type == "fence" and token.info == "sh":
                for command in token.content.splitlines():
                    words = shlex.split(command, comments=True)
                    if words[:2] == ["tui-gru", "player"] and "--session" not in words:
                        yield self._walk(words[1:], path)

    def address(self, target: str, source: Path, path: str) -> str:
        """Return the address on the page `path` of what `source` links to. Raises ValueError if it is no file of the site."""
        if re.match(r"[a-z]+:", target):
            return target
        name, _, anchor = target.partition("#")
        if not name:
            return target
        file = Path(os.path.normpath(source.parent / name))
        if file in PAGES:
            to = PAGES[file]
        elif file.parent == ROOT / "screenshots":
            to = f"screenshots/{file.name}"
        elif file == ROOT / "LICENSE":
            to = "license.txt"
        else:
            raise ValueError(f"{source.name} links to {target}, which is not on the site")
        return relative(to, path) + (f"#{anchor}" if anchor else "")

    def _walk(self, arguments: list[str], path: str) -> Token:
        """Write the walk of a command, and return a frame with it."""
        name = Path(arguments[arguments.index("-o") + 1]).name
        file = self.out / "walks" / name
        file.parent.mkdir(exist_ok=True)
        arguments = [str(file) if argument == arguments[arguments.index("-o") + 1] else argument for argument in arguments]
        with chdir(file.parent):
            if tui_gru_command([*arguments, "--force"]):
                raise ValueError(f"the command of {name} has failed")
        frame = Token("html_block", "", 0)
        frame.content = f'<iframe src="{relative(f"walks/{name}", path)}" title="{html.escape(name)}" loading="lazy"></iframe>\n'
        return frame

    def _write_lesson(self, source: Path) -> tuple[str, str]:
        """Write a lesson as a page; return its path and its title."""
        path = f"lessons/{source.stem}.html"
        (self.out / "lessons").mkdir(exist_ok=True)
        if tui_gru_command(["player", "--lesson", str(source), "-o", str(self.out / path), "--force"]):
            raise ValueError(f"the lesson {source.name} has failed")
        title = re.search(r"^# (.*)$", source.read_text(encoding="utf-8"), re.MULTILINE)
        return path, title[1] if title else source.stem

    def _write_html(self, path: str, title: str, body: str) -> None:
        links = [("index.html", "tui-gru"), ("lessons.html", "Lessons")]
        links += [
            (to, source.read_text(encoding="utf-8").partition("\n")[0].removeprefix("# "))
            for source, to in PAGES.items()
            if to[:7] == "manual/"
        ]
        rows = "".join(
            f'<a href="{relative(to, path)}"{" aria-current=page" * (to == path)}>{html.escape(words)}</a>' for to, words in links
        )
        page = f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="description" content="tui-gru, a debugger for recurrent networks: {html.escape(title)}">
<title>{html.escape(title)} · tui-gru</title>
<link rel="icon" href="data:,">
<link rel="stylesheet" href="{relative("site.css", path)}">
</head>
<body>
<nav>{rows}</nav>
<main>
{body}</main>
</body>
</html>
"""
        (self.out / path).parent.mkdir(parents=True, exist_ok=True)
        (self.out / path).write_text(page, encoding="utf-8")


def relative(target: str, path: str) -> str:
    """Return the address of one path of the site on the page of another."""
    return posixpath.relpath(target, posixpath.dirname(path) or ".")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python -m tests.site OUT")
    folder = Path(sys.argv[1]).absolute()
    folder.mkdir(parents=True, exist_ok=True)
    print(f"{len(Site(folder).write())} pages in {folder}")
