"""`protoformer probe heads`: the attention heads of a model held against the trees of a treebank."""
