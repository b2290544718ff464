"""Checks among ranks: that all run the same command, and that none of them hangs."""
