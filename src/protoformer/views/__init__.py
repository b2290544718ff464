"""Views: what a run looks like, drawn from the files in its folder."""
