"""Curves of long series: axes, dots, smoothing, summaries."""
