"""Widgets that draw arrays, independent of any model: matrices, bars, plots."""
