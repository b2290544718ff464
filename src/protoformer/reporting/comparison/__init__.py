"""Comparison of two groups of runs by their examples: what they recorded, its significance, the table."""
