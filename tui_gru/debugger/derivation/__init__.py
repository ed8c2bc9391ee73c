"""Derivations of numbers: the terms of a number, their terms, and so on."""
