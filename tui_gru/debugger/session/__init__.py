"""The session: verbs in, snapshots out."""
