"""The options of an optimisation: optimizer, learning-rate schedule, gradient clipping.

This file imports no torch, so that a config can be checked against its fields before torch is loaded.
"""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Annotated, Any, Literal

from protoformer.optim.schedules import Schedule


@dataclass(frozen=True)
class Optimization:
    """How weights are fitted. These are the keys of `recipe` that concern the optimizer, with their defaults."""

    lr: Annotated[float, "above 0"]  # the peak learning rate; with schedule="noam" a factor on d_model^-0.5
    # the learning rate rises from 0 meanwhile
    warmup: Annotated[float, "at least 0 (a fraction of all steps when below 1, else steps)"] = 0.0
    schedule: Schedule = "linear"  # of the learning rate after the warm-up; noam is that of the 2017 paper
    weight_decay: Annotated[float, "at least 0"] = 0.01  # decoupled; of matrices alone (`groups.decay_groups`)
    betas: Annotated[tuple[float, float], "two numbers, each at least 0 and below 1"] = (0.9, 0.999)  # of Adam
    eps: Annotated[float, "above 0"] = 1e-6  # of Adam
    bias_correction: bool = True  # of Adam; the code of BERT has none
    # betas, eps and bias_correction are read by adamw and lamb alone; sgd and adafactor are torch's own, with torch's defaults
    optimizer: Literal["adamw", "lamb", "sgd", "adafactor"] = "adamw"
    momentum: Annotated[float, "at least 0 and below 1"] = 0.0  # of sgd
    clip: Annotated[float, "above 0, or null for none"] | None = (
        1.0  # the largest norm of the whole gradient; None: no clipping
    )
    # the head learns at lr, the last layer at this times lr, the one below at its square, and so on, the embeddings slowest
    layerwise_lr_decay: Annotated[float, "above 0 and at most 1 (one rate for all)"] = 1.0
    # the fraction of all steps after which the schedule has ended (GPT-3's ends before training does)
    decay: Annotated[float, "a fraction of the run, above 0 and at most 1"] = 1.0
    final_lr: Annotated[float, "a fraction of recipe.lr, at least 0 and at most 1"] = (
        0.0  # the learning rate at the schedule's end, as a fraction of `lr`
    )

    @classmethod
    def from_recipe(cls, recipe: Mapping[str, Any]) -> "Optimization":
        """The fields of this class among the keys of a recipe; a key that is absent keeps its default."""
        return cls(**{field.name: recipe[field.name] for field in fields(cls) if field.name in recipe})
