"""`protoformer report sweep`: the trials of a sweep, the best, the spread over seeds, the importance of each parameter."""
