"""Scoring: pure functions from predictions and references to numbers; no framework, no files."""
