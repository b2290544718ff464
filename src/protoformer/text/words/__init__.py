"""Words of texts: de-tokenisers with an inverse, and stop words."""
