"""A task's score without attention heads: `protoformer probe ablate`."""
