"""Weight initialisation, one function a paper. Each fills a module and everything inside it, in place."""

from torch import nn

from protoformer.blocks.attention import MultiHeadAttention


def bert(module: nn.Module, std: float = 0.02) -> None:
    """Truncated normal (at two deviations) for weights, zero for biases, one for norms: BERT's code."""
    for submodule in module.modules():
        if isinstance(submodule, nn.Linear | nn.Embedding):
            # biases and norms below; a norm is set to 1 and 0
            nn.init.trunc_normal_(submodule.weight, std=std, a=-2 * std, b=2 * std)
        _reset_bias_and_norm(submodule)


def transformer(module: nn.Module) -> None:
    """Glorot uniform for linear layers, N(0, 1/d_model) for embeddings: the 2017 paper's code."""
    attentions = [submodule for submodule in module.modules() if isinstance(submodule, MultiHeadAttention)]
    # each fused projection is initialised as the matrices that it consists of
    split_sizes = {attention.fused_projection: attention.split_sizes for attention in attentions}
    for submodule in module.modules():
        if isinstance(submodule, nn.Linear):
            # Glorot's range depends on the shape: a fused 3d x d matrix would get 0.707 of the deviation of three d x d ones
            for matrix in submodule.weight.detach().split(split_sizes.get(submodule, len(submodule.weight))):
                nn.init.xavier_uniform_(matrix)
        # times sqrt(d_model) when they are looked up: N(0, 1)
        if isinstance(submodule, nn.Embedding):
            nn.init.normal_(submodule.weight, std=submodule.embedding_dim**-0.5)
        _reset_bias_and_norm(submodule)


def gpt(module: nn.Module, std: float = 0.02) -> None:
    """N(0, 0.02) for weights (Radford et al. 2018, section 4.1), zero biases."""
    for submodule in module.modules():
        if isinstance(submodule, nn.Linear | nn.Embedding):
            nn.init.normal_(submodule.weight, std=std)
        _reset_bias_and_norm(submodule)


def _reset_bias_and_norm(submodule: nn.Module) -> None:
    if isinstance(submodule, nn.Linear) and submodule.bias is not None:
        nn.init.zeros_(submodule.bias)
    if isinstance(submodule, nn.LayerNorm):
        submodule.reset_parameters()


def scale_residual(projections: list[nn.Linear], n_layers: int) -> None:
    """GPT-2 (section 2.3): weights of residual projections times 1/sqrt(number of residual sublayers), 2 a layer."""
    for projection in projections:
        # so that the variance of the residual sum does not grow with depth
        projection.weight.data.mul_((2 * n_layers) ** -0.5)
