"""Parameter groups, optimizers and schedules of the papers."""
