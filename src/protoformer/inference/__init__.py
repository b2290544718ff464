"""Trained models in use: load, predict, generate, translate, export."""
