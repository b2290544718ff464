"""Readers: rows of a data set -> examples. An unusable row is an error that names file, row and column."""
