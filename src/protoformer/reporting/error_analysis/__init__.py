"""Sections of a run's card on single examples: slices of the evaluated ones, the data map of those it was trained on."""
