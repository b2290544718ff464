"""How much of a test set stands in a training corpus (Radford et al. 2019, section 4; arXiv 2005.14165, appendix C)."""
