"""Templates of encoder-decoders: pairs of source and target, and texts of other tasks as sources."""
