"""The run as a whole: the header, the time line and the loss curve."""
