"""Figures of a model's heads, layer by layer: the relations that they find, and what a score loses without them."""
