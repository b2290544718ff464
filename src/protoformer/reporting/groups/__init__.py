"""Runs of one model on one task, by recipe: their table, its notes, and the files of a report."""
