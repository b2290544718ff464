"""Corpora for pretraining: shards, sentence pairs, masking."""
