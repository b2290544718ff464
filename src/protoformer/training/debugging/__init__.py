"""What `debug=nan`, `debug=overfit` and `debug=profile` do to a run."""
