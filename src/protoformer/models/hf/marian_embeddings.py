"""Matrices of tokens and tables of positions in Marian's files: one for all uses, or several."""

from collections.abc import Mapping

import torch
from torch import Tensor

from protoformer.blocks.positions import sinusoids
from protoformer.models.hf.layout import same_tensor
from protoformer.models.weights import StateDict

TOKEN, TARGET_TOKEN, OUTPUT = "embeddings.token.weight", "target_embeddings.token.weight", "output.weight"  # ours
POSITION, TARGET_POSITION = "embeddings.position.weight", "target_embeddings.position.weight"
SHARED = "shared.weight"  # theirs, without "model."
SOURCE_TOKENS, TARGET_TOKENS, LM_HEAD = "encoder.embed_tokens.weight", "decoder.embed_tokens.weight", "lm_head.weight"
TABLES = ("encoder.embed_positions.weight", "decoder.embed_positions.weight")
SAME_TABLE = 2e-3  # half-precision files differ by as much from the sinusoids that they hold


def embeddings(plain: Mapping[str, Tensor]) -> StateDict:
    """Matrices of tokens and tables of positions under our names, from those names that the file has; equal ones once."""
    shared = next((plain[name] for name in (SHARED, SOURCE_TOKENS, TARGET_TOKENS, LM_HEAD) if name in plain), None)
    if shared is None:
        return {}
    source, target = plain.get(SOURCE_TOKENS, shared), plain.get(TARGET_TOKENS, plain.get(SHARED, shared))
    output = plain.get(LM_HEAD, target)
    body = {TOKEN: source}
    tables = [plain[name] for name in TABLES if name in plain and not _is_sinusoids(plain[name])]
    if tables:
        body[POSITION] = tables[0]
    if not same_tensor(source, target) or (tables and not same_tensor(tables[0], tables[-1])):
        body[TARGET_TOKEN] = target
        if tables:
            body[TARGET_POSITION] = tables[-1]
    if not same_tensor(output, target):
        body[OUTPUT] = output
    return body


def _is_sinusoids(table: Tensor) -> bool:
    """Whether a table holds Marian's own sinusoids, which are computed."""
    if table.ndim != 2 or not table.is_floating_point():
        return False
    rows, d_model = table.shape
    return torch.allclose(table.float(), sinusoids(rows, d_model, "halves"), rtol=0, atol=SAME_TABLE)
