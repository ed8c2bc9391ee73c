"""Overlays with rows to choose from: stops, branches, checks, derivations, what-if, the legend."""
