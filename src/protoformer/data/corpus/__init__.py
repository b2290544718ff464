"""Corpora for pretraining: shards of token ids, sentence pairs and packs, masking."""
