"""From tables of ids to batches."""
