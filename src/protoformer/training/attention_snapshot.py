"""`views.attention=true`: at its end a run leaves the attention page of one of its dev examples in its folder, and its tracker
gets each panel as a picture."""

import logging
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from torch import Tensor

from protoformer.atomic import write_text
from protoformer.errors import ConfigurationError
from protoformer.runs.folder import RunFolder
from protoformer.training import tracking
from protoformer.views import attention, attention_grid
from protoformer.views.inspected_model import Subject, described, fits, panels_of, plain, sequenced, subject
from protoformer.views.panels import Panel, Sequenced

if TYPE_CHECKING:
    from lightning.pytorch.loggers import Logger

log = logging.getLogger(__name__)
LOOKED_AT = 32  # examples that one is chosen from
LENGTH, PADDING = 64, 2  # tokens that are easily looked at


def leave(config: Mapping[str, Any], parts: Any, folder: RunFolder, loggers: Sequence["Logger"], step: int) -> None:
    """Write `attention.html` and a picture a panel; that a model has no attention, or too much of it, is told in the log."""
    choices = config["choices"]
    name = f"{choices['model']}, {choices['task']}"
    try:
        looked_at = subject(
            name,
            parts.module.backbone,
            parts.tokenizer,
            parts.data.format,
            reads_on=config["task"]["kind"] == "causal_lm",
        )
        texts = example(looked_at, parts.data)
        fits(looked_at.n_layers, looked_at.n_heads, *(len(text.ids) for text in texts))
    except ConfigurationError as error:
        log.warning("views.attention: %s", error)
        return
    panels = panels_of(looked_at, texts, range(1, looked_at.n_layers + 1))
    page = attention.page(panels, name, [plain(looked_at, text) for text in texts], described(looked_at))
    write_text(folder.path / "attention.html", page)
    tracking.log_pictures(loggers, step, {f"attention/{panel.name}": _drawn(panel, name, folder) for panel in panels})


def _drawn(panel: Panel, name: str, folder: RunFolder) -> Any:
    path = folder.path / f"attention_{panel.name.replace(' ', '_').replace('-', '_')}.png"
    return attention_grid.draw(panel, f"{name}: {panel.name}", path)


def example(looked_at: Subject, data: Any) -> list[Sequenced]:
    """The first of the dev rows (else of others) that is not long, as the model got it; where all are long the first is cut."""
    loaders = [*data.val_dataloader(), *data.test_dataloader(), data.train_dataloader()]
    batch = next(iter(loaders[0]))
    found = [_row(batch, number) for number in range(min(LOOKED_AT, len(batch["ids"])))]
    row = next((each for each in found if all(len(ids) <= LENGTH for ids, _ in each)), found[0])
    padding = min(PADDING, looked_at.model.max_seq_len - max(min(len(ids), LENGTH) for ids, _ in row))
    return [sequenced(looked_at, ids[:LENGTH], segments[:LENGTH], padding) for ids, segments in row]


def _row(batch: Mapping[str, Tensor], number: int) -> list[tuple[list[int], list[int]]]:
    """Ids and segments of a row's sequence, or of its source and its target; of several choices or orders the first."""
    found = []
    for ids, mask, segments in (("ids", "padding_mask", "segment_ids"), ("decoder_ids", "decoder_mask", "")):
        if ids in batch:
            real = _first(batch[mask][number])
            numbers = _first(batch[ids][number])[real]
            parts = _first(batch[segments][number])[real] if segments in batch else numbers.new_zeros(len(numbers))
            found.append((numbers.tolist(), parts.tolist()))
    return found


def _first(row: Tensor) -> Tensor:
    return row if row.ndim == 1 else row[0]
