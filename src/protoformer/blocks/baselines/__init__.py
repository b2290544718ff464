"""Layers of the models that the Transformer is compared with: recurrent, convolutional, and their attention to a source."""
