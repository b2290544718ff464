"""From tables of ids to padded batches: samplers, padding, the loader."""
