"""Initialisers, one a paper. Each takes a module and fills it and everything inside it."""

from torch import nn

from protoformer.blocks.attention import MultiHeadAttention


def bert(module: nn.Module, std: float = 0.02) -> None:
    """Truncated normal (at two deviations) for weights, zero for biases, one for norms: BERT's code."""
    for part in module.modules():
        if isinstance(part, nn.Linear | nn.Embedding):
            nn.init.trunc_normal_(part.weight, std=std, a=-2 * std, b=2 * std)
        if isinstance(part, nn.Linear) and part.bias is not None:
            nn.init.zeros_(part.bias)
        if isinstance(part, nn.LayerNorm):
            part.reset_parameters()


def transformer(module: nn.Module) -> None:
    """Glorot uniform for maps, N(0, 1/d_model) for embeddings: the 2017 paper's code.

    Its queries, keys and values are matrices of their own, so each part of a fused one is filled by itself: Glorot looks
    at the shape, and over 3 d x d the deviation would be 0.707 of the paper's.
    """
    attentions = [part for part in module.modules() if isinstance(part, MultiHeadAttention)]
    parts = {attention.fused: attention.parts for attention in attentions}
    for part in module.modules():
        if isinstance(part, nn.Linear):
            for matrix in part.weight.detach().split(parts.get(part, len(part.weight))):
                nn.init.xavier_uniform_(matrix)
            if part.bias is not None:
                nn.init.zeros_(part.bias)
        if isinstance(part, nn.Embedding):
            nn.init.normal_(part.weight, std=part.embedding_dim**-0.5)
        if isinstance(part, nn.LayerNorm):
            part.reset_parameters()


def gpt(module: nn.Module, std: float = 0.02) -> None:
    """N(0, 0.02) for weights (Radford et al. 2018, section 4.1), zero biases."""
    for part in module.modules():
        if isinstance(part, nn.Linear | nn.Embedding):
            nn.init.normal_(part.weight, std=std)
        if isinstance(part, nn.Linear) and part.bias is not None:
            nn.init.zeros_(part.bias)
        if isinstance(part, nn.LayerNorm):
            part.reset_parameters()


def scale_residual(projections: list[nn.Linear], n_layers: int) -> None:
    """GPT-2 (section 2.3): weights of residual projections times 1/sqrt(number of residual sublayers), 2 a layer."""
    for projection in projections:
        projection.weight.data.mul_((2 * n_layers) ** -0.5)
