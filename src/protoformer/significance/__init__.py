"""Significance of the difference between two systems: resampling, variance, corrections. NumPy and sacreBLEU alone."""
