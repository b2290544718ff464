"""What ends a training before its last step: its time, and a dev score that rises no more."""
