"""The verb: which heads are left out, in which order, and what is printed and written."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from jaxtyping import Float
from torch import Tensor

from protoformer.errors import ConfigurationError
from protoformer.inference.ablation.files import write_ablations, write_prunings
from protoformer.inference.ablation.overlap import HeadOverlap, head_overlap, read_syntactic_heads
from protoformer.inference.ablation.results import Ablation, Pruning
from protoformer.inference.ablation.scored_task import DevScore, ScoredTask
from protoformer.inference.files.progress import Progress, counted
from protoformer.inference.syntax.output import writable_folder
from protoformer.interventions.heads import Head, ablated, heads_of, parse_heads
from protoformer.interventions.importance import head_importance, mean_outputs
from protoformer.reporting.paper_results import format_metric
from protoformer.reporting.tables import print_table

SHOWN = 10  # heads at either end
STEPS = 16  # scores of the curve, about


@dataclass(frozen=True)
class AblationOptions:
    """As of the command line. `heads` None: each, and all in order of importance. Only then `syntactic` and `out` are read."""

    heads: Sequence[str] | None = None
    values: Literal["mean", "zero"] = "mean"
    examples: int = 500
    syntactic: str | None = None
    out: str | None = None


def main(config: dict[str, Any], name: str, options: AblationOptions) -> None:
    """Print the scores, and write them where `options.out` says.

    Raises ConfigurationError for heads that the model lacks, a model without heads, and a task without the data that is needed.
    """
    if options.examples < 1:
        raise ConfigurationError(f"--examples {options.examples}: at least one")
    task = ScoredTask(_for_one_example(config))
    model = task.module.backbone
    heads = heads_of(model)
    if not heads:
        raise ConfigurationError(f"{name}: no layer of this model has attention in heads")
    chosen = None if options.heads is None else parse_heads(options.heads, model)
    syntactic = None if options.syntactic is None else read_syntactic_heads(Path(options.syntactic), heads)
    folder = None if options.out is None else writable_folder(options.out)
    whole = task.score()
    print(f"{name}: {100 * whole.score:.2f} on {counted(whole.examples, 'dev example')}, with all {len(heads)} heads")
    needed = options.values == "mean" or chosen is None
    examples = task.training_examples(options.examples) if needed else []
    means = mean_outputs(task.module, examples) if options.values == "mean" else None
    if chosen is not None:
        _print_chosen(task, chosen, whole, means)
        return
    ablations, prunings = ablate_each(task, whole, means, examples)
    _print_ablations(ablations, options)
    _print_prunings(prunings, len(heads), len(examples))
    shared = None if syntactic is None else head_overlap([each.head for each in ranked(ablations)], syntactic)
    if shared is not None:
        _print_overlap(shared)
    if folder is not None:
        print(write_ablations(folder, ablations, syntactic or {}))
        print(write_prunings(folder, prunings))
        from protoformer.views.heads import ablation as figure  # not at the top: matplotlib is slow to import

        print(figure.draw(folder / "ablation.svg", ablations, prunings, whole.score))


def _for_one_example(config: dict[str, Any]) -> dict[str, Any]:
    """The config with batches of one training example, on the CPU, and gradients of everything."""
    recipe = {**config["recipe"], "batch_size": 1, "batching": "random", "freeze": None}
    return {**config, "recipe": recipe, "hardware": {**config["hardware"], "micro_batch": None, "workers": 0}}


def ablate_each(
    task: ScoredTask,
    whole: DevScore,
    means: Mapping[Head, Float[Tensor, "d_head"]] | None,
    examples: Sequence[Mapping[str, Tensor]],
) -> tuple[list[Ablation], list[Pruning]]:
    """Scores without each head, in the model's order; and without the least important ones, from none to all."""
    model = task.module.backbone
    heads = heads_of(model)
    importance = head_importance(task.module, examples)
    order = sorted(heads, key=lambda head: (importance[head], head))
    numbers = sorted({max(1, round(step * len(heads) / STEPS)) for step in range(1, STEPS + 1)})
    progress = Progress("evaluation", len(heads) + len(numbers))
    ablations = []
    for done, head in enumerate(heads):
        with ablated(model, [head], means):
            score = task.score()
        ablations.append(Ablation(head, score.score, score.score - whole.score, whole.changed(score), importance[head]))
        progress.update(done + 1)
    prunings = [Pruning(0, whole.score, whole.changed(whole))]
    for done, number in enumerate(numbers):
        with ablated(model, order[:number], means):
            score = task.score()
        prunings.append(Pruning(number, score.score, whole.changed(score)))
        progress.update(len(heads) + done + 1)
    progress.close()
    return ablations, prunings


def ranked(ablations: Sequence[Ablation]) -> list[Ablation]:
    """The most important first: by what the score loses, then by the gradient."""
    return sorted(ablations, key=lambda each: (each.change, -each.importance))


def _print_chosen(
    task: ScoredTask, heads: Sequence[Head], whole: DevScore, means: Mapping[Head, Tensor] | None
) -> None:
    with ablated(task.module.backbone, heads, means):
        without = task.score()
    rows = [
        _change(metric, value, without.metrics[metric], percent=metric in whole.percent)
        for metric, value in whole.metrics.items()
    ]
    rows.append(_change("score", whole.score, without.score, percent=True))
    print_table(("metric", "all heads", f"without {', '.join(map(str, heads))}", "change"), rows)
    changed = whole.changed(without)
    if changed is not None:
        print(f"{counted(changed, 'prediction')} of {whole.examples:,} changed")


def _change(name: str, before: float, after: float, *, percent: bool) -> tuple[str, str, str, str]:
    change = format_metric(after - before, percent)
    return (
        name,
        format_metric(before, percent),
        format_metric(after, percent),
        change if change[0] == "-" else f"+{change}",
    )


def _count(changed: int | None) -> str:
    return "-" if changed is None else f"{changed:,}"


def _print_ablations(ablations: Sequence[Ablation], options: AblationOptions) -> None:
    by_loss = ranked(ablations)
    shown = by_loss if len(by_loss) <= 2 * SHOWN else [*by_loss[:SHOWN], *by_loss[-SHOWN:]]
    rows = [
        (
            str(each.head),
            f"{100 * each.score:.2f}",
            f"{100 * each.change:+.2f}",
            _count(each.changed),
            f"{each.importance:.3f}",
        )
        for each in shown
    ]
    part = f"; the {len(shown)} of {len(by_loss)} that cost most and least" if len(shown) < len(by_loss) else ""
    print_table(
        ("head", "score", "change", "other predictions", "importance"), rows,
        title=f"without one head ({options.values}){part}",
        section_after=SHOWN if len(by_loss) > len(shown) else None,
    )  # fmt: skip
    worse = sum(each.change < 0 for each in ablations)
    better = sum(each.change > 0 for each in ablations)
    print(
        f"without one head the score is lower for {worse}, higher for {better}, the same for {len(ablations) - worse - better}"
    )


def _print_prunings(prunings: Sequence[Pruning], heads: int, examples: int) -> None:
    rows = [
        (f"{each.removed}", f"{100 * each.removed / heads:.0f} %", f"{100 * each.score:.2f}", _count(each.changed))
        for each in prunings
    ]
    print_table(
        ("heads left out", "fraction", "score", "other predictions"), rows,
        title=f"without the least important heads, by the gradient over {counted(examples, 'training example')}",
    )  # fmt: skip


def _print_overlap(shared: HeadOverlap) -> None:
    print(
        f"{shared.syntactic} of {shared.heads} heads are the best of a relation above its offset; of the {shared.top} that "
        f"cost most {shared.common} are, where {shared.expected:.1f} would be by chance (p {shared.p:.3f}, hypergeometric)"
    )
