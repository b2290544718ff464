"""Template of texts and pairs that the encoder of an encoder-decoder reads for another task than translation."""

from protoformer.text.templates import InputTemplate, PooledToken
from protoformer.text.tokenizers import Tokenizer


class SourceTemplate(InputTemplate):
    """`a eos`, or `a eos b eos`: texts and pairs as sources of an encoder-decoder, for tasks on its encoder.

    Every text ends as a source does. There is no token for the whole sequence; the position that heads read is the last eos.
    """

    pooled_token: PooledToken = "last"

    def __init__(self, tokenizer: Tokenizer, eos_id: int) -> None:
        self.bos_id = self.sep_id = self.eos_id = eos_id
        self.pad_id = 0  # masked, so any id would do
        self.special_ids = (eos_id,)

    def __repr__(self) -> str:
        return f"{type(self).__qualname__}(eos_id={self.eos_id})"

    @property
    def prefix(self) -> list[int]:
        return []
