"""Mutated folders of published weights: whatever a folder holds, each verb opens it, or the error is one line that names it."""

import json
import random
import shutil
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from protoformer.assembly.initial_weights import InitialWeights, load_initial_weights
from protoformer.assembly.model import build_module, resolve_model
from protoformer.assembly.tokenizer import build_tokenizer
from protoformer.config.compose import compose
from protoformer.errors import UserError
from protoformer.inference.attention import AttentionRequest, load_model, resolve
from protoformer.inference.generate import load_decoder
from protoformer.inference.load import load
from protoformer.models.bert import bert
from protoformer.models.gpt import gpt
from protoformer.models.heads import ClassificationHead, MaskedLMHead
from protoformer.models.hf import FAMILIES
from protoformer.models.transformer import transformer
from protoformer.text.tokenizers import whole_word_tokenizer
from protoformer.text.vocabulary_training import train

from ..text.marian import write as write_marian

CASES = 120  # of each folder
WORDS = whole_word_tokenizer(["a cat sat on the mat"], "here")
BYTES = train(lambda: ["the cat sat on the mat"] * 3, "bytelevel", 262)
SIZES = {"d_model": 8, "n_layers": 2, "n_heads": 2, "d_ff": 16, "max_seq_len": 24}
VALUES: list[Any] = [
    None, True, False, -1, 0, 1, 3, 7, 2**31, 2**70, 0.5, 1e300, float("nan"), float("inf"), "", "x", "false", "7", "../x",
    "a\nb", "\ud83d", "bert", [], {}, [[]], [1], ["a"], {"a": 1}, {"0": "a"}, {"content": 3}, {"content": "cat"},
]  # fmt: skip
KEYS = [
    "is_decoder", "add_cross_attention", "num_labels", "id2label", "label2id", "problem_type", "architectures", "vocab_size",
    "tie_word_embeddings", "normalize_before", "static_position_embeddings", "eos_token_id", "tokenizer_class", "cls_token",
    "model_max_length", "do_lower_case", "added_tokens_decoder", "additional_special_tokens", "extra_special_tokens",
    "truncation_side", "unk_token", "hidden_act", "decoder_vocab_size", "max_position_embeddings", "activation_function",
]  # fmt: skip


def write_folder(folder: Path, model_type: str, kind: str, body: Any, head: Any, labels: list[str] | None) -> None:
    layout = FAMILIES[model_type].layout()
    sizes = {**SIZES, **({"sinusoid": "halves", "output_bias": True} if kind == "translation" else {})}
    sizes["vocab_size"] = len(next(iter(body.parameters())))
    config = layout.hf_config(kind, sizes, labels, head)
    state = {name: tensor.contiguous().clone() for name, tensor in layout.to_hf(kind, body.state_dict(), head).items()}
    (folder / "config.json").write_text(json.dumps(config))
    save_file(state, folder / "model.safetensors")


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """One of each family, and of each form of vocabulary and weights."""
    root = tmp_path_factory.mktemp("published")
    paths = {name: root / name for name in ("bert", "bert-mlm", "gpt2", "openai-gpt", "marian")}
    for path in paths.values():
        path.mkdir()
    torch.manual_seed(1)
    encoder = bert(vocab_size=WORDS.vocab_size, **SIZES)
    for name, kind, head, labels in (
        ("bert", "classification", ClassificationHead(8, 2), ["no", "yes"]),
        ("bert-mlm", "pretraining", MaskedLMHead(8, WORDS.vocab_size), None),
    ):
        state = (
            head.state_dict() if kind == "classification" else {f"masked.{n}": t for n, t in head.state_dict().items()}
        )
        write_folder(paths[name], "bert", kind, encoder, state, labels)
    WORDS.save(paths["bert"])
    vocabulary = sorted(WORDS.hf_tokenizer.get_vocab().items(), key=lambda pair: pair[1])
    (paths["bert-mlm"] / "vocab.txt").write_text("\n".join(word for word, _ in vocabulary) + "\n")
    _into_shards(paths["bert-mlm"])
    for name in ("bert", "bert-mlm"):
        settings = {"do_lower_case": True, "cls_token": "[CLS]", "model_max_length": 20}
        (paths[name] / "tokenizer_config.json").write_text(json.dumps(settings))
    (paths["bert-mlm"] / "special_tokens_map.json").write_text(json.dumps({"sep_token": "[SEP]"}))
    (paths["bert-mlm"] / "added_tokens.json").write_text(json.dumps({"cat": WORDS.id("cat")}))
    for name, norm in (("gpt2", "pre"), ("openai-gpt", "post")):
        sizes = {**SIZES, "d_ff": 32 if name == "openai-gpt" else 16}
        decoder = gpt(vocab_size=BYTES.vocab_size, norm=norm, **sizes)  # type: ignore[arg-type]
        layout = FAMILIES[name].layout()
        config = layout.hf_config("causal_lm", {**sizes, "vocab_size": BYTES.vocab_size})
        (paths[name] / "config.json").write_text(json.dumps(config))
        save_file(layout.to_hf("causal_lm", decoder.state_dict(), {}), paths[name] / "model.safetensors")
        (paths[name] / "tokenizer_config.json").write_text(json.dumps({"add_prefix_space": False}))
    BYTES.save(paths["gpt2"])
    model = json.loads(BYTES.hf_tokenizer.to_str())["model"]
    (paths["openai-gpt"] / "vocab.json").write_text(json.dumps(model["vocab"]))
    (paths["openai-gpt"] / "merges.txt").write_text("\n".join(" ".join(pair) for pair in model["merges"]))
    (paths["gpt2"] / "generation_config.json").write_text(json.dumps({"eos_token_id": 3}))
    write_marian(paths["marian"])
    rows = len(json.loads((paths["marian"] / "vocab.json").read_text()))
    translator = transformer(vocab_size=rows, sinusoid="halves", output_bias=True, **SIZES)
    write_folder(paths["marian"], "marian", "translation", translator, {}, None)
    return paths


def _into_shards(folder: Path) -> None:
    state = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    weight_map = {}
    for number in (1, 2):
        name = f"pytorch_model-0000{number}-of-00002.bin"
        part = {tensor: state[tensor] for index, tensor in enumerate(sorted(state)) if index % 2 == number - 1}
        torch.save(part, folder / name)
        weight_map |= dict.fromkeys(part, name)
    (folder / "pytorch_model.bin.index.json").write_text(json.dumps({"weight_map": weight_map}))


def mutate_json(draw: random.Random, path: Path) -> None:
    """One value of the file, anywhere in it, becomes another, goes, or is added."""
    content = json.loads(path.read_text())
    node, holder, key = content, None, None
    while isinstance(node, dict | list) and node and (holder is None or draw.random() < 0.6):
        holder, key = node, draw.choice(list(node)) if isinstance(node, dict) else draw.randrange(len(node))
        node = holder[key]
    if holder is None or draw.random() < 0.05:
        content = draw.choice(VALUES)
    elif draw.random() < 0.2:
        del holder[key]
    elif draw.random() < 0.4 and isinstance(content, dict):
        content[draw.choice(KEYS)] = draw.choice(VALUES)
    else:
        holder[key] = draw.choice(VALUES)
    path.write_text(json.dumps(content))


def mutate_bytes(draw: random.Random, path: Path) -> None:
    content = path.read_bytes()
    at = draw.randrange(len(content) + 1)
    path.write_bytes(
        draw.choice(
            [
                b"",
                content[:at],
                content[:at] + draw.randbytes(4) + content[at + 4 :],
                content + content,
                b"{}",
                b"[]",
                b"\xff",
            ]
        )
    )


def mutate_files(draw: random.Random, path: Path) -> None:
    match draw.randrange(4):
        case 0:
            path.unlink()
        case 1:
            path.rename(path.with_name(f"other-{path.name}"))
        case 2:
            path.unlink()
            path.mkdir()
        case _:
            content, other = (
                path.read_bytes(),
                draw.choice(sorted(each for each in path.parent.iterdir() if each.is_file())),
            )
            other.write_bytes(content)


def mutate_tensors(draw: random.Random, path: Path) -> None:
    folder = path.parent
    try:
        state = load_file(folder / "model.safetensors")
    except (OSError, SafetensorError):  # in shards, or broken by an earlier mutation
        return mutate_files(draw, path)
    name = draw.choice(sorted(state))
    tensor = state.pop(name)
    changed = draw.choice(
        [None, tensor.half(), tensor.bfloat16(), tensor.to(torch.int8), tensor.bool(), tensor[:1], tensor.flatten(),
         tensor[None], tensor.T.contiguous() if tensor.ndim == 2 else tensor.double(), torch.tensor(1.0), torch.zeros(0)]
    )  # fmt: skip
    renamed = draw.choice(
        [name, name, name, f"module.{name}", f"{name}.more", name.replace("weight", "gamma"), "lm_head.weight"]
    )
    if changed is not None:
        state[renamed] = changed.contiguous().clone()
    return save_file(state, folder / "model.safetensors")


def mutate(draw: random.Random, folder: Path) -> None:
    files = [path for path in sorted(folder.iterdir()) if path.is_file() and not path.name.startswith("other-")]
    if not files:
        return
    path = draw.choice(files)
    objects = [
        each for each in files if each.name.endswith(".json") and not each.name.startswith(("vocab", "tokenizer.j"))
    ]
    kind = draw.choices([mutate_json, mutate_bytes, mutate_files, mutate_tensors], [6, 2, 1, 3])[0]
    if kind is mutate_json and objects:
        path = draw.choice(objects)
        try:
            json.loads(path.read_text())
        except ValueError:
            kind = mutate_bytes
    elif kind is mutate_json:
        kind = mutate_bytes
    kind(draw, path)


def verbs(name: str, configs: dict[str, dict[str, Any]]) -> Iterator[tuple[str, Callable[[Path], object]]]:
    """What opens the folder of each name: each callable does all that its command does, but for writing files."""
    second = None if name in ("gpt2", "openai-gpt") else "a cat sat"
    yield "attention", lambda folder: resolve(load_model(str(folder)), AttentionRequest("the cat", second))
    yield "predict", lambda folder: _predict(folder, name)
    if name in ("gpt2", "openai-gpt"):
        yield "generate", lambda folder: load_decoder(folder).generate("the cat", max_new_tokens=2)
    if name in configs:
        yield "train", lambda folder: _train(folder, configs[name])


def _predict(folder: Path, name: str) -> object:
    opened = load(folder)
    return opened.predict("a [MASK] cat") if name.startswith("bert") and hasattr(opened.model, "head") else opened


def _train(folder: Path, config: dict[str, Any]) -> object:
    config = {**config, "init_from": str(folder)}
    initial = InitialWeights(str(folder), folder)
    tokenizer = build_tokenizer(config, initial, None)
    model = resolve_model(config, initial, tokenizer)
    module = build_module(model.in_config(config), model.arguments)
    return load_initial_weights(module, model.in_config(config), initial)


@pytest.fixture(scope="module")
def configs() -> dict[str, dict[str, Any]]:
    """Runs that start from the folders."""
    return {
        "bert": compose(["model=bert_l2_h128", "task=glue/rte", "source=sample"]),
        "bert-mlm": compose(["model=bert_l2_h128", "task=pretrain/mlm_nsp", "source=sample"]),
        "gpt2": compose(["model=gpt2", "task=glue/rte", "source=sample"]),
        "marian": compose(["model=opus_mt_en_de", "task=translate/multi30k_en_de", "source=sample"]),
    }


def outcome(run: Callable[[Path], object], folder: Path) -> str:
    """ "opened", "refused", or what is wrong."""
    try:
        run(folder)
    except UserError as error:
        message, names = str(error), (str(folder), f"{folder.parent.name}/{folder.name}")
        is_one_line = "\n" not in message and error.exit_code == 2 and any(name in message for name in names)
        return "refused" if is_one_line else f"not one line that names the folder: {message}"
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # a panic of the tokenizers library is no Exception
        return f"{type(error).__name__}: {error}"
    return "opened"


@pytest.mark.parametrize("name", ["bert", "bert-mlm", "gpt2", "openai-gpt", "marian"])
def test_mutated_folders_are_opened_or_refused_in_one_line(
    folders: dict[str, Path], configs: dict[str, dict[str, Any]], tmp_path: Path, name: str
) -> None:
    runs = dict(verbs(name, configs))
    assert {verb: outcome(run, folders[name]) for verb, run in runs.items()} == dict.fromkeys(runs, "opened")
    outcomes: Counter[str] = Counter()
    wrong = []
    for case in range(CASES):
        draw, folder = random.Random(f"{name} {case}"), tmp_path / f"case-{case}"
        shutil.copytree(folders[name], folder)
        for _ in range(draw.choice([1, 1, 2])):
            mutate(draw, folder)
        verb = draw.choice(sorted(runs))
        result = outcome(runs[verb], folder)
        outcomes[result] += 1
        if result not in ("opened", "refused"):
            wrong.append(f"case {case}, {verb}: {result}")
    assert wrong == []
    assert outcomes.total() == CASES
    assert min(outcomes["opened"], outcomes["refused"]) > CASES / 8, outcomes  # both ends are reached
