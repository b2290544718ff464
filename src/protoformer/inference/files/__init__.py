"""Files that are read and written row by row: in constant memory, with progress, and continued after an interruption."""
