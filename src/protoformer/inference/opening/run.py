"""A run's model: of its best checkpoint, or, where it was only tested, of the weights that it tested."""

from pathlib import Path

from protoformer.assembly.initial_weights import find_initial_weights, load_initial_weights
from protoformer.assembly.model import build_module, builder_arguments
from protoformer.errors import RunFolderError, UserError, WeightsError
from protoformer.inference.opening.opened import OpenedModel
from protoformer.models import weights
from protoformer.modules.task_module import TaskModule
from protoformer.runs.folder import RunFolder
from protoformer.text.tokenizer_files import read_tokenizer


def open_run(path: Path) -> OpenedModel:
    """The model of a run folder. No data is read.

    Raises RunFolderError when this is no run folder, the run has trained nothing yet, or what it tested has changed since;
    WeightsError when its checkpoint is corrupt.
    """
    folder = RunFolder.open(path)
    config = folder.read_whole_config()
    trained = bool(config["task"]["splits"].get("train"))
    state = _state(folder) if trained else None
    if not (folder.path / "tokenizer").is_dir():
        unfinished = "it is written when the run ends (the same command continues it)"
        why = "it was removed or not copied" if folder.state == "finished" else unfinished
        raise RunFolderError(f"{folder.path}: no tokenizer folder; {why}")
    module = build_module(config, builder_arguments(config["model"]))
    if state is None:
        _load_tested(module, config, folder)
    else:
        weights.load_into(module, state, str(folder.chosen_checkpoint))
    if folder.state == "finished":
        module.restore(folder.read_result()["metrics"])
    return OpenedModel(module.eval(), read_tokenizer(folder.path / "tokenizer"), config, str(path))


def _state(folder: RunFolder) -> weights.StateDict:
    chosen = folder.chosen_checkpoint
    checkpoint = weights.read_checkpoint(chosen)
    if "state_dict" not in checkpoint:
        raise WeightsError(f"{chosen}: no state_dict, so this is not a checkpoint of a run")
    return checkpoint["state_dict"]


def _load_tested(module: TaskModule, config: dict[str, object], folder: RunFolder) -> None:
    """Load the weights of `init_from` into the module of a run that was only tested."""
    try:
        initial = find_initial_weights(config)
    except UserError as error:
        raise RunFolderError(f"{folder.path} was only tested, and holds no weights of its own: {error}") from None
    if folder.state == "finished":
        tested = folder.read_result()["digests"].get("weights")
        if tested is not None and tested != initial.digest:
            raise RunFolderError(
                f"{folder.path} was only tested, and the weights that it tested, init_from={config['init_from']}, have "
                "changed since; test them again, or name them in place of the run"
            )
    load_initial_weights(module, config, initial)
