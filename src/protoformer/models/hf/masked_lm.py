"""Copies in the files of a masked language model: one matrix, and one bias, under several names."""

import logging
from collections.abc import Mapping

from torch import Tensor

from protoformer.models.hf.layout import same_tensor
from protoformer.models.weights import StateDict

log = logging.getLogger(__name__)

OUTPUT = "cls.predictions.decoder.weight"
BIAS, OTHER_BIAS = "cls.predictions.bias", "cls.predictions.decoder.bias"  # one vector
TOKEN = "embeddings.token.weight"  # ours


def is_untied(plain: Mapping[str, Tensor]) -> bool:
    """Whether the head has a matrix of its own, of tensors under plain names of theirs."""
    output, token = plain.get(OUTPUT), plain.get("embeddings.word_embeddings.weight")
    return output is not None and token is not None and not same_tensor(output, token)


def resolve_copies(body: StateDict, heads: StateDict) -> None:
    """Leave one of two equal tensors: of the embedding and the output matrix, and of the masked-LM head's two biases.

    Where the biases differ, the one of the output layer is kept, which `transformers` computes with.
    """
    if OUTPUT in heads and (TOKEN not in body or same_tensor(body[TOKEN], heads[OUTPUT])):
        body[TOKEN] = heads.pop(OUTPUT)
    if (other := heads.pop(OTHER_BIAS, None)) is not None:
        if BIAS in heads and not same_tensor(heads[BIAS], other):
            log.warning("%s and %s differ: the latter is used, as by transformers", BIAS, OTHER_BIAS)
        heads[BIAS] = other
