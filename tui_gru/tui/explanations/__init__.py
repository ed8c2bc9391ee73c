"""What everything on the screen is, in a sentence: values, panels, signs and colours."""
