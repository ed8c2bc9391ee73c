"""The main screen, its parts, and the help screen."""
