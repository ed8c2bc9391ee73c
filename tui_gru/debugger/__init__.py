"""The debugger: positions in time, replay, conditions and sessions. It uses the engine and knows no screen."""
