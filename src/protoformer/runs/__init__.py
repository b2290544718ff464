"""A run on disk: its identity, its folder, its lock, its predictions. Never imports torch."""
