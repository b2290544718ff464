"""By the hub path: GPT-2's files of the first form (masks among the weights, a vocabulary in two files) are fine-tuned from,
and Marian's come with both sides' words."""

import json
import os
import subprocess
import sys
from pathlib import Path

import torch
import transformers
from safetensors.torch import save

from protoformer.assembly import build
from protoformer.config.compose import compose
from protoformer.text.tokenizer_files import read_tokenizer
from protoformer.text.vocabulary_training import train

from ..text.marian import write_model
from .hub_server import Hub, Repository

MODEL, COMMIT = "openai-community/gpt2", "c" * 40
TEXTS = ["the cat sleeps in the garden", "a dog walks"] * 3


def first_form() -> Repository:
    """No prefix, no output matrix, the masks of attention as tensors; vocab.json and merges.txt."""
    words = json.loads(train(lambda: TEXTS, "bytelevel", 280).hf_tokenizer.to_str())["model"]
    sizes = {"vocab_size": len(words["vocab"]), "n_embd": 16, "n_layer": 2, "n_head": 2, "n_positions": 160}
    model = transformers.GPT2LMHeadModel(transformers.GPT2Config(**sizes))
    state = {
        name.removeprefix("transformer."): tensor
        for name, tensor in model.state_dict().items()
        if name != "lm_head.weight"
    }
    mask = torch.ones(160, 160).tril()[None, None]
    masks = {f"h.{layer}.attn.bias": mask.clone() for layer in range(2)}
    merges = ["#version: 0.2", *(" ".join(pair) for pair in words["merges"]), ""]
    return Repository(
        COMMIT,
        {
            "config.json": json.dumps(model.config.to_dict()).encode(),
            "model.safetensors": save({**state, **masks}, {"format": "pt"}),
            "vocab.json": json.dumps(words["vocab"]).encode(),
            "merges.txt": "\n".join(merges).encode(),
        },
    )


def fetched(name: str, repository: Repository, place: Path) -> list[str]:
    """The folder and the commit that a process of its own gets."""
    call = f"from protoformer.hub import fetch; print(*fetch({name!r}, None))"
    with Hub({name: [repository]}) as hub:
        clean = {k: v for k, v in os.environ.items() if not k.startswith("HF_") and not k.lower().endswith("_proxy")}
        completed = subprocess.run(
            [sys.executable, "-c", call], env={**clean, "HF_ENDPOINT": hub.endpoint, "HF_HOME": str(place / "hf")},
            capture_output=True, text=True, timeout=60, check=True,
        )  # fmt: skip
    return completed.stdout.split()


def test_published_weights_of_the_first_form_are_fine_tuned_from(tmp_path: Path) -> None:
    folder, commit = fetched(MODEL, first_form(), tmp_path)
    assert commit == COMMIT
    rows = ["model=gpt2", "task=glue/rte", "source=sample", "source.rows=16", f"paths.cache={tmp_path / 'cache'}"]
    parts = build.build(compose([*rows, f"init_from={folder}"]))
    theirs = transformers.AutoModelForCausalLM.from_pretrained(folder).eval()
    ids = torch.tensor(parts.tokenizer.encode(TEXTS[:1]))
    with torch.no_grad():
        backbone = parts.module.eval().backbone
        actual = backbone.logits(backbone(ids, torch.ones_like(ids, dtype=torch.bool)).to_padded())
        torch.testing.assert_close(actual[..., :-3], theirs(ids).logits, atol=1e-5, rtol=0)
    assert actual.shape[-1] == theirs.config.vocab_size + 3  # start, delimiter and extract besides


def test_marians_files_come_with_both_sides_words(tmp_path: Path) -> None:
    write_model(tmp_path / "marian")
    files = {path.name: path.read_bytes() for path in (tmp_path / "marian").iterdir()}
    folder, _ = fetched("Helsinki-NLP/opus-mt-en-de", Repository(COMMIT, files), tmp_path)
    words, own = read_tokenizer(Path(folder)), read_tokenizer(tmp_path / "marian")
    assert words.digest == own.digest
    assert words.encode_targets(["the cat"]) != words.encode(["the cat"])
