"""Changes within a model that is computed: attention heads left out, their importance, activations kept and replaced."""
