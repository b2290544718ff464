"""Answers to texts: encoded as a run's own data are, in batches of similar length."""
