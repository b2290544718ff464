"""Weights, gradients and optimizer states divided among ranks (torch's `fully_shard`; ZeRO stage 3, arXiv 1910.02054)."""
