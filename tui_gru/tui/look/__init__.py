"""The look of the screen: themes, colours, signs, and the characters that a terminal can show."""
