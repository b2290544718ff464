"""Opening a model for use: a run folder, a folder of published weights, or a hub id."""
