"""`protoformer generate`: from runs and folders, to the terminal and to files; errors are one line."""

import io
import json
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from torch import nn

import protoformer
from protoformer.assembly.model import build_module, builder_arguments, with_special_token_rows
from protoformer.cli import main as command
from protoformer.config.compose import compose
from protoformer.models.decoder import Decoder
from protoformer.runs.folder import RunFolder
from protoformer.text.tokenizers import Tokenizer, whole_word_tokenizer
from protoformer.text.vocabulary_training import train

TEXTS = ["where is the dog ? the dog sleeps in the garden , and a cat walks", "Über 12 mice — no cheese!"]
BYTES = train(lambda: TEXTS * 3, "bytelevel", 300)
PAIRS = train(lambda: TEXTS * 3, "bpe", 90)
PROMPTS = ["where is", "the dog sleeps in the garden and", "a cat", "Über"]


def write_run(folder: Path, model: str = "gpt2_tiny", task: str = "pretrain/clm", tokenizer: Tokenizer = BYTES) -> Path:
    config = compose([f"model={model}", f"task={task}", "source=sample", f"paths.outputs={folder}"])
    config["model"] |= {"vocab_size": tokenizer.vocab_size, "d_model": 16, "n_heads": 2, "d_ff": 32}
    config["model"] = with_special_token_rows(config, config["model"], tokenizer)
    run = RunFolder(folder / model / task / "seed42-abc", "seed42-abc")
    run.write_config(config)
    torch.manual_seed(0)
    module = build_module(config, builder_arguments(config["model"]))
    for parameter in module.parameters():
        nn.init.normal_(parameter, std=0.3)
    run.checkpoints.mkdir()
    torch.save({"state_dict": module.state_dict(), "global_step": 3, "epoch": 0}, run.best_checkpoint)
    tokenizer.save(run.path / "tokenizer")
    return run.path


def write_folder(folder: Path, family: str, tokenizer: Tokenizer) -> Any:
    torch.manual_seed(1)
    sizes = {"vocab_size": tokenizer.vocab_size, "n_embd": 16, "n_layer": 2, "n_head": 2, "n_positions": 64}
    ends = {"eos_token_id": None, "bos_token_id": None}
    if family == "gpt2":
        theirs = transformers.GPT2LMHeadModel(transformers.GPT2Config(**sizes, **ends, initializer_range=0.4))
    else:
        theirs = transformers.OpenAIGPTLMHeadModel(transformers.OpenAIGPTConfig(**sizes, initializer_range=0.4))
    theirs.save_pretrained(folder)
    tokenizer.save(folder)
    return theirs.eval()


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


@pytest.mark.parametrize(("family", "tokenizer"), [("gpt2", BYTES), ("gpt", PAIRS)])
def test_hf_folder_generates_what_transformers_generates(tmp_path: Path, family: str, tokenizer: Tokenizer) -> None:
    theirs = write_folder(tmp_path / "weights", family, tokenizer)
    generator = protoformer.load_decoder(tmp_path / "weights")
    completions = generator.generate(PROMPTS, max_new_tokens=15)
    for prompt, ours in zip(PROMPTS, completions, strict=True):
        ids = torch.tensor(tokenizer.encode([prompt]))
        expected = theirs.generate(
            ids, attention_mask=torch.ones_like(ids), max_new_tokens=15, do_sample=False, pad_token_id=0
        )[0, ids.shape[1] :].tolist()
        end = next((n for n, token in enumerate(expected) if token in generator.eos_ids), len(expected))
        assert ours.tokens == expected[:end]


def test_one_prompt_is_streamed_and_several_are_printed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = write_run(tmp_path)
    generator = protoformer.load_decoder(run)
    expected = generator.generate(PROMPTS, max_new_tokens=6)
    assert command(["generate", str(run), "--prompt", PROMPTS[0], "--max-new", "6"]) == 0
    captured = capsys.readouterr()
    assert captured.out == f"{PROMPTS[0]}{expected[0].text}\n"
    assert captured.err == ""
    prompts = [argument for prompt in PROMPTS for argument in ("--prompt", prompt)]
    assert command(["generate", str(run), *prompts, "--max-new-tokens", "6"]) == 0  # the name that transformers uses
    captured = capsys.readouterr()
    assert captured.out == "".join(f"{completion.prompt}{completion.text}\n\n" for completion in expected)
    assert "tokens/s" in captured.err


def test_prompts_from_a_file_and_completions_to_a_file(tmp_path: Path) -> None:
    run, out = write_run(tmp_path), tmp_path / "out.jsonl"
    (tmp_path / "in.txt").write_text("\n".join(PROMPTS) + "\n", encoding="utf-8")
    arguments = ["generate", str(run), "--prompts", str(tmp_path / "in.txt"), "--out", str(out), "--max-new", "7"]
    sampling = ["--temperature", "0.9", "--top-k", "20", "--top-p", "0.9", "--repetition-penalty", "1.2", "--seed", "3"]
    assert command([*arguments, *sampling, "--samples", "2", "--batch-size", "3"]) == 0
    completions = lines(out)
    assert [line["prompt"] for line in completions] == [prompt for prompt in PROMPTS for _ in range(2)]
    assert set(completions[0]) == {"prompt", "text", "tokens", "finish_reason", "score"}
    assert {line["finish_reason"] for line in completions} <= {"length", "end"}
    (tmp_path / "in.jsonl").write_text("".join(json.dumps({"prompt": p}) + "\n" for p in PROMPTS), encoding="utf-8")
    again = ["generate", str(run), "--prompts", str(tmp_path / "in.jsonl"), "--out", str(out), "--max-new", "7"]
    assert command([*again, *sampling, "--samples", "2"]) == 0
    assert lines(out) == completions  # the same seed, in other batches
    for name, content in (
        ("in.csv", "id,prompt\n" + "".join(f'1,"{p}"\n' for p in PROMPTS)),
        ("in.json", json.dumps([{"text": p} for p in PROMPTS])),
    ):
        (tmp_path / name).write_text(content, encoding="utf-8")
        table = [str(tmp_path / name) if word.endswith("in.jsonl") else word for word in again]
        assert command([*table, *sampling, "--samples", "2"]) == 0
        assert lines(out) == completions
    assert command([*again, "--beams", "3", "--length-penalty", "gnmt", "--alpha", "0.6"]) == 0
    completions = lines(out)
    assert len(completions) == 3 * len(PROMPTS)
    assert all(line["score"] < 0 for line in completions)


def test_from_nothing_and_from_standard_input(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    run = write_run(tmp_path)
    assert command(["generate", str(run), "--prompt", "", "--max-new", "4"]) == 0
    assert capsys.readouterr().out.endswith("\n")
    options = ["--max-new", "4", "--out", str(tmp_path / "a.jsonl")]
    assert command(["generate", str(run), "--prompt", PROMPTS[0], "--prompt", PROMPTS[1], *options]) == 0
    given = lines(tmp_path / "a.jsonl")
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(f"{PROMPTS[0]}\n{PROMPTS[1]}\n".encode())))
    assert command(["generate", str(run), *options]) == 0
    assert lines(tmp_path / "a.jsonl") == given


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--prompt", "a", "--prompt", "  "], "prompt 2 is empty"),
        ([], "nothing to complete"),
        (["--prompt", "a", "--temperature", "1", "--top-p", "0"], "top_p=0"),
        (["--prompt", "a", "--temperature", "1", "--top-p", "1.5"], "top_p=1.5"),
        (["--prompt", "a", "--top-k", "0"], "top_k=0"),
        (["--prompt", "a", "--max-new", "0"], "max_new_tokens=0"),
        (["--prompt", "a", "--beams", "0"], "beams=0"),
        (["--prompt", "a", "--beams", "2", "--temperature", "1"], "--beams"),
        (["--prompt", "a", "--samples", "3", "--temperature", "0"], "--temperature"),
        (["--prompt", "a", "--device", "abacus"], "--device abacus: not available"),
        (["--prompt", "a", "--stop", ""], "stop"),
        (["--prompts", "nowhere.txt"], "nowhere.txt"),
        (["--prompt", "a", "--out", "nowhere/out.jsonl"], "nowhere"),
    ],
)
def test_invalid_arguments_are_one_line_errors(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    message: str,
) -> None:
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO()))
    assert command(["generate", str(write_run(tmp_path)), *arguments]) == 2
    err = capsys.readouterr().err
    assert message in err
    assert len(err.splitlines()) == 1


def test_unreadable_prompt_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = write_run(tmp_path)
    bad = {
        "a.txt": (b"fine\n\xff\n", "a.txt, byte 5: not UTF-8"),
        "b.jsonl": (b'{"prompt": "a"}\n{"text": "b"}\n', "b.jsonl, line 2"),
        "c.jsonl": (b"{prompt\n", "c.jsonl, line 1: not JSON"),
        "d.txt": (b"fine\n\nfine\n", "d.txt, line 2: empty"),
        "e.csv": (b"question\nfine\n", "e.csv: no column prompt or text; it has question"),
        "f.csv": (b'id,prompt\n1,fine\n2,""\n', "f.csv, line 3, column 'prompt': empty text"),
        "g.csv": (b"id,prompt\n1\n", "g.csv, line 2: 1 field where the header has 2"),
    }
    for name, (content, message) in bad.items():
        (tmp_path / name).write_bytes(content)
        assert command(["generate", str(run), "--prompts", str(tmp_path / name)]) == 2
        assert message in capsys.readouterr().err


def test_source_that_is_no_decoder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tokenizer = whole_word_tokenizer(TEXTS, "here")
    run = write_run(tmp_path, "bert_l2_h128", "glue/sst2", tokenizer)
    assert command(["generate", str(run), "--prompt", "a"]) == 2
    assert "is not a decoder" in capsys.readouterr().err
    assert command(["generate", str(tmp_path / "nowhere"), "--prompt", "a"]) == 2
    assert "no such folder" in capsys.readouterr().err
    assert command(["generate", "some/model", "--prompt", "a"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: hub model some/model")
    assert line.endswith("; name a run folder, a folder of weights or a hub id")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "config.json").write_text('{"model_type": "llama"}')
    assert command(["generate", str(tmp_path / "other"), "--prompt", "a"]) == 2
    assert "'llama'" in capsys.readouterr().err
    write_folder(tmp_path / "mixed", "gpt2", BYTES)
    train(lambda: TEXTS * 3, "bytelevel", 280).save(tmp_path / "mixed")
    protoformer.load_decoder(tmp_path / "mixed")  # a few rows of the embedding may be unused
    large = train(lambda: [f"word{n} other{n}" for n in range(600)] * 3, "bytelevel", 900)
    large.save(tmp_path / "mixed")
    assert command(["generate", str(tmp_path / "mixed"), "--prompt", "a"]) == 2
    assert "do not match" in capsys.readouterr().err


def test_fine_tuned_decoder_generates(tmp_path: Path) -> None:
    generator = protoformer.load_decoder(write_run(tmp_path, "gpt_tiny", "glue/sst2", PAIRS))
    assert len(generator.eos_ids) == 1  # its extract token
    assert generator.generate("the dog", max_new_tokens=4)[0].text


@pytest.mark.parametrize(
    ("words", "advice"),
    [
        (["--prompt", "a cat"], "1 prompt at once; fewer tokens than --max-new 64, shorter texts"),
        (["--batch-size", "3"], "3 prompts at once; half as many, with the same results: --batch-size 2"),
        (["--beams", "2"], "2 beams at once; fewer --beams, fewer tokens than --max-new 64, shorter texts"),
    ],
)
def test_memory_that_runs_out_names_the_flag(
    tmp_path: Path, words: list[str], advice: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def no_room(*_: Any, **__: Any) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB")

    monkeypatch.setattr(Decoder, "decode_step", no_room)
    run = write_run(tmp_path)
    prompts = [] if "--prompt" in words else [word for prompt in PROMPTS for word in ("--prompt", prompt)]
    assert command(["generate", str(run), *prompts, *words]) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"error: out of memory with {advice}")
    assert error.count("\n") == 1
