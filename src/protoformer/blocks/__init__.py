"""Building blocks of every family, in the papers' words. They import torch alone and know nothing of configs.

Axes in shapes: batch, seq (positions, padding included), tokens (real tokens of a batch, concatenated), d_model, heads,
d_key, d_head, d_ff, vocab, queries, keys. `*tokens` stands for either layout, `batch seq` or `tokens`.
"""
