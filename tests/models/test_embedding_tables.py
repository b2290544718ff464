"""Ids that a model has no embedding for are refused before they are looked up, by every verb."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from protoformer.assembly.build import build, check_tables
from protoformer.config.compose import compose
from protoformer.errors import ConfigurationError
from protoformer.inference.attention import AttentionRequest, load_model, resolve
from protoformer.inference.load import load
from protoformer.models.backbone import check_ids
from protoformer.models.bert import bert
from protoformer.models.heads import ClassificationHead
from protoformer.models.hf import BertWeights
from protoformer.modules.kinds.pretraining import PretrainingModule
from protoformer.text.tokenizers import whole_word_tokenizer

WORDS = whole_word_tokenizer(["a cat sat on the mat"], "here")
SIZES: dict[str, Any] = {"d_model": 8, "n_layers": 1, "n_heads": 2, "d_ff": 16, "max_seq_len": 24, "n_segments": 1}
ONE = r"pairs of texts are of 2 segments \(token types\), and the model has 1"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    layout, encoder, head = BertWeights(), bert(vocab_size=WORDS.vocab_size, **SIZES), ClassificationHead(8, 2)
    path = tmp_path / "one-segment"
    path.mkdir()
    config = layout.hf_config(
        "classification", {**SIZES, "vocab_size": WORDS.vocab_size}, ["entailment", "not_entailment"]
    )
    (path / "config.json").write_text(json.dumps(config))
    state = layout.to_hf("classification", encoder.state_dict(), head.state_dict())
    save_file({name: tensor.contiguous().clone() for name, tensor in state.items()}, path / "model.safetensors")
    WORDS.save(path)
    return path


def test_ids_beyond_a_table_are_named() -> None:
    model = bert(vocab_size=10, **SIZES)
    check_ids(model, "texts", np.array([0, 9]), np.array([0, 0]))
    check_ids(model, "texts", torch.zeros(0), None)
    with pytest.raises(ConfigurationError, match="texts: a token has the id 10, and the model has embeddings for 10"):
        check_ids(model, "texts", torch.tensor([3, 10]))
    with pytest.raises(ConfigurationError, match=f"texts: {ONE}"):
        check_ids(model, "texts", np.array([3]), np.array([0, 1], dtype=np.uint8))


def test_a_pair_and_one_token_type_in_each_verb(folder: Path, tmp_path: Path) -> None:
    inspected = load_model(str(folder))
    assert resolve(inspected, AttentionRequest("a cat"))[1]
    with pytest.raises(ConfigurationError, match=ONE):
        resolve(inspected, AttentionRequest("a cat", "sat"))
    opened = load(folder)
    assert set(opened.predict("a cat")["probabilities"]) == {"entailment", "not_entailment"}
    with pytest.raises(ConfigurationError, match=ONE):
        opened.predict("a cat", "sat")
    shutil.copy(folder / "tokenizer.json", tmp_path / "tokenizer.json")
    settings = ["model=bert", "task=glue/rte", "source=sample", "source.rows=16", f"init_from={folder}"]
    parts = build(compose([*settings, f"paths.cache={tmp_path / 'cache'}"]))
    parts.data.setup()
    with pytest.raises(ConfigurationError, match=f"sample:.*rte/train: {ONE}"):
        check_tables(parts)


def test_next_sentences_need_two_token_types() -> None:
    encoder = bert(vocab_size=10, **SIZES)
    with pytest.raises(ConfigurationError, match=r"next-sentence prediction reads pairs .* and the model has 1"):
        PretrainingModule(backbone=encoder, splits={})
    assert PretrainingModule(backbone=encoder, splits={}, nsp=False).head.next is None
