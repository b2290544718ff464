"""Verbs that take a finished run, or published weights."""
