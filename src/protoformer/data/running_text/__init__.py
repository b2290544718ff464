"""Running text to be scored whole: texts of rows, the windows that a model reads, and the data module."""
