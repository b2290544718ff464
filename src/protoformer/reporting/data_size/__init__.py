"""`protoformer report data-size`: scores over the number of training examples."""
