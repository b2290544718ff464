"""Lightning callbacks of a training run: checkpoints, averaging, progress, throughput, logging, random state."""
