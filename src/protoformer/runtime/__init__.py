"""From the command line to a finished run: composing, run folders, launching, tracking, reports."""
