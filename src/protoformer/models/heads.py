"""Task heads: small layers from a pooled vector, or from each token's hidden state, to logits."""

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from protoformer.blocks import init
from protoformer.blocks.feed_forward import Activation, activate
from protoformer.blocks.kernels.dropout import Dropout


class ClassificationHead(nn.Module):
    """Dropout and a linear layer to one logit per label, initialised as BERT's (arXiv 1810.04805, section 4.1).

    With one label it is a regression head.
    """

    def __init__(self, d_model: int, n_labels: int, dropout: float = 0.1) -> None:
        super().__init__()
        self.dropout = Dropout(dropout)
        self.linear = nn.Linear(d_model, n_labels)
        init.bert(self)

    def forward(self, pooled: Float[Tensor, "batch d_model"]) -> Float[Tensor, "batch labels"]:
        return self.linear(self.dropout(pooled))


class SpanHead(nn.Module):
    """A start and an end vector, whose products with each hidden state are its logits (arXiv 1810.04805, section 4.2)."""

    def __init__(self, d_model: int) -> None:
        super().__init__()
        self.linear = nn.Linear(d_model, 2)
        init.bert(self)

    def forward(
        self, hidden: Float[Tensor, "*tokens d_model"]
    ) -> tuple[Float[Tensor, "*tokens"], Float[Tensor, "*tokens"]]:
        start, end = self.linear(hidden).unbind(-1)
        return start, end


class MaskedLMHead(nn.Module):
    """Masked language model: logits = LayerNorm(act(W h + b)) E^T + c, with the token embedding E and a bias c for each token
    of the vocabulary (arXiv 1810.04805, section 3.1, and its code). With `tied` false a matrix of its own is in place of E."""

    def __init__(
        self,
        d_model: int,
        vocab_size: int,
        activation: Activation = "gelu",
        norm_eps: float = 1e-12,
        tied: bool = True,
    ) -> None:
        super().__init__()
        self.activation: Activation = activation
        self.transform = nn.Linear(d_model, d_model)
        self.norm = nn.LayerNorm(d_model, eps=norm_eps)
        self.bias = nn.Parameter(torch.zeros(vocab_size))
        self.decoder = None if tied else nn.Linear(d_model, vocab_size, bias=False)
        init.bert(self)

    def forward(
        self, hidden: Float[Tensor, "*tokens d_model"], embedding: Float[Tensor, "vocab d_model"]
    ) -> Float[Tensor, "*tokens vocab"]:
        weight = embedding if self.decoder is None else self.decoder.weight
        return functional.linear(self.norm(activate(self.transform(hidden), self.activation)), weight, self.bias)


class NextSentenceHead(nn.Module):
    """Next sentence prediction from the pooled vector: the second part follows the first (logit 0), or is random (logit 1)."""

    def __init__(self, d_model: int) -> None:
        super().__init__()
        self.linear = nn.Linear(d_model, 2)
        init.bert(self)

    def forward(self, pooled: Float[Tensor, "batch d_model"]) -> Float[Tensor, "batch 2"]:
        return self.linear(pooled)
