"""Attention heads held against syntax: treebanks, attention between words, relations, trees."""
