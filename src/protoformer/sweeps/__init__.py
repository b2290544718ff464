"""Sweeps: many runs of one file, on Optuna's ask and tell; its journal is shared by all workers."""
