"""Builders from hyperparameters to blocks, heads, poolers, and published weights. No Lightning, no Hydra."""
