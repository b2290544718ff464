"""Code for speed alone: packed layouts, caches, fused losses, few-row products. The papers' layers are one folder above."""
