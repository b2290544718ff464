"""Optimisation options, optimizers, parameter groups and learning-rate schedules of the papers. Imports no torch itself."""
