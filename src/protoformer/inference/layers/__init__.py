"""`protoformer probe layers`: linear probes of every layer of a frozen model on a task."""
