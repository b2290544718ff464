"""`protoformer export RUN --to hf DIR`: a run's best checkpoint as a folder that `transformers` opens.

The folder holds config.json, model.safetensors, tokenizer.json (or the files of Marian's), tokenizer_config.json, and
protoformer.json, which says of which run it is. Its tokenizer truncates where the run did (task.max_len) and, for translation,
puts the end behind each text, so that the same text gives the same logits.
"""

import importlib
import inspect
import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from protoformer.atomic import replace_atomically, write_text
from protoformer.errors import RunFolderError, WeightsError
from protoformer.runs.folder import RunFolder
from protoformer.text.sentencepiece import SidedTokenizer
from protoformer.text.tokenizers import END_OF_TEXT, Tokenizer
from protoformer.text.translation_template import END, START, TranslationFormat

MARK = "protoformer.json"
SPECIAL = {
    "pad_token": "[PAD]",
    "unk_token": "[UNK]",
    "cls_token": "[CLS]",
    "sep_token": "[SEP]",
    "mask_token": "[MASK]",
}
RUNNING = {"bos_token": END_OF_TEXT, "eos_token": END_OF_TEXT}  # a language model's
ENDS = {  # by kind: their words for the tokens that the format puts around texts
    "causal_lm": {"bos_token_id": "end", "eos_token_id": "end"},
    "translation": {
        "eos_token_id": "end",
        "forced_eos_token_id": "end",
        "decoder_start_token_id": "start",
        "pad_token_id": "start",
    },
}
WITHOUT_EFFECT = (
    "_target_",
    "dropout",
    "attention_dropout",
    "embedding_dropout",
    "init_std",
    "position_std",
    "scaled_residuals",
    "packing",
)  # on the logits, or carried in other words


def main(run: str, to: str, out: str) -> None:
    """Write the folder; over an earlier export of the same run it is written anew.

    Raises RunFolderError for what is no trained run or where `out` holds something else, WeightsError for a model that the
    other library cannot express.
    """
    from safetensors.torch import save_file

    from protoformer.assembly.initial_weights import labels_of, split_state
    from protoformer.assembly.instantiate import instantiate
    from protoformer.assembly.model import builder_arguments
    from protoformer.inference.load import load

    if to != "hf":
        raise RunFolderError(f"--to {to}: the one layout to export to is hf")
    folder, target = RunFolder.open(Path(run).expanduser()), Path(out).expanduser()
    _check_target(target, folder)
    loaded = load(folder.path)
    config = loaded.config
    if not config["model"].get("published"):
        raise WeightsError(f"{config['choices']['model']} has no layout that other libraries open (model.published)")
    layout = instantiate(config["model"]["published"])
    sizes = builder_arguments(config["model"])
    kind = config["task"]["kind"]
    body, head = split_state(loaded.model.state_dict())
    described = layout.config(kind, sizes, labels_of(config["task"]), head)
    _check_carried(sizes, layout.sizes(described))
    format = instantiate(config["model"]["format"], _partial_=True)(loaded.tokenizer)
    if kind in ENDS:  # unsaid they would be those of published weights, whatever the vocabulary
        described |= {theirs: getattr(format, ours) for theirs, ours in ENDS[kind].items()}
    state = {name: tensor.contiguous() for name, tensor in layout.write(kind, body, head).items()}

    target.mkdir(parents=True, exist_ok=True)
    _write(target / MARK, _mark(folder))  # first: an export that was cut off may be written anew
    _write(target / "config.json", described)
    longest = min(config["task"]["max_len"], sizes.get("max_seq_len", config["task"]["max_len"]))
    if isinstance(loaded.tokenizer, SidedTokenizer):
        loaded.tokenizer.save(target)
        rows = config["task"]["rows"]
        files = {"tokenizer_config.json": marian_tokenizer(loaded.tokenizer, format, longest, rows)}
    elif isinstance(format, TranslationFormat):
        files = closing_tokenizer(loaded.tokenizer, format, longest)
    else:
        files = tokenizer_files(loaded.tokenizer, longest)
    if isinstance(format, TranslationFormat):
        files["generation_config.json"] = writing(config["task"]["module"], format, described, sizes)
    for name, content in files.items():
        _write(target / name, content)
    with replace_atomically(target / "model.safetensors") as tmp:
        save_file(state, tmp, metadata={"format": "pt"})
        shutil.copymode(target / "config.json", tmp)  # the library's own is 0600, whatever the umask
    print(f"{target}: {len(state)} tensors; transformers.{described['architectures'][0]} opens it")


def _mark(folder: RunFolder) -> dict[str, Any]:
    return {"run": folder.path.name, "model_and_task": "/".join(folder.path.resolve().parts[-4:-1])}


def _check_target(target: Path, folder: RunFolder) -> None:
    """A folder that holds anything else than an export of this run is left alone."""
    if not target.exists():
        return
    if not target.is_dir():
        raise RunFolderError(f"{target}: there is a file of this name; name a folder")
    there = sorted(path.name for path in target.iterdir())
    if not there:
        return
    try:
        mark = json.loads((target / MARK).read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        raise RunFolderError(
            f"{target} is not empty ({', '.join(there[:4])}) and no export of a run; name a new folder"
        ) from None
    if mark != _mark(folder):
        raise RunFolderError(f"{target} holds an export of another run ({mark.get('run')}); name a new folder")


def _check_carried(sizes: Mapping[str, Any], carried: Mapping[str, Any]) -> None:
    """What a config.json cannot say must be at the builder's default, or the other library would build another model."""
    module, name = str(sizes["_target_"]).rsplit(".", 1)
    defaults = inspect.signature(getattr(importlib.import_module(module), name)).parameters
    for name, value in sizes.items():
        if name in WITHOUT_EFFECT:
            continue
        wanted = carried.get(name, defaults[name].default)
        if value != (list(wanted) if isinstance(wanted, tuple) else wanted):
            raise WeightsError(
                f"model.{name}={value} has no counterpart in the other library: this run cannot be exported"
            )


def tokenizer_files(tokenizer: Tokenizer, max_len: int) -> dict[str, Any]:
    """`tokenizer.json` and `tokenizer_config.json`; BERT's special tokens, if the vocabulary has them, are put around texts."""
    from tokenizers import Tokenizer as RustTokenizer
    from tokenizers import models, normalizers, processors

    if tokenizer.rust.token_to_id(SPECIAL["cls_token"]) is None:
        known = {name: word for name, word in RUNNING.items() if tokenizer.rust.token_to_id(word) is not None}
        config = {"tokenizer_class": "PreTrainedTokenizerFast", "model_max_length": max_len, **known}
        return {"tokenizer.json": json.loads(tokenizer.rust.to_str()), "tokenizer_config.json": config}
    whole = RustTokenizer.from_str(tokenizer.rust.to_str())
    cls, sep = ((SPECIAL[name], tokenizer.id(SPECIAL[name])) for name in ("cls_token", "sep_token"))
    whole.post_processor = processors.BertProcessing(sep, cls)
    config = {
        "model_max_length": max_len,
        "model_input_names": ["input_ids", "token_type_ids", "attention_mask"],
        **{name: token for name, token in SPECIAL.items() if whole.token_to_id(token) is not None},
    }
    normalizer = whole.normalizer
    if isinstance(whole.model, models.WordPiece) and isinstance(normalizer, normalizers.BertNormalizer):
        config |= {  # its own class builds these parts from here, not from tokenizer.json
            "tokenizer_class": "BertTokenizer",
            "do_lower_case": normalizer.lowercase,
            "strip_accents": normalizer.strip_accents,
            "tokenize_chinese_chars": normalizer.handle_chinese_chars,
        }
    else:
        config["tokenizer_class"] = "PreTrainedTokenizerFast"
    return {"tokenizer.json": json.loads(whole.to_str()), "tokenizer_config.json": config}


def writing(
    module: Mapping[str, Any], format: TranslationFormat, described: Mapping[str, Any], sizes: Mapping[str, Any]
) -> dict[str, Any]:
    """How `generate` is to write, as far as it can: its penalty for a translation's length is another one."""
    ends = {name: described[name] for name in ENDS["translation"]}
    longest = sizes.get("max_seq_len", described["max_position_embeddings"])
    never = {"bad_words_ids": [[number] for number in format.never]}
    return {"num_beams": module.get("beams", 4), "max_length": longest, **never, **ends}


def marian_tokenizer(
    tokenizer: SidedTokenizer, format: TranslationFormat, max_len: int, rows: Mapping[str, Any]
) -> dict[str, Any]:
    """The `tokenizer_config.json` of Marian's own class, which needs its three files besides."""
    words = {number: word for word, number in tokenizer.rust.get_vocab().items()}
    ends = {"eos_token": words[format.end], "pad_token": words[format.start]}
    sides = {"source_lang": rows.get("source"), "target_lang": rows.get("target")}
    return {"tokenizer_class": "MarianTokenizer", "model_max_length": max_len, **sides, **ends}


def closing_tokenizer(tokenizer: Tokenizer, format: TranslationFormat, max_len: int) -> dict[str, Any]:
    """`tokenizer.json`, which puts the end behind each text, and `tokenizer_config.json`. A start and an end that are no words
    of the vocabulary are added under names that it does not know."""
    from tokenizers import Tokenizer as RustTokenizer
    from tokenizers import processors

    whole = RustTokenizer.from_str(tokenizer.rust.to_str())
    known = {number: word for word, number in whole.get_vocab(with_added_tokens=True).items()}
    names = {}
    for name, number in sorted({START: format.start, END: format.end}.items(), key=lambda pair: pair[1]):
        names[number] = known.get(number) or next(
            word for dashes in range(len(known) + 1) if (word := "_" * dashes + name) not in known.values()
        )
        whole.add_special_tokens([names[number]])
        if whole.token_to_id(names[number]) != number:
            raise WeightsError(
                f"the vocabulary's numbers have holes, so that none is left for {number}: no tokenizer.json"
            )
    end = names[format.end]
    whole.post_processor = processors.TemplateProcessing(single=f"$A {end}", special_tokens=[(end, format.end)])
    config = {"tokenizer_class": "PreTrainedTokenizerFast", "model_max_length": max_len}
    config |= {"bos_token": names[format.start], "pad_token": names[format.start], "eos_token": end}
    return {"tokenizer.json": json.loads(whole.to_str()), "tokenizer_config.json": config}


def _write(path: Path, content: Mapping[str, Any]) -> None:
    write_text(path, json.dumps(content, indent=2, ensure_ascii=False) + "\n")
