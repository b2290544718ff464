"""A LightningDataModule for each kind of task."""
