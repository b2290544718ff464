"""Scalar mix of a model's layers under a linear probe (Peters et al. 2018, arXiv 1802.05365, equation 1)."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from protoformer.modules.linear_probe import LinearlyProbed, LinearProbe


class ScalarMixProbe(LinearProbe):
    """A linear probe of gamma * sum_l softmax(w)_l h_l, where w, gamma and the head are fitted together.

    Features are `(examples, sequences, layers, d_model)`; each layer's have mean and standard deviation taken out. The L2
    penalty of a fit's strength is that of the head's weight; w and gamma - 1 have one of strength 1 (Peters et al., section
    3.3: of w). A fit begins with the mean of the layers, w = 0 and gamma = 1.
    """

    def __init__(self, module: LinearlyProbed, layers: int) -> None:
        super().__init__(module)
        self.scalars = nn.Parameter(torch.zeros(layers, dtype=torch.double))
        self.gamma = nn.Parameter(torch.ones(1, dtype=torch.double))

    @property
    def weights(self) -> Float[Tensor, "layers"]:
        """softmax(w), which sum to 1."""
        return self.scalars.detach().softmax(0)

    def mixed(
        self, features: Float[Tensor, "examples sequences layers d_model"]
    ) -> Float[Tensor, "examples sequences d_model"]:
        return self.gamma * torch.matmul(self.scalars.softmax(0), features)

    def _parameters(self) -> list[nn.Parameter]:
        return [*super()._parameters(), self.scalars, self.gamma]

    def _initialise(self) -> None:
        super()._initialise()
        nn.init.zeros_(self.scalars)
        nn.init.ones_(self.gamma)

    def _logits(self, features: Tensor, positions: Tensor) -> Tensor:
        return super()._logits(self.mixed(features), positions)

    def _penalty(self, strength: float) -> Tensor:
        return super()._penalty(strength) + (self.scalars**2).sum() + (self.gamma - 1).pow(2).sum()
