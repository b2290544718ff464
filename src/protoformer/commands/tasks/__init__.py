"""Commands that look at tasks: their prompts."""
