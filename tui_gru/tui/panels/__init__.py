"""One panel of the main screen a file. A panel draws a snapshot and decides nothing."""
