"""Rules that a yaml reads as `${name:...}`."""
