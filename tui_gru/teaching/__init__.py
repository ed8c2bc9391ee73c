"""Lessons: Markdown files that the debugger executes, whose questions it answers, checks and gives hints on."""
