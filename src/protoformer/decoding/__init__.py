"""Decoding: sampling and beam search, for decoders and encoder-decoders."""
