"""The screens: the main one, and those that are laid over it."""
