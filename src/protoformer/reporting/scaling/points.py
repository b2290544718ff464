"""What finished runs say about scaling: size, tokens and loss of a language model; shots and score of an in-context run."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from protoformer.config.annotations.signatures import signature
from protoformer.errors import UserError
from protoformer.reporting.groups.runs import ReportedRun
from protoformer.reporting.report import collect

SAME = 0.01  # relative difference up to which sizes and tokens of two runs count as equal


@dataclass(frozen=True)
class LossPoint:
    """A trained language model. `layers` are its parameters without embeddings, N of Kaplan et al. (arXiv 2001.08361)."""

    folder: str
    run_id: str
    model: str
    seed: int
    parameters: int
    layers: int
    tokens: int
    loss: float  # on the dev set, nats per token
    task: str
    vocabulary: int
    context: int  # tokens
    data: str  # digests of training and dev set, as tokenised
    finished: str

    @property
    def terms(self) -> dict[str, object]:
        """What must be the same for losses to be comparable."""
        return {
            "task": self.task,
            "vocabulary": self.vocabulary,
            "context length": self.context,
            "digest of the data": self.data,
        }

    def as_json(self) -> dict[str, Any]:
        """The fields, for a file."""
        return asdict(self)


@dataclass(frozen=True)
class ScorePoint:
    """An in-context run."""

    folder: str
    model: str
    task: str
    parameters: int
    layers: int
    shots: int
    metric: str
    score: float
    spread: float | None  # standard deviation over draws of shots
    stderr: float | None


def read_points(folders: Sequence[str]) -> tuple[list[LossPoint], list[ScorePoint], list[str]]:
    """Language models and in-context runs among the finished runs, in order of size; and a line for each other run.

    Raises UserError where there is neither.
    """
    collected = collect(folders)
    losses: list[LossPoint] = []
    scores: list[ScorePoint] = []
    left_out = [*collected.skipped, *(f"{each}: not finished" for each in collected.unfinished + collected.never_began)]
    for run in collected.runs:
        if run.record.config["task"].get("shots") is not None:
            scores.append(_score_point(run))
        elif "val/perplexity" in run.result["metrics"] and (run.result.get("training") or {}).get("steps"):
            losses.append(_loss_point(run))
        else:
            left_out.append(f"{run.record.folder}: {run.record.task} has no perplexity of a dev set")
    if not losses and not scores:
        raise UserError(
            f"{', '.join(folders)}: no finished run of a language model or of an in-context task; {left_out[0]}"
        )
    losses.sort(key=lambda point: (point.layers, point.tokens, point.seed))
    scores.sort(key=lambda point: (point.task, point.layers, point.shots))
    return losses, scores, left_out


def check_comparable(points: Sequence[LossPoint]) -> None:
    """Raise UserError where two losses are not of the same task, vocabulary, context length and data."""
    first = points[0]
    for point in points[1:]:
        for name, value in point.terms.items():
            if value != first.terms[name]:
                raise UserError(
                    f"{point.folder}: {name} {value}, but {first.folder} has {first.terms[name]}; "
                    "losses of one law need the same task, data, vocabulary and context length"
                )


def differ(values: Sequence[int]) -> bool:
    """Whether numbers differ by more than rounding a number of steps explains."""
    return max(values) > min(values) * (1 + SAME)


def layer_parameters(model: Mapping[str, Any], parameters: int) -> int:
    """Parameters without token embeddings, learned positions and an output matrix of its own.

    `model` is the node of a run's config. Raises UserError for one that states no vocab_size and d_model.
    """
    defaults = {name: each.default for name, each in signature(model["_target_"]).parameters.items()}
    sizes = {**defaults, **model}
    if not (isinstance(sizes.get("vocab_size"), int) and isinstance(sizes.get("d_model"), int)):
        raise UserError(
            f"{model['_target_']}: parameters without embeddings are unknown, it has no vocab_size and d_model"
        )
    rows = sizes["vocab_size"] * (1 if sizes.get("tie_word_embeddings", True) else 2)
    if sizes.get("positions") == "learned":
        rows += sizes["max_seq_len"]
    return parameters - rows * sizes["d_model"]


def _loss_point(run: ReportedRun) -> LossPoint:
    config, result = run.record.config, run.result
    recipe, steps = config["recipe"], result["training"]["steps"]
    row = 1 if recipe.get("batching") == "tokens" else config["task"]["max_len"]
    digests = result["digests"]["data"]
    return LossPoint(
        folder=str(run.record.folder),
        run_id=str(result["run_id"]),
        model=run.record.model,
        seed=int(result["seed"]),
        parameters=result["parameters"],
        layers=layer_parameters(config["model"], result["parameters"]),
        tokens=steps * recipe["batch_size"] * row,
        loss=float(result["metrics"]["val/loss"]),
        task=run.record.task,
        vocabulary=config["model"]["vocab_size"],
        context=config["task"]["max_len"],
        data=" ".join(f"{name} {digest}" for name, digest in sorted(digests.items())),
        finished=str(result["finished"]),
    )


def _score_point(run: ReportedRun) -> ScorePoint:
    config, result = run.record.config, run.result
    metric = next(f"val/{name}" for name in result["task_type"]["main_metrics"] if f"val/{name}" in result["metrics"])
    return ScorePoint(
        folder=str(Path(run.record.folder)),
        model=run.record.model,
        task=run.record.task,
        parameters=result["parameters"],
        layers=layer_parameters(config["model"], result["parameters"]),
        shots=config["task"].get("shots") or 0,
        metric=metric.removeprefix("val/"),
        score=result["metrics"][metric],
        spread=result["metrics"].get(f"{metric}_spread"),
        stderr=result["metrics"].get(f"{metric}_stderr"),
    )
