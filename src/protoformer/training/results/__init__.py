"""What a finished run leaves: its result, its record, its attention page."""
