"""Composing a config and judging it. Never imports torch."""
