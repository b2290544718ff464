"""Integrated gradients (Sundararajan et al. 2017, arXiv 1703.01365): what each token adds to a logit, from a baseline on.

Along the straight line from the baseline's embeddings x' to the text's x, the attribution of a token is
sum over dimensions of (x - x') times the mean gradient of the logit (equation 1). The integral is a sum over the midpoints of
`steps` equal parts, whose error falls with the square of their number where the logit is smooth.

Completeness (proposition 1): the attributions sum to logit(x) - logit(x'). What the sum misses is the completeness error.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn

Logits = Callable[[Float[Tensor, "points seq d_model"]], Float[Tensor, "points"]]


class Attributions(NamedTuple):
    """The attribution of each token, in units of the logit, with the logit of the text and that of the baseline."""

    values: Float[Tensor, "seq"]
    logit: float
    baseline_logit: float
    steps: int

    @property
    def difference(self) -> float:
        """What the attributions sum to if they are complete."""
        return self.logit - self.baseline_logit

    @property
    def completeness_error(self) -> float:
        """|sum of the attributions - (logit - baseline's logit)|, in units of the logit."""
        return abs(float(self.values.sum()) - self.difference)

    @property
    def relative_error(self) -> float:
        """The completeness error over the largest of |difference| and the sum of |attributions|; 0 where both are 0."""
        scale = max(abs(self.difference), float(self.values.abs().sum()))
        return self.completeness_error / scale if scale else 0.0


def integrated_gradients(
    logits: Logits,
    embeddings: Float[Tensor, "seq d_model"],
    baseline: Float[Tensor, "seq d_model"],
    steps: int,
    points_at_once: int = 16,
) -> Attributions:
    """Attributions of one text. `logits` gives the logit for each of a batch of embedded texts.

    The cost is a forward and a backward pass for each step, `points_at_once` in a batch. Raises ValueError for no steps.
    """
    if steps < 1:
        raise ValueError(f"steps={steps}: at least 1")
    path = (embeddings - baseline).detach()
    gradient = torch.zeros_like(path, dtype=torch.double)
    # float32 as in the model: the midpoints are exact where `steps` is a power of two
    fractions = (torch.arange(steps, dtype=path.dtype, device=path.device) + 0.5) / steps
    for chunk in fractions.split(points_at_once):
        points = (baseline + chunk[:, None, None] * path).detach().requires_grad_()
        with torch.enable_grad():
            (gradients,) = torch.autograd.grad(logits(points).sum(), points)
        gradient += gradients.double().sum(0)
    with torch.no_grad():
        baseline_logit, logit = logits(torch.stack([baseline, embeddings])).double().tolist()
    return Attributions((path.double() * gradient / steps).sum(-1), logit, baseline_logit, steps)


@contextmanager
def replaced_embeddings(embedding: nn.Module, points: Float[Tensor, "points seq d_model"]) -> Iterator[None]:
    """Within it `embedding` returns these vectors, whatever ids it reads: as many, packed or not.

    Positions and segments are added as for the ids.
    """

    def replace(_: nn.Module, __: object, output: Tensor) -> Tensor:
        return points.reshape(output.shape).to(output.dtype)

    hook = embedding.register_forward_hook(replace)
    try:
        yield
    finally:
        hook.remove()
