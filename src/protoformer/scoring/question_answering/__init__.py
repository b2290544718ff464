"""Metrics of the official scripts of question-answering data sets, beside those of SQuAD."""
