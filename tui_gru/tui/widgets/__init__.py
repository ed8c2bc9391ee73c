"""Widgets that draw arrays and know nothing of a GRU: matrices, bars, plots."""
