"""Rows of a data set as canonical examples."""
