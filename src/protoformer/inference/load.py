"""A run's model, tokenizer and config, opened from its folder: for notebooks, and for the verbs that use a trained run."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from protoformer.assembly.model import build_module, builder_arguments
from protoformer.distributed.backends import disable_cudnn_attention
from protoformer.errors import RunFolderError, WeightsError
from protoformer.models import weights
from protoformer.modules.task_module import TaskModule
from protoformer.runs.folder import RunFolder
from protoformer.text.tokenizer_files import read_tokenizer
from protoformer.text.tokenizers import Tokenizer


@dataclass(frozen=True)
class LoadedRun:
    """The task's module with the weights of the best checkpoint, in evaluation mode on the CPU, and what it was made of."""

    model: TaskModule
    tokenizer: Tokenizer
    config: dict[str, Any]


def load(run: str | Path) -> LoadedRun:
    """Open a run folder. No data is read and nothing is fetched.

    Raises RunFolderError when this is no run folder or the run has trained nothing yet, WeightsError when its checkpoint
    is corrupt.
    """
    folder = RunFolder.open(Path(run).expanduser())
    config = folder.read_config()
    state = _state(folder, config)
    if not (folder.path / "tokenizer").is_dir():
        raise RunFolderError(
            f"{folder.path}: no tokenizer folder; it is written when the run ends (the same command continues it)"
        )
    disable_cudnn_attention()
    module = build_module(config, builder_arguments(config["model"]))
    weights.load_into(module, state, str(folder.chosen_checkpoint))
    return LoadedRun(module.eval(), read_tokenizer(folder.path / "tokenizer"), config)


def _state(folder: RunFolder, config: dict[str, Any]) -> weights.StateDict:
    if not config["task"]["splits"].get("train"):
        raise RunFolderError(f"{folder.path} was only tested; its weights are those of init_from={config['init_from']}")
    chosen = folder.chosen_checkpoint
    checkpoint = weights.read_pickle(chosen)
    if "state_dict" not in checkpoint:
        raise WeightsError(f"{chosen}: no state_dict, so this is not a checkpoint of a run")
    return checkpoint["state_dict"]
