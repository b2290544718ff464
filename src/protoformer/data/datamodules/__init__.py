"""A LightningDataModule for each kind of task, with its collate function."""
