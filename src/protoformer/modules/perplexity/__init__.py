"""Perplexity of running text: the task module and its evaluation."""
