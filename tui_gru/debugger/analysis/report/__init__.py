"""A report of a run: as a page (HTML), a picture (SVG) or a text (Markdown)."""
