"""Verbs that look into a model: `protoformer probe ...`."""
