"""Processes and devices: launching, the world, collectives, signals, strategies."""
