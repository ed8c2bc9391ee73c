"""How the screen looks: themes, colours, signs, and the characters that a terminal can show."""
