"""Annotations of arguments, read without importing their modules, and values that are converted to them."""
