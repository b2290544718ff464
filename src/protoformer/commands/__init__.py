"""The verbs of the command line, a file each: `HELP`, `add_arguments(parser)` and `run(options)`."""
