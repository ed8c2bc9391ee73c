"""The Textual screen. It draws snapshots of a session and turns keys into the session's verbs."""
