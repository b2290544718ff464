"""Limits that a training meets: its time, a dev score that rises no more, the memory of its device."""
