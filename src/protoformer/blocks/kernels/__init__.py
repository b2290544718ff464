"""What is there for speed alone: packed layouts, caches, fused losses. The papers' layers stand one folder above."""
