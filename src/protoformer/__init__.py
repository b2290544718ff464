"""From *Attention Is All You Need* to GPT-3: one set of encoder and decoder blocks, run with PyTorch Lightning and Hydra."""

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from protoformer.runtime.loading import LoadedRun

__all__ = ["load"]


def load(run: str | Path) -> "LoadedRun":
    """Open a run folder: `.model` (the task's module in evaluation mode), `.tokenizer` and `.config`.

    Raises errors.RunFolderError or errors.WeightsError, in one readable line, when there is no trained run to open.
    """
    from protoformer.runtime import loading

    return loading.load(run)
