"""Zero-shot language modelling as runs: idempotent, continued where they were, the numbers of `protoformer evaluate`."""

import json
import math
import os
import signal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet
import pytest
import tokenizers
import torch
import transformers

from protoformer import cli
from protoformer.commands import train
from protoformer.inference.generate import load_decoder
from protoformer.modules.perplexity import module as perplexity
from protoformer.reporting.zero_shot import read_runs
from protoformer.text.words.stop_words import STOP_WORDS

from .commands import result

TINY = ["model=gpt2_tiny", "hardware=cpu", "hardware.threads=1", "tracking=none"]
TEXT = "The cat sat on the mat.\nIt was a cat that sat; the mat was red.\n\nA döner for the cat.\n" * 12
LINES = ["", " = A cat = \n", "", ' The cat , a " red " one , sat @-@ still : 1 @,@ 000 times . \n'] * 9


def run(folder: Path, *overrides: str) -> int:
    return train.main([*TINY, f"paths.outputs={folder / 'outputs'}", f"paths.cache={folder / 'cache'}", *overrides])


@pytest.fixture(scope="module")
def pretrained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pretrained")
    words = [
        "task=pretrain/clm",
        "task.max_len=48",
        "model.max_seq_len=48",
        "recipe.batch_size=4",
        "recipe.max_steps=4",
    ]
    assert run(folder, *words, "recipe.warmup=1", "source=sample", "source.rows=40", "trainer.limit_val_batches=2") == 0
    (made,) = (folder / "outputs").rglob("result.json")
    return made.parent


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Invented rows in the schemas of the data sets."""
    root = tmp_path_factory.mktemp("data")
    rows = {
        "Salesforce/wikitext/wikitext-2-raw-v1": LINES,
        "Salesforce/wikitext/wikitext-103-v1": LINES,
        "LTCB/enwik8/enwik8": ["<page>", "  <title>A döner</title>", "", "</page>"] * 5,
        "dvruette/lm1b/default": ['He said , " it is n\'t ( so ) . "', "It cost $ 5 ."],
        "ptb/default": [" the <unk> did n't fall N N \n it is $ N million \n"],
        "afmck/text8/default": [" anarchism originated as a term of abuse "],
    }
    for name, texts in rows.items():
        (root / name).mkdir(parents=True)
        pa.parquet.write_table(pa.table({"text": texts}), root / name / "test-00000-of-00001.parquet")
    stories = ["The dog ran home.\n\nHe saw the cat", "It was a red mat", "She looked at the"]
    (root / "EleutherAI/lambada_openai/default").mkdir(parents=True)
    pa.parquet.write_table(
        pa.table({"text": stories}), root / "EleutherAI/lambada_openai/default/test-00000-of-00001.parquet"
    )
    options = ["cat", "dog", "mat", "hat", "bed", "man", "boy", "sun", "sea", "cow"]
    cloze = [
        {"sentences": ["`` I wo n't go , '' said he ."] * 20, "question": "`` The XXXXX 's red , '' he said .",
         "answer": answer, "options": options}
        for answer in ("mat", "sea")
    ]  # fmt: skip
    for subset in ("CN", "NE"):
        (root / "cam-cst/cbt" / subset).mkdir(parents=True)
        pa.parquet.write_table(
            pa.Table.from_pylist(cloze), root / "cam-cst/cbt" / subset / "validation-00000-of-00001.parquet"
        )
    (root / "held.txt").write_text(TEXT)
    return root


def only_run(folder: Path) -> Path:
    (made,) = (folder / "outputs").rglob("config.yaml")
    return made.parent


def files(data: Path) -> list[str]:
    return ["task=lm/files", "source=files", f"source.files=[{data / 'held.txt'}]"]


def test_a_file_leaves_an_ordinary_run_with_the_numbers_of_evaluate(
    pretrained: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [*files(data), f"init_from={pretrained}", "task.strides=[1024,24]"]
    assert run(tmp_path, *words) == 0
    folder = only_run(tmp_path)
    content = result(folder)
    metrics = content["metrics"]
    assert content["notes"]["test"]["windows"] == "of 48 tokens, strides 48, 24"
    assert metrics["test/probability_per_token_stride_48"] == pytest.approx(
        1 / metrics["test/perplexity_per_token_stride_48"]
    )
    assert not (folder / "evaluation").exists()
    assert (folder / "card.md").exists()
    capsys.readouterr()
    assert run(tmp_path, *words) == 0
    assert "already finished" in capsys.readouterr().err
    assert cli.main(["report", str(tmp_path / "outputs")]) in (0, None)
    assert "lm/files" in capsys.readouterr().out
    for stride in (48, 24):
        assert cli.main(["evaluate", str(pretrained), *files(data), f"task.stride={stride}"]) in (0, None)
        lines = [line.split("  ") for line in capsys.readouterr().out.splitlines()]
        printed = {line[0]: line[-1].strip() for line in lines}
        for name, ours in (("token perplexity", "perplexity_per_token"), ("bits per byte", "bits_per_byte")):
            assert float(printed[name]) == pytest.approx(metrics[f"test/{ours}_stride_{stride}"], abs=1e-3)
        assert printed["stride"] == f"{stride} tokens"


def test_windows_agree_with_transformers_on_the_exported_weights(pretrained: Path, data: Path, tmp_path: Path) -> None:
    assert run(tmp_path, *files(data), f"init_from={pretrained}", "task.strides=[48,16]") == 0
    assert cli.main(["export", str(pretrained), str(tmp_path / "export")]) in (0, None)
    model = transformers.GPT2LMHeadModel.from_pretrained(tmp_path / "export").eval()
    tokenizer = tokenizers.Tokenizer.from_file(str(tmp_path / "export" / "tokenizer.json"))
    tokenizer.no_truncation()
    end = load_decoder(pretrained).eos_ids[0]
    ids = torch.tensor([[end, *tokenizer.encode(TEXT, add_special_tokens=False).ids]])
    for stride in (48, 16):
        total, scored = 0.0, 0
        while scored < ids.shape[1] - 1:
            stop = min(scored + (stride if scored else 48), ids.shape[1] - 1)
            begin = max(0, stop - 48)
            with torch.no_grad():
                log_probs = model(ids[:, begin:stop]).logits[0].double().log_softmax(-1)
            total -= sum(log_probs[place - begin, ids[0, place + 1]].item() for place in range(scored, stop))
            scored = stop
        metrics = result(only_run(tmp_path))["metrics"]
        assert math.log(metrics[f"test/perplexity_per_token_stride_{stride}"]) == pytest.approx(
            total / scored, abs=1e-4
        )


def test_an_interrupted_evaluation_goes_on_and_ends_in_the_same_numbers(
    pretrained: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, stopped = tmp_path / "whole", tmp_path / "stopped"
    words = [*files(data), f"init_from={pretrained}", "task.strides=[48,12]", "hardware.micro_batch=4"]
    calls = 0
    losses = perplexity.window_losses

    def interrupted(*arguments: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == 3:
            os.kill(os.getpid(), signal.SIGTERM)
        return losses(*arguments)

    monkeypatch.setattr(perplexity, "window_losses", interrupted)
    assert run(stopped, *words) == 143
    assert run(stopped, *words) == 0
    resumed, calls = calls, 3
    assert run(whole, *words) == 0
    assert resumed == calls - 3  # no batch was scored twice
    assert result(only_run(stopped))["metrics"] == pytest.approx(result(only_run(whole))["metrics"], rel=1e-9)


@pytest.mark.parametrize(
    ("task", "measure"),
    [
        ("wikitext2", "perplexity_per_token"),
        ("wikitext103", "perplexity_per_word"),
        ("ptb", "perplexity_per_original_token"),
        ("one_billion_word", "perplexity_per_original_token"),
        ("enwik8", "bits_per_byte"),
        ("text8", "bits_per_character"),
    ],
)
def test_each_task_on_rows_of_its_schema(pretrained: Path, data: Path, tmp_path: Path, task: str, measure: str) -> None:
    words = [f"task=lm/{task}", "source=local", f"source.root={data}", f"init_from={pretrained}"]
    assert run(tmp_path, *words) == 0
    content = result(only_run(tmp_path))
    assert content["metrics"][f"test/{measure}_stride_48"] > 1
    assert content["data"]["test"]["tokens"] > 5


def test_last_words_by_a_plain_loop_over_all_tokens(pretrained: Path, data: Path, tmp_path: Path) -> None:
    words = ["task=lm/lambada", "source=local", f"source.root={data}", f"init_from={pretrained}"]
    assert run(tmp_path, *words) == 0
    content = result(only_run(tmp_path))
    generator = load_decoder(pretrained)
    stop_ids = [
        token for token in range(generator.tokenizer.vocab_size)
        if generator.tokenizer.decode([token]).strip().lower() in STOP_WORDS
    ]  # fmt: skip
    assert stop_ids
    of_word, of_token, filtered, right = [], [], [], []
    for story in ("The dog ran home.\n\nHe saw the cat", "It was a red mat", "She looked at the"):
        context, whole = generator.tokenizer.encode([story.rpartition(" ")[0], story])
        ids = torch.tensor([whole])
        with torch.no_grad():
            hidden = generator.model(ids, torch.ones_like(ids, dtype=torch.bool)).to_padded()
            logits = generator.model.logits(hidden)[0, len(context) - 1 : -1].double()
        targets = torch.tensor(whole[len(context) :])
        log_probs = logits.log_softmax(-1)[range(len(targets)), targets]
        of_word.append(float(log_probs.sum()))
        of_token.append(float(log_probs[-1]))
        is_stop = bool(targets[0] in torch.tensor(stop_ids))
        allowed = logits.index_fill(-1, torch.tensor(stop_ids), -math.inf)
        right.append(
            not is_stop and bool((allowed[0].argmax() == targets[0]) & (logits[1:].argmax(-1) == targets[1:]).all())
        )
        if not is_stop:
            filtered.append(float(allowed[0].log_softmax(-1)[targets[0]] + log_probs[1:].sum()))
    metrics = content["metrics"]
    assert len(filtered) == 2  # "the" is a stop word
    assert "1 of 3 words to predict are in it" in content["notes"]["test"]["stop words"]
    for name, values in (("", of_word), ("_last_token", of_token), ("_stop_word_filter", filtered)):
        assert math.log(metrics[f"test/perplexity{name}"]) == pytest.approx(-sum(values) / len(values), abs=1e-4)
    assert metrics["test/accuracy_stop_word_filter"] == pytest.approx(sum(right) / 3)
    assert {"test/accuracy", "test/accuracy_last_token", "test/accuracy_last_token_stop_word_filter"} <= set(metrics)


def test_a_cloze_is_filled_by_each_of_ten_words(pretrained: Path, data: Path, tmp_path: Path) -> None:
    for subset in ("cn", "ne"):
        words = [f"task=lm/cbt_{subset}", "source=local", f"source.root={data}", f"init_from={pretrained}"]
        assert run(tmp_path / subset, *words) == 0
        folder = only_run(tmp_path / subset)
        rows = [json.loads(line) for line in (folder / "predictions" / "val.jsonl").read_text().splitlines()]
        assert [len(row["log_probs"]) for row in rows] == [10, 10]
        assert rows[0]["label"] == "mat's red,\" he said."  # the whole rest of the sentence, de-tokenised
        accuracy = result(folder)["metrics"]["val/accuracy"]
        assert 0 <= accuracy <= 1
        (read,) = read_runs([str(tmp_path / subset)])  # the paper's set is the validation set
        assert read.metrics["accuracy"] == f"{100 * accuracy:.2f}"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["task.splits.test=validation"], "no file validation*.parquet"),
        (["task.rows.column=page"], "no column 'page' (task.rows.column); it has text"),
        (["task.strides=[]"], "task.strides=[]: name at least one stride"),
        (["task.strides=[0]"], "task.strides"),
        (
            ["task.strides=[64]", "task.data.clip_strides=false"],
            "task.strides=64: a stride is from 1 to the window of 48",
        ),
        (["task=lm/files"], "reads data of your own"),
        (["model=bert_l2_h128", "init_from=scratch"], "does not support task=lm/text8"),
    ],
)
def test_bad_settings_are_one_line(
    pretrained: Path, data: Path, tmp_path: Path, words: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    base = ["task=lm/text8", "source=local", f"source.root={data}", f"init_from={pretrained}"]
    if words == ["task=lm/files"]:
        base, message = ["init_from=scratch"], "add source=files 'source.files=[held_out.txt]'"
    assert run(tmp_path, *base, *words) == 2
    error = capsys.readouterr().err.strip()
    assert message in error
    assert error.splitlines()[-1].startswith("error: ")
