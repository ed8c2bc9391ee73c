"""A run in one picture, to be read without a screen: as a page (HTML), a picture (SVG) or a text (Markdown)."""
