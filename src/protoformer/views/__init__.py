"""Views of runs and models: learning curves, attention as an HTML page or a picture, statistics of attention heads."""
