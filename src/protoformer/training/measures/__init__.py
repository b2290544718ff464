"""What a run says of its own training: spikes, norms of each layer."""
