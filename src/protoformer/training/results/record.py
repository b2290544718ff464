"""What rank 0 writes of a run's evaluations, and the misclassified examples that a tracker shows."""

import json
import math
from collections.abc import Mapping
from typing import Any

from protoformer.assembly.build import Parts
from protoformer.assembly.model import STAGES
from protoformer.data.cache import TokenTable
from protoformer.data.examples.values import python_values
from protoformer.data.sources.source import Role
from protoformer.errors import ConfigurationError
from protoformer.modules.evaluation import Misclassified
from protoformer.reporting.error_analysis.slices import OF_TEXTS, column_names
from protoformer.runs import predictions
from protoformer.runs.folder import RunFolder


def write_run(folder: RunFolder, parts: Parts, result: Mapping[str, object]) -> None:
    """Write predictions and tokenizer, and last of all the result: with it the run is finished."""
    for stage, splits in parts.module.evaluations.items():
        for split, evaluation in splits.items():
            name = f"{stage}_{split}" if split else stage
            role = STAGES[stage]
            texts = parts.data.text_columns(role, split)
            rows = predictions.with_columns(evaluation.rows(), "texts", texts)
            rows = predictions.with_columns(rows, "columns", sliced_columns(parts, role, split))
            predictions.write(folder.predictions, name, rows, evaluation.files())
            predictions.write_scores(
                folder.example_scores,
                name,
                evaluation.example_ids(),
                evaluation.example_scores(),
                sums=evaluation.example_sums(),
                ratios=evaluation.example_ratios(),
                passages=parts.data.passages(role, split),
            )
    parts.tokenizer.save(folder.path / "tokenizer")
    folder.write_result(result)
    if parts.module.journal is not None:
        parts.module.journal.remove()


def sliced_columns(parts: Parts, role: Role, split: str) -> dict[str, list[Any]]:
    """The columns that `views.slices` names and a split has, indexed by the id of a row of predictions; values that JSON has no
    word for (times, bytes) as text."""
    names = column_names(parts.config["views"])
    if not names or not isinstance(parts.data.tables[role][split], TokenTable):
        return {}
    table = parts.data.raw(role, split).table
    columns = {
        name: python_values(table.column(name), table.schema.field(name))
        for name in names
        if name in table.column_names
    }
    return {name: list(map(_as_json, values)) for name, values in columns.items()}


def _as_json(value: object) -> object:
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return (
        value if value is None or isinstance(value, str | int | float) else json.loads(json.dumps(value, default=str))
    )


def check_slices(parts: Parts) -> None:
    """Raise ConfigurationError for a column of `views.slices` that no evaluated split has."""
    names = column_names(parts.config["views"])
    evaluated = [(role, split) for role in STAGES.values() for split in parts.data.tables[role]]
    if not names or not evaluated:
        return
    for role, split in evaluated:
        if not isinstance(parts.data.tables[role][split], TokenTable):
            raise ConfigurationError(
                f"views.slices={names[0]}: examples of this kind of task are grouped by {', '.join(OF_TEXTS)} alone"
            )
    columns = {name: None for role, split in evaluated for name in parts.data.raw(role, split).table.column_names}
    if unknown := [name for name in names if name not in columns]:
        raise ConfigurationError(
            f"views.slices: no column {unknown[0]} in the evaluated splits; there are {', '.join(columns)}, and slices by "
            + ", ".join(OF_TEXTS)
        )


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
