"""Learning in context: the task module, and the evaluation of what it scores or writes."""
