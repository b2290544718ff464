"""What a layer of each kind costs, and how far apart it leaves two positions: by the paper's formulas, counted, measured."""
