"""From the options of an optimisation to torch's optimizer and learning-rate scheduler."""

from collections.abc import Iterable, Mapping

from torch import nn
from torch.optim import SGD, Adafactor, Optimizer
from torch.optim.lr_scheduler import LambdaLR

from protoformer.optim.adamw import adamw
from protoformer.optim.clock import TrainingClock
from protoformer.optim.groups import decay_groups, layer_groups
from protoformer.optim.lamb import Lamb
from protoformer.optim.optimization import Optimization
from protoformer.optim.schedules import lr_factor, timed_lr_factor, warmup_steps


def build_optimizer(
    parameters: Iterable[nn.Parameter], options: Optimization, lr_factors: Mapping[nn.Parameter, float] | None = None
) -> Optimizer:
    """The optimizer over two parameter groups: decayed matrices, and the rest without decay; two for each of `lr_factors`, by
    which the learning rate of a parameter is multiplied (None: 1 for all).

    With `sgd` the decay is added to the gradient, as torch's does; that of the others is decoupled from it. `adafactor` scales
    the learning rate by each tensor's root mean square, and limits it by 1 / sqrt(step) (arXiv 1804.04235).
    """
    groups = (
        decay_groups(parameters, options.weight_decay)
        if lr_factors is None
        else layer_groups(parameters, options.weight_decay, options.lr, lr_factors)
    )
    if options.optimizer == "sgd":
        return SGD(groups, lr=options.lr, momentum=options.momentum)
    if options.optimizer == "adafactor":
        return Adafactor(groups, lr=options.lr)
    if options.optimizer == "lamb":
        return Lamb(groups, options.lr, options.betas, options.eps, bias_correction=options.bias_correction)
    return adamw(groups, options.lr, options.betas, options.eps, bias_correction=options.bias_correction)


def build_lr_scheduler(
    optimizer: Optimizer,
    options: Optimization,
    *,
    total_steps: int | None,
    d_model: int,
    clock: TrainingClock | None = None,
) -> LambdaLR:
    """The scheduler, stepped once per optimizer step.

    `total_steps` counts the whole run's (None: `clock` alone ends it), `d_model` serves "noam" alone. With a clock the schedule
    follows the time.
    """
    shape = {"decay": options.decay, "final_lr": options.final_lr}
    if clock is not None:
        timed = timed_lr_factor(
            options.schedule, options.warmup, clock, total_steps=total_steps, d_model=d_model, **shape
        )
        return LambdaLR(optimizer, timed)
    if total_steps is None:
        raise ValueError("a schedule needs the number of steps, or a clock")
    warmup = warmup_steps(options.warmup, total_steps)
    return LambdaLR(optimizer, lr_factor(options.schedule, warmup, total_steps, d_model=d_model, **shape))
