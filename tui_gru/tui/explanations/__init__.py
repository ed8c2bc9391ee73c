"""Explanations in one sentence of everything on the screen: values, panels, signs and colours."""
