"""Transformer language models from *Attention Is All You Need* to GPT-3, trained with PyTorch Lightning and Hydra."""

from pathlib import Path
from typing import TYPE_CHECKING

# torch is imported on the first call: the command line imports this package and must start quickly
if TYPE_CHECKING:
    from protoformer.decoding.text_generator import TextGenerator
    from protoformer.inference.load import LoadedRun

__all__ = ["load", "load_decoder"]


def load(run: str | Path) -> "LoadedRun":
    """Load a trained run from its folder: `.model` (its task module, in evaluation mode), `.tokenizer` and `.config`.

    Raises errors.RunFolderError or errors.WeightsError, with a one-line message, when the folder holds no trained run.
    """
    from protoformer.inference import load

    return load.load(run)


def load_decoder(source: str | Path) -> "TextGenerator":
    """Load a decoder for text generation from a run folder, a Hugging Face folder (GPT, GPT-2), or a hub id.

    `.generate(prompts, max_new_tokens=..., stop=...)` returns completions, `.stream(prompt)` yields one in pieces, and
    `.beam_search(prompt)` returns the best hypotheses. Raises errors.RunFolderError or errors.WeightsError when there is no
    decoder.
    """
    from protoformer.inference import generate

    return generate.load_decoder(source)
