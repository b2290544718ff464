"""What rank 0 writes of a run's evaluations, and the misclassified examples that a tracker shows."""

from collections.abc import Mapping
from typing import Any

from protoformer.assembly.build import Parts
from protoformer.assembly.model import STAGES
from protoformer.modules.evaluation import Misclassified
from protoformer.runs import predictions
from protoformer.runs.folder import RunFolder


def write_run(folder: RunFolder, parts: Parts, result: Mapping[str, object]) -> None:
    """Write predictions and tokenizer, and last of all the result: with it the run is finished."""
    for stage, splits in parts.module.evaluations.items():
        for split, evaluation in splits.items():
            name = f"{stage}_{split}" if split else stage
            role = STAGES[stage]
            texts = parts.data.text_columns(role, split)
            rows = predictions.with_texts(evaluation.rows(), texts)
            predictions.write(folder.predictions, name, rows, evaluation.files())
            predictions.write_scores(
                folder.example_scores,
                name,
                evaluation.example_ids(),
                evaluation.example_scores(),
                sums=evaluation.example_sums(),
                passages=parts.data.passages(role, split),
            )
    parts.tokenizer.save(folder.path / "tokenizer")
    folder.write_result(result)
    if parts.module.journal is not None:
        parts.module.journal.remove()


def misclassified(config: Mapping[str, Any], parts: Parts) -> list[Misclassified]:
    """Misclassified examples of the dev splits, for the tracker, of a kind that lists them."""
    if config["tracking"]["mode"] == "none":
        return []
    return [
        row
        for split, evaluation in parts.module.evaluations.get("val", {}).items()
        if evaluation.lists_misclassified
        for row in evaluation.misclassified(parts.data.texts("validation", split))
    ]
