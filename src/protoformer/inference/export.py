"""`protoformer export`: a run's best checkpoint, or published weights, as a folder that `transformers` loads.

The folder holds config.json, model.safetensors, tokenizer.json (or Marian's tokenizer files), tokenizer_config.json, and
protoformer.json, which names the run (or the published weights). The exported tokenizer truncates to the run's task.max_len
and, for translation, appends the end token, so that the same text gives the same logits.
"""

import importlib
import inspect
import json
import shutil
from collections.abc import Collection, Mapping
from pathlib import Path

from safetensors.torch import save_file

from protoformer import hub
from protoformer.assembly.head_weights import labels_of
from protoformer.assembly.initial_weights import split_state
from protoformer.assembly.instantiate import instantiate
from protoformer.assembly.model import builder_arguments
from protoformer.atomic import replace_atomically, write_text
from protoformer.errors import RunFolderError, WeightsError
from protoformer.inference.load import load
from protoformer.inference.opening.published import NO_KIND
from protoformer.models.hf.layout import ExportedRun, WeightsLayout
from protoformer.runs.folder import RunFolder

MARK = "protoformer.json"


def main(run: str, to: str, out: str) -> None:
    """Write the folder; an earlier export of the same run is overwritten.

    `run` is a run folder, a folder of published weights, or a hub id.

    Raises RunFolderError when `run` is no trained run or `out` holds something else, WeightsError for a model that
    `transformers` cannot express.
    """
    if to != "hf":
        raise RunFolderError(f"--to {to}: the only supported layout is hf")
    target, mark = Path(out).expanduser(), _mark(run)
    _check_target(target, mark)
    loaded = load(run)
    config = loaded.config
    if config["task"]["kind"] == NO_KIND:
        raise WeightsError(f"{run}: weights without a head that this package knows; there is nothing to export")
    if not config["model"].get("hf"):
        raise WeightsError(f"{config['choices']['model']} has no weights layout of another library (model.hf)")
    layout: WeightsLayout = instantiate(config, "model.hf")
    sizes, task = builder_arguments(config["model"]), config["task"]
    body, head = split_state(loaded.model.state_dict())
    task_type, module_head = task["kind"], loaded.model.hf_head
    hf_config = layout.hf_config(task_type, sizes, labels_of(task), head, module_head)
    _check_expressible(sizes, layout.sizes(hf_config), layout.not_in_config)
    template = instantiate(config, "model.template", tokenizer=loaded.tokenizer)
    hf_config |= layout.special_token_ids(template)
    hf_state = layout.to_hf(task_type, body, head, module_head)
    max_len = min(task["max_len"], sizes.get("max_seq_len", task["max_len"]))
    exported = ExportedRun(loaded.tokenizer, template, sizes, max_len, task)

    target.mkdir(parents=True, exist_ok=True)
    _write(target / MARK, mark)  # first, so that an interrupted export can be overwritten
    _write(target / "config.json", hf_config)
    for name, content in layout.companion_files(exported, hf_config).items():
        _write(target / name, content)
    state = {name: tensor.contiguous() for name, tensor in hf_state.items()}
    with replace_atomically(target / "model.safetensors") as tmp:
        save_file(state, tmp, metadata={"format": "pt"})
        shutil.copymode(target / "config.json", tmp)  # safetensors writes 0600, whatever the umask
    print(f"{target}: {len(state)} tensors; transformers.{hf_config['architectures'][0]} opens it")
    cut = "the run cut them; transformers does so" if loaded.of_run else "transformers truncates them"
    print(f"texts of more than {max_len} tokens: {cut} with truncation=True")


def _mark(source: str) -> dict[str, object]:
    """What is exported: a run by its name, model and task; other weights by their folder or hub id."""
    path = Path(source).expanduser()
    if (path / "config.json").is_file() and not (path / "config.yaml").exists():
        return {"weights": str(path.resolve())}
    if not path.exists() and not hub.is_path(source):
        return {"weights": source}
    folder = RunFolder.open(path)
    return {"run": folder.path.name, "model_and_task": "/".join(folder.path.resolve().parts[-4:-1])}


def _check_target(target: Path, expected: Mapping[str, object]) -> None:
    """Raise RunFolderError where the folder holds anything but an export of this run."""
    if not target.exists():
        return
    if not target.is_dir():
        raise RunFolderError(f"{target}: is a file; name a folder")
    names = sorted(path.name for path in target.iterdir())
    if not names:
        return
    try:
        mark = json.loads((target / MARK).read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        raise RunFolderError(
            f"{target} is not empty ({', '.join(names[:4])}) and is not an export of a run; name a new folder"
        ) from None
    if mark != expected:
        other = f"another run ({mark['run']})" if "run" in mark else f"other weights ({mark.get('weights')})"
        raise RunFolderError(f"{target} holds an export of {other}; name a new folder")


def _check_expressible(
    sizes: Mapping[str, object], hf_sizes: Mapping[str, object], not_in_config: Collection[str]
) -> None:
    """Raise WeightsError where an argument that config.json cannot express is not at the builder's default."""
    module, name = str(sizes["_target_"]).rsplit(".", 1)
    defaults = inspect.signature(getattr(importlib.import_module(module), name)).parameters
    for name, value in sizes.items():
        if name == "_target_" or name in not_in_config:
            continue
        expected = hf_sizes.get(name, defaults[name].default)
        if value != (list(expected) if isinstance(expected, tuple) else expected):
            raise WeightsError(f"model.{name}={value} has no counterpart in transformers: this run cannot be exported")


def _write(path: Path, content: Mapping[str, object] | bytes) -> None:
    if isinstance(content, bytes):
        with replace_atomically(path) as tmp:
            tmp.write_bytes(content)
    else:
        write_text(path, json.dumps(content, indent=2, ensure_ascii=False) + "\n")
