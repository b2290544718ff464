"""Scoring by text alone (Radford et al. 2019; arXiv 2005.14165): prompts, log-likelihoods over shared prefixes, windows."""
