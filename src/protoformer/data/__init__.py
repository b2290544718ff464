"""Sources of rows, canonical examples, token caches, samplers, and one LightningDataModule per task kind."""
