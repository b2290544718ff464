"""Examples phrased as text, with shots in front of them."""
