"""Attention page of a finished run (`views.attention=true`): the attention weights of one dev example, also sent to the tracker
as images."""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers import Logger
from torch import Tensor

from protoformer.atomic import write_text
from protoformer.errors import ConfigurationError
from protoformer.runs.folder import RunFolder
from protoformer.training.trackers import tracking
from protoformer.views import attention, attention_grid
from protoformer.views.inspected_model import (
    InspectedModel,
    attention_panels,
    check_page_size,
    decoded_text,
    inspect_model,
    tokenized_text,
)
from protoformer.views.panels import Panel, TokenizedText
from protoformer.views.rollouts import with_rollout

log = logging.getLogger(__name__)
CANDIDATES = 32  # examples that one is chosen from
MAX_TOKENS = 64  # of the example: more are hard to read on a page
PADDING = 2  # padding tokens behind it, so that the page shows how they are masked


def write_attention_page(
    config: Mapping[str, Any], parts: Any, folder: RunFolder, loggers: Sequence[Logger], step: int
) -> None:
    """Write `attention.html` and one image a panel, and send the images to the tracker.

    For a model without attention, or with more of it than a page can hold, a warning is logged and nothing is written.
    """
    choices = config["choices"]
    name = f"{choices['model']}, {choices['task']}"
    try:
        model = inspect_model(
            name,
            parts.module.backbone,
            parts.tokenizer,
            parts.data.template,
            is_causal_lm=parts.module.is_causal_lm,
        )
        texts = select_example(model, parts.data)
        check_page_size(model.n_layers, model.n_heads, *(len(text.ids) for text in texts))
    except ConfigurationError as error:
        log.warning("views.attention: %s", error)
        return
    panels = with_rollout(model, texts, attention_panels(model, texts, range(1, model.n_layers + 1)))
    page = attention.page(panels, name, [decoded_text(model, text) for text in texts], model.description)
    write_text(folder.path / "attention.html", page)
    images = {f"attention/{panel.name}": _draw(panel, name, folder) for panel in panels}
    tracking.log_images(loggers, step, images)


def _draw(panel: Panel, name: str, folder: RunFolder) -> Path:
    path = folder.path / f"attention_{panel.name.replace(' ', '_').replace('-', '_')}.png"
    return attention_grid.draw(panel, f"{name}: {panel.name}", path)


def select_example(model: InspectedModel, data: Any) -> list[TokenizedText]:
    """The first dev row of at most MAX_TOKENS tokens (of test or training rows, where there is no dev split), as the model
    reads it: one sequence, or source and target. Where all of the first CANDIDATES are longer, the first is cut."""
    loaders = [*data.val_dataloader(), *data.test_dataloader(), data.train_dataloader()]
    batch = next(iter(loaders[0]))
    rows = [_sequences(batch, row) for row in range(min(CANDIDATES, len(batch["ids"])))]
    chosen = next((row for row in rows if all(len(ids) <= MAX_TOKENS for ids, _ in row)), rows[0])
    padding = min(PADDING, model.model.max_seq_len - max(min(len(ids), MAX_TOKENS) for ids, _ in chosen))
    return [tokenized_text(model, ids[:MAX_TOKENS], segments[:MAX_TOKENS], padding) for ids, segments in chosen]


def _sequences(batch: Mapping[str, Tensor], row: int) -> list[tuple[list[int], list[int]]]:
    """Ids and segments of a row's sequence, or of its source and its target; of several choices or orders the first."""
    sequences = []
    for ids_key, mask_key, segments_key in (
        ("ids", "padding_mask", "segment_ids"),
        ("decoder_ids", "decoder_mask", ""),
    ):
        if ids_key in batch:
            real = _first_sequence(batch[mask_key][row])
            ids = _first_sequence(batch[ids_key][row])[real]
            segments = ids.new_zeros(len(ids))
            if segments_key in batch:
                segments = _first_sequence(batch[segments_key][row])[real]
            sequences.append((ids.tolist(), segments.tolist()))
    return sequences


def _first_sequence(row: Tensor) -> Tensor:
    """`(seq)` or `(sequences, seq)` -> `(seq)`."""
    return row if row.ndim == 1 else row[0]
