"""Scaling: losses and in-context scores of finished runs over their size, tokens or shots."""
