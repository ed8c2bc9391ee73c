"""The verbs of a session: functions on its run, each of which leads to another state."""
