"""Reports on a run, as a page (HTML), a picture (SVG) or a text (Markdown)."""
