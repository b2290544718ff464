"""A model opened for use, for notebooks and for every verb: from a run folder, a Hugging Face folder, or the hub."""

from dataclasses import fields
from pathlib import Path

from protoformer import hub
from protoformer.distributed.backends import disable_cudnn_attention
from protoformer.errors import RunFolderError
from protoformer.inference.opening.opened import OpenedModel
from protoformer.inference.opening.published import open_published
from protoformer.inference.opening.run import open_run


class LoadedRun(OpenedModel):
    """A model with its tokenizer and config."""


def load(source: str | Path) -> LoadedRun:
    """Open a run folder, a folder of published weights (BERT, GPT, GPT-2, Marian), or a hub id.

    Of a run the weights are those of the best checkpoint; of one that was only tested, those that it tested.
    Raises RunFolderError when the folder holds no model or the run has trained nothing yet, WeightsError for weights that
    cannot be read or fetched.
    """
    disable_cudnn_attention()
    folder = Path(source).expanduser()
    if (folder / "config.yaml").is_file() or (folder / "checkpoints").is_dir():
        opened = open_run(folder)
    elif folder.is_dir() and not (folder / "config.json").exists():
        raise RunFolderError(
            f"{folder}: no config.yaml and no config.json, so this is neither a run folder nor a folder of weights"
        )
    elif not folder.exists() and hub.is_path(str(source)):
        raise RunFolderError(f"{source}: no such run folder")
    else:
        name = "/".join(folder.absolute().parts[-2:]) if folder.is_dir() else str(source)
        opened = open_published(hub.resolve_folder(str(source)), name)
    return LoadedRun(**{field.name: getattr(opened, field.name) for field in fields(OpenedModel)})
