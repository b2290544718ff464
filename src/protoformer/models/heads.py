"""Task heads: small maps from pooled vectors or token vectors to what a task asks for."""

from jaxtyping import Float
from torch import Tensor, nn

from protoformer.blocks import init
from protoformer.blocks.dropout import Dropout


class ClassificationHead(nn.Module):
    """Dropout and one linear map to a logit a label, initialised as BERT's (arXiv 1810.04805, section 4.1).

    With one label it is a regression head.
    """

    def __init__(self, d_model: int, n_labels: int, dropout: float = 0.1) -> None:
        super().__init__()
        self.dropout = Dropout(dropout)
        self.linear = nn.Linear(d_model, n_labels)
        init.bert(self)

    def forward(self, pooled: Float[Tensor, "batch d_model"]) -> Float[Tensor, "batch labels"]:
        return self.linear(self.dropout(pooled))
