"""From *Attention Is All You Need* to GPT-3: one set of encoder and decoder blocks, run with PyTorch Lightning and Hydra."""

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from protoformer.decoding.text_generator import Writer
    from protoformer.inference.load import LoadedRun

__all__ = ["load", "load_decoder"]


def load(run: str | Path) -> "LoadedRun":
    """Open a run folder: `.model` (the task's module in evaluation mode), `.tokenizer` and `.config`.

    Raises errors.RunFolderError or errors.WeightsError, in one readable line, when there is no trained run to open.
    """
    from protoformer.inference import load

    return load.load(run)


def load_decoder(where: str | Path) -> "Writer":
    """A decoder that goes on with texts: of a run folder, a Hugging Face folder (GPT, GPT-2), or a hub id.

    `.generate(prompts, max_new=..., stop=...)` gives completions, `.stream(prompt)` one piece by piece, `.search(prompt)` the
    best of a beam. Raises errors.RunFolderError or errors.WeightsError where there is none.
    """
    from protoformer.inference import generate

    return generate.load_decoder(where)
