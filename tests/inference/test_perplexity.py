"""Perplexity on texts against an independent computation with `transformers`, and `protoformer evaluate task=lm/files`."""

import math
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers

from protoformer.cli import main as command
from protoformer.inference.evaluate import perplexity_of_files
from protoformer.models.decoder import Decoder
from protoformer.text.vocabulary_training import train

from .test_generate import write_run

TEXT = "The cat sat on the mat.\nIt was a cat that sat; the mat was red.\n\nA döner for the cat.\n" * 3
WINDOW = 12


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("gpt2")
    tokenizer = train(lambda: [TEXT], "bytelevel", 300)
    tokenizer.save(path)
    torch.manual_seed(5)
    config = transformers.GPT2Config(
        vocab_size=tokenizer.vocab_size, n_embd=16, n_layer=2, n_head=2, n_positions=WINDOW,
        eos_token_id=tokenizer.id("<|endoftext|>"), bos_token_id=tokenizer.id("<|endoftext|>"),
    )  # fmt: skip
    model = transformers.GPT2LMHeadModel(config)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    model.save_pretrained(path)
    (path / "held.txt").write_bytes(TEXT.encode())
    return path


def independent(folder: Path, stride: int) -> tuple[float, int]:
    """Strided windows with a model of `transformers`, a full one at the end too: sum of -log P, and number of tokens."""
    model = transformers.GPT2LMHeadModel.from_pretrained(folder).eval()
    tokenizer = transformers.PreTrainedTokenizerFast(tokenizer_file=str(folder / "tokenizer.json"))
    ids = torch.tensor([[tokenizer.convert_tokens_to_ids("<|endoftext|>"), *tokenizer(TEXT)["input_ids"]]])
    total, scored = 0.0, 0
    while scored < ids.shape[1] - 1:
        end = min(scored + (stride if scored else WINDOW), ids.shape[1] - 1)
        begin = max(0, end - WINDOW)
        with torch.no_grad():
            log_probs = model(ids[:, begin:end]).logits[0].double().log_softmax(-1)
        for position in range(scored, end):  # the token at position + 1 is predicted
            total -= log_probs[position - begin, ids[0, position + 1]].item()
        scored = end
    return total, scored


@pytest.mark.parametrize("stride", [1, 5, 6, 12])
def test_parity_with_transformers(folder: Path, stride: int) -> None:
    total, count = independent(folder, stride)
    score = perplexity_of_files(str(folder), [str(folder / "held.txt")], stride)
    assert score.negative_log_likelihood == pytest.approx(total, rel=1e-6)
    assert score.tokens == count
    assert score.token_perplexity == pytest.approx(math.exp(total / count), rel=1e-5)
    assert score.word_perplexity == pytest.approx(math.exp(total / len(TEXT.split())), rel=1e-4)
    assert score.bits_per_byte == pytest.approx(total / math.log(2) / len(TEXT.encode()), rel=1e-6)


def test_the_command(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["evaluate", str(folder), "task=lm/files"]
    assert command([*words, f"source.files=[{folder / 'held.txt'}]", "task.stride=6"]) == 0
    rows = dict(line.rsplit("  ", 1) for line in capsys.readouterr().out.splitlines())
    total, count = independent(folder, 6)
    printed = {name.strip(): value.strip() for name, value in rows.items()}
    assert float(printed["token perplexity"]) == pytest.approx(math.exp(total / count), abs=1e-3)
    assert (printed["tokens"], printed["stride"], printed["window"]) == (
        f"{count:,}",
        "6 tokens",
        f"{WINDOW} tokens (the model's positions)",
    )
    (tmp_path / "rows.jsonl").write_text('{"text": "The cat"}\n{"text": "The mat"}\n')
    assert command([*words, f"source.files={tmp_path / 'rows.jsonl'}"]) == 0
    assert "tokens" in capsys.readouterr().out
    (tmp_path / "empty.txt").write_text("")
    (tmp_path / "bytes.txt").write_bytes(b"a\n\xff\n")
    for override, message in (
        (f"source.files=[{tmp_path / 'empty.txt'}]", "there is no token to predict"),
        (f"source.files=[{tmp_path / 'absent.txt'}]", "absent.txt: no such file"),
        (
            f"source.files=[{tmp_path / 'bytes.txt'}]",
            "bytes.txt, line 2: byte 0xFF is not UTF-8; source.encoding=latin-1",
        ),
        ("source.files=[]", "nothing to score"),
        ("task.strid=3", "task.strid: task=lm/files takes"),
    ):
        assert command([*words, override]) == 2
        error = capsys.readouterr().err
        assert message in error
        assert error.count("\n") == 1
    for stride in ("0", "13", "x"):
        assert command([*words, f"source.files=[{folder / 'held.txt'}]", f"task.stride={stride}"]) == 2
        assert "stride" in capsys.readouterr().err
    assert command(["evaluate", str(folder), "seed=1"]) == 2
    assert "give task=TASK" in capsys.readouterr().err


def test_another_task_is_scored_as_a_test_only_run(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: list[Any] = []
    monkeypatch.setattr("protoformer.commands.train.main", lambda words, program: given.append(words) or 0)
    assert command(["evaluate", str(folder), "task=glue/mrpc", "source=sample"]) == 0
    assert given == [
        [
            "model=gpt2",
            f"init_from={folder}",
            "task.splits.train=null",
            "tracking=none",
            "task=glue/mrpc",
            "source=sample",
        ]
    ]


def test_memory_that_runs_out_names_the_setting(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["evaluate", str(folder), "task=lm/files", f"source.files={folder / 'held.txt'}"]
    assert command(words) == 0
    table = capsys.readouterr().out
    forward = Decoder.forward

    def with_little_memory(self: Any, ids: torch.Tensor, *arguments: Any, **more: Any) -> Any:
        if len(ids) > 2:
            raise MemoryError
        return forward(self, ids, *arguments, **more)

    monkeypatch.setattr(Decoder, "forward", with_little_memory)
    assert command([*words, "hardware.micro_batch=3"]) == 2
    half = "half as many, with the same results: hardware.micro_batch=2"
    assert capsys.readouterr().err == f"error: out of memory with 3 windows at once; {half}\n"
    assert command([*words, "hardware.micro_batch=2"]) == 0
    assert capsys.readouterr().out == table


def test_a_language_model_without_a_training_split_is_sent_to_files(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["evaluate", str(folder), "task=pretrain/clm", "source=sample", f"paths.outputs={tmp_path}"]
    with pytest.raises(SystemExit, match="2"):
        command([*words, "task.max_len=8"])
    error = capsys.readouterr().err.splitlines()[-1]
    assert f"protoformer evaluate {folder} task=lm/files 'source.files=[heldout.txt]'" in error


def test_the_window_of_a_run_is_the_length_that_it_was_trained_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = write_run(tmp_path, "gpt2_tiny")
    config = (run / "config.yaml").read_text()
    assert "max_len: 512" in config
    (run / "config.yaml").write_text(config.replace("max_len: 512", "max_len: 10"))
    (tmp_path / "held.txt").write_text("the dog sleeps in the garden and a cat walks")
    assert command(["evaluate", str(run), "task=lm/files", f"source.files=[{tmp_path / 'held.txt'}]"]) == 0
    out = capsys.readouterr().out
    assert "10 tokens (as in training)" in out
    assert "5 tokens" in out
