"""Pool: trials side by side on one machine, each a process that is pinned to its own devices."""
