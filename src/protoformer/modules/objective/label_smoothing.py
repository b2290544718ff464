"""Label smoothing (arXiv 1706.03762, section 5.4; Szegedy et al., arXiv 1512.00567, section 7).

The target distribution is (1 - epsilon) on the right token plus epsilon spread evenly over the vocabulary. With logits z over V
tokens the cross-entropy to it is

    log sum_v exp(z_v) - (1 - epsilon) z_target - epsilon mean_v(z_v)
        = plain loss + epsilon (z_target - mean_v(z_v))

and with z_v = h . w_v the mean of the logits is h . mean_v(w_v): no further logits are needed.
"""

from jaxtyping import Float, Int
from torch import Tensor


def label_smoothed(
    token_losses: Float[Tensor, "targets"],
    hidden: Float[Tensor, "targets d_model"],
    weight: Float[Tensor, "vocab d_model"],
    target: Int[Tensor, "targets"],
    epsilon: float,
) -> Float[Tensor, "targets"]:
    """The smoothed loss of each target, from its plain cross-entropy `token_losses`, the hidden state and the output matrix."""
    target_minus_mean_logit = (hidden.float() * (weight[target] - weight.mean(0))).sum(-1)
    return token_losses + epsilon * target_minus_mean_logit
