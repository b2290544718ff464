"""Prompts: templates of texts, and their ids."""
