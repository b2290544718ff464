"""Position-wise feed-forward network (arXiv 1706.03762, section 3.3, equation 2).

FFN(x) = act(x W1 + b1) W2 + b2, the same at every position. The activation is ReLU in the 2017 model, in BERT and GPT the
GELU (arXiv 1606.08415), and in Marian swish (arXiv 1710.05941).
"""

from typing import Literal, get_args

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from protoformer.blocks.kernels.fast_decode import apply_linear, defines_decode_step

Activation = Literal["relu", "gelu", "gelu_tanh", "swish"]


def activate(x: Float[Tensor, "*tokens width"], activation: Activation) -> Float[Tensor, "*tokens width"]:
    """The activation of this name."""
    if activation == "relu":  # max(0, x)
        return functional.relu(x)
    if activation == "swish":  # x sigmoid(x)
        return functional.silu(x)
    if activation == "gelu":  # x Phi(x), Phi the normal distribution function: BERT's code
        return functional.gelu(x)
    # gelu_tanh: x/2 (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3))), an approximation of the same: GPT's code
    return functional.gelu(x, approximate="tanh")


class FeedForward(nn.Module):
    """Two linear layers with an activation between them."""

    def __init__(self, d_model: int, d_ff: int, activation: Activation = "relu") -> None:
        super().__init__()
        if activation not in get_args(Activation):
            raise ValueError(f"activation {activation!r}: one of {', '.join(get_args(Activation))}")
        self.activation = activation
        self.inner = nn.Linear(d_model, d_ff)
        self.outer = nn.Linear(d_ff, d_model)

    def forward(self, x: Float[Tensor, "*tokens d_model"]) -> Float[Tensor, "*tokens d_model"]:
        return self.outer(activate(self.inner(x), self.activation))

    @property
    def supports_fast_decode(self) -> bool:
        return defines_decode_step(self)

    def decode_step(self, x: Float[Tensor, "batch d_model"]) -> Float[Tensor, "batch d_model"]:
        """`forward` for one token a sequence, without gradients, by products that suit small batches."""
        return apply_linear(self.outer, activate(apply_linear(self.inner, x), self.activation))
