"""The kinds of tasks, a file each: loss, outputs and metrics as a TaskModule."""
