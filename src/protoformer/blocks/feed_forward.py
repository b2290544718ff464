"""Position-wise feed-forward network (arXiv 1706.03762, section 3.3, equation 2).

FFN(x) = act(x W1 + b1) W2 + b2, the same at every position. The 2017 model uses ReLU, BERT and GPT the GELU
(arXiv 1606.08415): BERT's code the exact one, GPT's the tanh form. Swish, x sigmoid(x) (arXiv 1710.05941), is Marian's.
"""

from typing import Literal, get_args

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

Activation = Literal["relu", "gelu", "gelu_tanh", "swish"]


def activated(x: Float[Tensor, "*tokens width"], activation: Activation) -> Float[Tensor, "*tokens width"]:
    """The activation by its name."""
    if activation == "relu":
        return functional.relu(x)
    if activation == "swish":
        return functional.silu(x)
    return functional.gelu(x, approximate="tanh" if activation == "gelu_tanh" else "none")


class FeedForward(nn.Module):
    """Two linear maps with an activation between."""

    def __init__(self, d_model: int, d_ff: int, activation: Activation = "relu") -> None:
        super().__init__()
        if activation not in get_args(Activation):
            raise ValueError(f"activation {activation!r}: one of {', '.join(get_args(Activation))}")
        self.activation = activation
        self.inner = nn.Linear(d_model, d_ff)
        self.outer = nn.Linear(d_ff, d_model)

    def forward(self, x: Float[Tensor, "*tokens d_model"]) -> Float[Tensor, "*tokens d_model"]:
        return self.outer(activated(self.inner(x), self.activation))
