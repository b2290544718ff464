"""Language models there and back: what `transformers` opens says the same, and what it wrote is fine-tuned here."""

from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from torch import nn

import protoformer
from protoformer.assembly import build
from protoformer.assembly.initial_weights import read_folder
from protoformer.assembly.instantiate import instantiate
from protoformer.assembly.model import build_module, builder_arguments, with_special_token_rows
from protoformer.cli import main as command
from protoformer.config.compose import compose
from protoformer.errors import WeightsError
from protoformer.models import weights
from protoformer.runs.folder import RunFolder
from protoformer.text.tokenizers import Tokenizer, with_normalization
from protoformer.text.vocabulary_training import train

TEXTS = ["where is the dog ? the dog sleeps in the garden , and a cat walks", "Über 12 mice — no cheese!\n\n  Two."]
BYTES = train(lambda: TEXTS * 3, "bytelevel", 300)
PAIRS = train(lambda: TEXTS * 3, "bpe", 90)
SIZES = {"d_model": 16, "n_layers": 2, "n_heads": 2, "d_ff": 64, "max_seq_len": 40}


def write_run(place: Path, model: str, tokenizer: Tokenizer, *overrides: str, task: str = "pretrain/clm") -> Path:
    """A run folder with a tiny random decoder as its best checkpoint."""
    config = compose([f"model={model}", f"task={task}", "source=sample", f"paths.outputs={place}", *overrides])
    config["task"]["max_len"] = 32
    config["model"] |= {**SIZES, "vocab_size": tokenizer.vocab_size}
    config["model"] = with_special_token_rows(config, config["model"], tokenizer)
    folder = RunFolder(place / model / task / "seed42-abc", "seed42-abc")
    folder.write_config(config)
    module = build_module(config, builder_arguments(config["model"]))
    for parameter in module.parameters():
        nn.init.normal_(parameter, std=0.3)
    folder.checkpoints.mkdir()
    torch.save({"state_dict": module.state_dict(), "global_step": 3, "epoch": 0}, folder.best_checkpoint)
    tokenizer.save(folder.path / "tokenizer")
    return folder.path


@pytest.mark.parametrize(
    ("model", "tokenizer", "expected"),
    [
        ("gpt2", BYTES, transformers.GPT2LMHeadModel),
        ("gpt", PAIRS, transformers.OpenAIGPTLMHeadModel),
        ("gpt", with_normalization(PAIRS, "original"), transformers.OpenAIGPTLMHeadModel),
    ],
    ids=["gpt2", "gpt", "gpt-original"],
)
def test_a_language_model_says_the_same_there(tmp_path: Path, model: str, tokenizer: Tokenizer, expected: Any) -> None:
    run, out = write_run(tmp_path / "outputs", model, tokenizer), tmp_path / "out"
    assert command(["export", str(run), "--to", "hf", str(out)]) == 0
    theirs, report = transformers.AutoModelForCausalLM.from_pretrained(out, output_loading_info=True)
    assert isinstance(theirs, expected)
    assert not report["missing_keys"]
    assert not report["unexpected_keys"]
    ids = transformers.AutoTokenizer.from_pretrained(out)(TEXTS)["input_ids"]
    assert ids == tokenizer.encode(TEXTS)
    end = tokenizer.id("<|endoftext|>") if model == "gpt2" else tokenizer.vocab_size + 2
    assert theirs.config.eos_token_id == theirs.generation_config.eos_token_id == end < theirs.config.vocab_size
    ours = protoformer.load(run).model.backbone
    whole = torch.tensor(ids[0][:32])[None]
    with torch.no_grad():
        hidden = ours(whole, torch.ones_like(whole, dtype=torch.bool)).to_padded()
        torch.testing.assert_close(ours.logits(hidden), theirs.eval()(whole).logits, atol=1e-5, rtol=1e-5)


def test_what_transformers_cannot_say_is_not_exported(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for number, (tokenizer, why) in enumerate(
        [
            (["model.attention=[dense,banded]", "+model.band=8"], "model.attention"),
            (["model.norm=post"], "model.norm"),
        ]
    ):
        run = write_run(tmp_path / str(number), "gpt2", BYTES, *tokenizer)
        assert command(["export", str(run), "--to", "hf", str(tmp_path / "out")]) == 2
        assert why in capsys.readouterr().err
        assert not (tmp_path / "out").exists()
    run = write_run(tmp_path / "classifier", "gpt2", BYTES, task="glue/sst2")
    assert command(["export", str(run), "--to", "hf", str(tmp_path / "out")]) == 2
    assert "classification has no counterpart" in capsys.readouterr().err


@pytest.mark.parametrize("task", ["glue/mrpc", "swag", "squad/v2", "pretrain/clm"])
@pytest.mark.parametrize(
    ("model", "tokenizer", "made"),
    [
        ("gpt2", BYTES, lambda: transformers.GPT2LMHeadModel(
            transformers.GPT2Config(vocab_size=BYTES.vocab_size, n_embd=16, n_layer=2, n_head=2, n_positions=40))),
        ("gpt", PAIRS, lambda: transformers.OpenAIGPTLMHeadModel(
            transformers.OpenAIGPTConfig(vocab_size=PAIRS.vocab_size, n_embd=16, n_layer=2, n_head=2, n_positions=40))),
    ],
    ids=["gpt2", "gpt"],
)  # fmt: skip
def test_a_folder_of_theirs_is_the_start_of_every_kind(
    tmp_path: Path, model: str, tokenizer: Tokenizer, made: Any, task: str
) -> None:
    theirs = made()
    theirs.save_pretrained(tmp_path)
    tokenizer.save(tmp_path)
    overrides = [f"model={model}", f"task={task}", "source=sample", "source.rows=12", f"init_from={tmp_path}"]
    config = compose([*overrides, f"paths.cache={tmp_path / 'cache'}", "task.max_len=32"])
    parts = build.build(config)
    body, _ = read_folder(tmp_path, instantiate(config, "model.hf"), config["task"]["kind"])
    state = parts.module.backbone.state_dict()
    assert state.keys() == body.keys()
    for name, tensor in body.items():
        torch.testing.assert_close(state[name][: len(tensor)], tensor, atol=0, rtol=0)
    grown = len(state["embeddings.token.weight"]) - tokenizer.vocab_size
    at_end = model == "gpt2" and task == "pretrain/clm"  # its vocabulary has an end of text
    assert grown == (0 if at_end else 3)
    assert parts.model.arguments["vocab_size"] == tokenizer.vocab_size + grown


def test_another_architecture_is_named(tmp_path: Path) -> None:
    transformers.GPT2LMHeadModel(
        transformers.GPT2Config(n_embd=16, n_layer=1, n_head=2, vocab_size=300)
    ).save_pretrained(tmp_path)
    PAIRS.save(tmp_path)
    with pytest.raises(WeightsError, match="model_type 'gpt2'; this model reads 'openai-gpt'"):
        build.build(compose(["model=gpt", "task=glue/rte", "source=sample", f"init_from={tmp_path}"]))
    assert weights.read_config(tmp_path)["n_layer"] == 1


def test_a_tokenizer_of_another_vocabulary_is_refused(tmp_path: Path) -> None:
    transformers.GPT2LMHeadModel(
        transformers.GPT2Config(vocab_size=BYTES.vocab_size - 9, n_embd=16, n_layer=1, n_head=2)
    ).save_pretrained(tmp_path)
    BYTES.save(tmp_path)
    with pytest.raises(protoformer.errors.ConfigurationError, match="vocab_size"):
        build.build(compose(["model=gpt2", "task=glue/rte", "source=sample", f"init_from={tmp_path}"]))
