"""Table 1 of arXiv 1706.03762: costs and path lengths of layer types, by the paper's formulas, counted and measured."""
