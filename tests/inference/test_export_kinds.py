"""Exports of runs of every kind beside classification: `transformers` gives the same logits from the folder."""

from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from torch import nn

import protoformer
from protoformer.assembly.initial_weights import read_folder, split_state
from protoformer.assembly.instantiate import instantiate
from protoformer.assembly.model import build_module, builder_arguments
from protoformer.cli import main as command
from protoformer.config.compose import compose
from protoformer.errors import WeightsError
from protoformer.inference import export
from protoformer.models import weights
from protoformer.runs.folder import RunFolder
from protoformer.text.tokenizers import whole_word_tokenizer

WORDS = whole_word_tokenizer(["where is the dog ? the dog sleeps in the garden , and a cat walks"], "here")
A, B = "Where is the [MASK]?", "The dog sleeps in the garden, and a cat walks"


def write_run(place: Path, task: str, *overrides: str) -> Path:
    """A run folder with a tiny random BERT as its best checkpoint."""
    config = compose(["model=bert", f"task={task}", "source=sample", f"paths.outputs={place}", *overrides])
    config["task"]["max_len"] = 32
    sizes = {"vocab_size": WORDS.vocab_size, "d_model": 16, "n_layers": 2, "n_heads": 2, "d_ff": 24, "max_seq_len": 40}
    config["model"] |= sizes
    folder = RunFolder(place / "bert" / task / "seed42-abc", "seed42-abc")
    folder.write_config(config)
    module = build_module(config, builder_arguments(config["model"]))
    for parameter in module.parameters():
        nn.init.normal_(parameter, std=0.3)
    folder.checkpoints.mkdir()
    torch.save({"state_dict": module.state_dict(), "global_step": 3, "epoch": 0}, folder.best_checkpoint)
    WORDS.save(folder.path / "tokenizer")
    return folder.path


def our_batch(loaded: Any, a: list[str], b: list[str]) -> dict[str, torch.Tensor]:
    template = instantiate(loaded.config, "model.template", tokenizer=loaded.tokenizer)
    written = template.encode_texts(loaded.tokenizer.encode(a), loaded.tokenizer.encode(b), 32)
    lengths = (written.offsets[1:] - written.offsets[:-1]).tolist()
    batch = {name: torch.zeros(len(a), max(lengths), dtype=torch.long) for name in ("ids", "segment_ids")}
    for row, (at, length) in enumerate(zip(written.offsets.tolist(), lengths, strict=False)):
        for name in batch:
            batch[name][row, :length] = torch.from_numpy(getattr(written, name)[at : at + length]).long()
    mask = torch.arange(max(lengths))[None] < torch.tensor(lengths)[:, None]
    return {**batch, "padding_mask": mask, "pooler_position": torch.zeros(len(a), dtype=torch.long)}


def opened(cls: Any, folder: Path, spare: tuple[str, ...] = ()) -> Any:
    model, report = cls.from_pretrained(folder, output_loading_info=True)
    assert not report["missing_keys"]
    assert {name for name in report["unexpected_keys"] if not name.startswith(spare or ("none",))} == set()
    return model.eval()


def exported(tmp_path: Path, task: str, *overrides: str) -> tuple[Any, Path, Any]:
    """The run, the folder, and what their tokenizer makes of the pair."""
    run, out = write_run(tmp_path / "outputs", task, *overrides), tmp_path / "out"
    assert command(["export", str(run), "--to", "hf", str(out)]) == 0
    return protoformer.load(run), out, transformers.AutoTokenizer.from_pretrained(out)


@pytest.mark.parametrize("task", ["squad/v1", "squad/v2"])
def test_a_span_run(tmp_path: Path, task: str) -> None:
    loaded, out, tokenizer = exported(tmp_path, task)
    theirs = opened(transformers.AutoModelForQuestionAnswering, out, spare=("bert.pooler.",))  # theirs has no pooler
    assert isinstance(theirs, transformers.BertForQuestionAnswering)
    encoded = tokenizer([A], [B], truncation=True, return_tensors="pt")
    batch = our_batch(loaded, [A], [B])
    assert torch.equal(batch["ids"], encoded["input_ids"])
    with torch.no_grad():
        expected = theirs(**encoded)
        start, end = loaded.model(batch)
    torch.testing.assert_close(start, expected.start_logits, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(end, expected.end_logits, atol=1e-5, rtol=1e-5)
    assert (start - end).abs().max() > 1e-3
    back_again(loaded, out, "span")


def test_a_pretraining_run(tmp_path: Path) -> None:
    loaded, out, tokenizer = exported(tmp_path, "pretrain/mlm_nsp")
    theirs = opened(transformers.BertForPreTraining, out)
    encoded = tokenizer([A], [B], truncation=True, return_tensors="pt")
    batch = our_batch(loaded, [A], [B])
    assert torch.equal(batch["ids"], encoded["input_ids"])
    seq = batch["ids"].shape[1]
    batch |= {
        "target_position": torch.arange(seq)[None],
        "target_ids": batch["ids"],
        "example_ids": torch.zeros(1, dtype=torch.long),
    }
    with torch.no_grad():
        expected, told = theirs(**encoded), loaded.model(batch)
    torch.testing.assert_close(told.mlm_logits, expected.prediction_logits[0], atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(told.nsp_logits, expected.seq_relationship_logits, atol=1e-5, rtol=1e-5)
    back_again(loaded, out, "pretraining")
    masked = opened(transformers.AutoModelForMaskedLM, out, spare=("bert.pooler.", "cls.seq_relationship."))
    with torch.no_grad():
        torch.testing.assert_close(masked(**encoded).logits[0], told.mlm_logits, atol=1e-5, rtol=1e-5)
    opened(transformers.AutoModel, out, spare=("cls.",))


def test_a_pretraining_run_without_next_sentences(tmp_path: Path) -> None:
    loaded, out, tokenizer = exported(tmp_path, "pretrain/mlm_nsp", "task.data.nsp=false")
    assert not [name for name in weights.read_state(out) if "seq_relationship" in name]
    theirs = opened(transformers.AutoModelForMaskedLM, out, spare=("bert.pooler.",))
    assert weights.read_config(out)["architectures"] == ["BertForMaskedLM"]
    batch = our_batch(loaded, [A], [B])
    seq = batch["ids"].shape[1]
    batch |= {
        "target_position": torch.arange(seq)[None],
        "target_ids": batch["ids"],
        "example_ids": torch.zeros(1, dtype=torch.long),
    }
    with torch.no_grad():
        expected = theirs(**tokenizer([A], [B], return_tensors="pt")).logits[0]
        torch.testing.assert_close(loaded.model(batch).mlm_logits, expected, atol=1e-5, rtol=1e-5)
    back_again(loaded, out, "pretraining")


def test_a_multiple_choice_run(tmp_path: Path) -> None:
    loaded, out, tokenizer = exported(tmp_path, "swag")
    theirs = opened(transformers.AutoModelForMultipleChoice, out)
    endings = ["sleeps", "walks in the garden", "the cat ?", "and"]
    encoded = tokenizer([A] * 4, endings, padding=True, return_tensors="pt")
    batch = our_batch(loaded, [A] * 4, endings)
    with torch.no_grad():
        expected = theirs(**{name: tensor[None] for name, tensor in encoded.items()}).logits
        logits = loaded.model({name: tensor[None] for name, tensor in batch.items()})
    torch.testing.assert_close(logits, expected, atol=1e-5, rtol=1e-5)
    assert expected.shape == (1, 4)
    back_again(loaded, out, "multiple_choice")


def back_again(loaded: Any, out: Path, kind: str) -> None:
    """Our own reader opens it: the same tensors, head included, for this kind alone."""
    layout = instantiate(loaded.config, "model.hf")
    body, head = read_folder(out, layout, kind)
    expected = split_state(loaded.model.state_dict())
    for actual, wanted in zip((body, head.state), expected, strict=True):
        assert actual.keys() == wanted.keys()
        assert all(torch.equal(actual[name], wanted[name]) for name in wanted)
    others = {"classification", "multiple_choice", "span", "pretraining"} - {kind}
    assert not any(read_folder(out, layout, other)[1].state for other in others)


@pytest.mark.parametrize("setting", ["model.top=bilstm", "model.attention=causal"])
def test_what_the_other_library_cannot_express_is_refused(tmp_path: Path, setting: str) -> None:
    more = ["+model.template.pooled_token=last"] if "causal" in setting else []
    run = write_run(tmp_path / "outputs", "squad/v1", setting, *more)
    with pytest.raises(WeightsError, match=f"{setting} has no counterpart"):
        export.main(str(run), "hf", str(tmp_path / "out"))
    assert not (tmp_path / "out").exists()
