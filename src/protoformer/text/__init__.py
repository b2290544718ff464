"""From text to ids: tokenizers, and formats, which say how one family writes an example down."""
