"""What a run leaves of its data map (`views.data_map`): a line for each training example."""

import logging
from typing import Any

import lightning.pytorch as pl
import numpy as np
import torch
from lightning.pytorch.callbacks import Callback

from protoformer.assembly.build import Parts
from protoformer.errors import ConfigurationError
from protoformer.reporting.error_analysis.data_map import FILE, DataMap
from protoformer.runs import predictions
from protoformer.runs.folder import RunFolder
from protoformer.training.callbacks.data_map import RecordDataMap

log = logging.getLogger(__name__)


def check_data_map(parts: Parts) -> None:
    """Raise ConfigurationError for a kind of task whose examples have no labels."""
    if parts.config["views"]["data_map"] and not parts.module.row_labels:
        raise ConfigurationError(
            "views.data_map=true: a data map is of a classification with labels, which this task is not"
        )


def write_data_map(trainer: pl.Trainer, parts: Parts, folder: RunFolder) -> None:
    """Write `data_map.jsonl`: of each training example its row, its label, and the label's probability and the predicted label
    after each epoch; the candidates for label errors with their texts, and with file and line where the rows are of files.
    Nothing, where nothing was recorded."""
    callbacks: list[Callback] = trainer.callbacks  # type: ignore[attr-defined]  # set by Lightning's connector
    recorded = next((each for each in callbacks if isinstance(each, RecordDataMap)), None)
    if recorded is None or recorded.ids is None:
        return
    probabilities = torch.stack(recorded.probabilities).double().numpy()
    if not np.isfinite(probabilities).all():
        log.warning("views.data_map: no data map, since some probabilities are not finite")
        return
    predicted = torch.stack(recorded.predictions).numpy()
    table = parts.data.tables["train"][""]
    label_of = dict(zip(table.row.tolist(), np.asarray(table.labels).tolist(), strict=True))
    ids = recorded.ids.tolist()
    labels = np.array([label_of[each] for each in ids])
    candidates = DataMap.of(probabilities, predicted == labels).label_errors()
    texts = parts.data.text_columns("train", "")
    names = parts.module.row_labels
    rows: list[dict[str, Any]] = [
        {
            "id": each,
            "label": names[label],
            "prediction": names[predicted[-1, index]],
            "probabilities": [round(value, 6) for value in probabilities[:, index].tolist()],
            "predictions": [names[value] for value in predicted[:, index].tolist()],
        }
        for index, (each, label) in enumerate(zip(ids, labels.tolist(), strict=True))
    ]
    raw = parts.data.raw("train", "")
    for index in candidates:
        rows[index]["texts"] = {name: column[ids[index]] for name, column in texts.items()}
        if raw.files:
            rows[index]["location"] = raw.location(ids[index])
    predictions.write_lines(folder.path / FILE, rows)
