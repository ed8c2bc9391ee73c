"""Writes the long description and the addresses of the package's metadata, from the README and the address in pyproject.toml."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from hatchling.metadata.plugin.interface import MetadataHookInterface

LINK = re.compile(r"(?<!!)\[([^]]*)\]\((?!https?:)([^)]+)\)")
CITATION = re.compile(r"(\*the tui_gru authors\. [^*]*)\.\*")
PICTURE = re.compile(r"^!\[([^]]*)\]\((?!https?:)([^)]+)\)\n\n?", re.MULTILINE)


class Metadata(MetadataHookInterface):
    """Sets the fields that pyproject.toml lists as dynamic."""

    def update(self, metadata: dict[str, Any]) -> None:
        """Set `readme` and `urls`."""
        repository = self.config["repository"].rstrip("/")
        text = Path(self.root, "README.md").read_text(encoding="utf-8")
        pictures, pages = (repository and f"{repository}/{self.config[kind]}" for kind in ("pictures", "pages"))
        metadata["readme"] = {
            "content-type": "text/markdown",
            "text": long_description(text, pictures, pages, repository),
        }
        metadata["urls"] = {} if not repository else {"Source": repository, "Changelog": f"{repository}#changes"}


def long_description(text: str, pictures: str, pages: str, repository: str = "") -> str:
    """Return the text with absolute addresses of its pictures and links, which are in these folders of the host, and the address of
    the repository in the citation; without pictures and with the words of the links only, if the folders are empty."""
    if repository:
        text = CITATION.sub(rf"\1, {repository}.*", text)
    text = PICTURE.sub(rf"![\1]({pictures}/\2)\n\n" if pictures else "", text)
    return LINK.sub(rf"[\1]({pages}/\2)" if pages else r"\1", text)
