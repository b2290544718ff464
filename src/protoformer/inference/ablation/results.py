"""What ablations give: scores without one head, and without the least important ones."""

from dataclasses import dataclass

from protoformer.interventions.heads import Head


@dataclass(frozen=True)
class Ablation:
    """The score without one head; `importance` is that of the loss's gradient, and `changed` counts other predictions (None: a
    kind without any)."""

    head: Head
    score: float
    change: float
    changed: int | None
    importance: float


@dataclass(frozen=True)
class Pruning:
    """The score without the `removed` least important heads."""

    removed: int
    score: float
    changed: int | None
