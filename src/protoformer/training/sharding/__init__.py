"""Runs whose weights, gradients and optimizer states are divided among ranks: the strategy, and checkpoints in shards."""
