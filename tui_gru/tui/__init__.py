"""The Textual user interface: draws snapshots of a session, and executes its verbs on keys and commands."""
