"""In-context tasks as runs: idempotent, continued where they were, the same numbers from any number of ranks."""

import json
import os
import signal
from pathlib import Path
from typing import Any

import pytest

from protoformer import cli
from protoformer.commands import train
from protoformer.incontext.prefix_scoring import PrefixScorer
from protoformer.text.tokenizers import whole_word_tokenizer

from .commands import result

TINY = ["model=gpt2_tiny", "source=sample", "source.rows=40", "hardware=cpu", "hardware.threads=1", "tracking=none"]


def run(folder: Path, *overrides: str) -> int:
    return train.main([*TINY, f"paths.outputs={folder / 'outputs'}", f"paths.cache={folder / 'cache'}", *overrides])


@pytest.fixture(scope="module")
def pretrained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pretrained")
    words = ["task=pretrain/clm", "task.max_len=48", "recipe.batch_size=4", "recipe.max_steps=4", "recipe.warmup=1"]
    assert run(folder, *words, "trainer.limit_val_batches=2") == 0
    (made,) = (folder / "outputs").rglob("result.json")
    return made.parent


def only_run(folder: Path) -> Path:
    (made,) = (folder / "outputs").rglob("config.yaml")
    return made.parent


def predictions(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "predictions" / "val.jsonl").read_text().splitlines()]


def assert_same(ours: list[dict[str, Any]], theirs: list[dict[str, Any]]) -> None:
    """The same answers to the same prompts, from log-probabilities that are equal to the rounding of sums."""
    for one, other in zip(ours, theirs, strict=True):
        assert one["log_probs"] == pytest.approx(other["log_probs"], abs=5e-5)
        assert {**one, "log_probs": None} == {**other, "log_probs": None}


COPA = ["task=incontext/copa", "task.shots=2", "task.draws=2"]


def test_a_task_leaves_an_ordinary_run_and_is_run_once(
    pretrained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(tmp_path, *COPA, f"init_from={pretrained}") == 0
    folder = only_run(tmp_path)
    metrics = result(folder)["metrics"]
    assert 0 <= metrics["val/accuracy"] <= 1
    assert metrics["val/accuracy_stderr"] > 0
    assert {"val/accuracy_per_token_spread", "val/accuracy_per_token", "val/accuracy_per_byte"} <= set(metrics)
    rows = predictions(folder)
    assert len(rows) == 80  # two draws
    assert {row["draw"] for row in rows} == {0, 1}
    accuracy = sum(row["prediction"] == row["label"] for row in rows) / len(rows)
    assert accuracy == pytest.approx(metrics["val/accuracy_per_token"])
    assert all(len(row["log_probs"]) == 2 and max(row["log_probs"]) < 0 for row in rows)
    assert not (folder / "evaluation").exists()
    assert (folder / "card.md").exists()
    capsys.readouterr()
    assert run(tmp_path, *COPA, f"init_from={pretrained}") == 0
    assert "already finished" in capsys.readouterr().err
    assert cli.main(["report", str(tmp_path / "outputs")]) in (0, None)
    assert "incontext/copa" in capsys.readouterr().out
    assert run(tmp_path / "other", *COPA, f"init_from={pretrained}", "task.shots_seed=1") == 0
    assert cli.main(["compare", str(folder), "--with", str(only_run(tmp_path / "other"))]) in (0, None)
    assert "accuracy_per_token" in capsys.readouterr().out


@pytest.mark.parametrize("task", ["incontext/copa", "lm/wikitext2"])
@pytest.mark.parametrize("tracker", ["auto", "tensorboard"])
def test_runs_that_train_nothing_end_under_every_tracker(
    pretrained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, task: str, tracker: str
) -> None:
    monkeypatch.setenv("WANDB_MODE", "offline")
    rows = [{"text": "The cat sat on the mat .\n"}, {"text": "It was a fine day .\n"}]
    file = tmp_path / "Salesforce" / "wikitext" / "wikitext-2-raw-v1" / "test.jsonl"
    file.parent.mkdir(parents=True)
    file.write_text("\n".join(map(json.dumps, rows)))
    source = [] if task.startswith("incontext/") else ["source=local", f"source.root={tmp_path}"]
    words = [word for word in TINY if word != "tracking=none" and not (source and word.startswith("source"))]
    places = [f"paths.outputs={tmp_path / 'outputs'}", f"paths.cache={tmp_path / 'cache'}"]
    assert train.main([*words, *source, f"tracking={tracker}", *places, f"init_from={pretrained}", f"task={task}"]) == 0
    folder = only_run(tmp_path)
    assert (folder / "card.md").exists()
    assert result(folder)["metrics"]
    assert list(folder.rglob("*.wandb" if tracker == "auto" else "events.out*"))


def test_an_interrupted_evaluation_goes_on_and_ends_in_the_same_numbers(
    pretrained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, stopped = tmp_path / "whole", tmp_path / "stopped"
    words = ["task=incontext/copa", "task.shots=2", "task.draws=4", f"init_from={pretrained}"]  # three batches
    assert run(whole, *words) == 0

    calls = 0
    score = PrefixScorer.score

    def interrupted(self: PrefixScorer, requests: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == 1:
            os.kill(os.getpid(), signal.SIGTERM)  # the batch is still finished and recorded
        return score(self, requests)

    monkeypatch.setattr(PrefixScorer, "score", interrupted)
    assert run(stopped, *words) == 143
    assert list((only_run(stopped) / "evaluation").iterdir())
    assert run(stopped, *words) == 0
    assert calls == 3  # the first batch is not scored again
    assert_same(predictions(only_run(stopped)), predictions(only_run(whole)))
    assert result(only_run(stopped))["metrics"] == result(only_run(whole))["metrics"]


def test_a_task_whose_choices_are_labels_is_run(pretrained: Path, tmp_path: Path) -> None:
    assert run(tmp_path, "task=incontext/glue/rte", "task.shots=1", f"init_from={pretrained}") == 0
    assert {row["label"] for row in predictions(only_run(tmp_path))} == {"True", "False"}


def test_random_weights_are_evaluated_where_they_are_asked_for(
    pretrained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tokenizer = pretrained / "tokenizer" / "tokenizer.json"
    assert run(tmp_path, *COPA, "init_from=scratch", f"model.tokenizer={tokenizer}") == 0
    assert "random weights" in capsys.readouterr().err
    assert 0 <= result(only_run(tmp_path))["metrics"]["val/accuracy"] <= 1


def test_batches_change_no_answer(pretrained: Path, tmp_path: Path) -> None:
    words = [*COPA, f"init_from={pretrained}"]
    assert run(tmp_path / "a", *words) == 0
    assert run(tmp_path / "b", *words, "task.module.tokens_per_pass=16") == 0
    assert_same(*(predictions(only_run(tmp_path / name)) for name in "ab"))


def test_another_vocabulary_than_that_of_the_weights_is_refused(
    pretrained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    whole_word_tokenizer(["a cat sat"], "here").save(tmp_path / "words")
    capsys.readouterr()
    for task in ("incontext/copa", "lm/lambada"):
        for name, problem in (
            (str(tmp_path / "words"), "have another id, or none, in the vocabulary that"),
            ("absent.json", "no such file or folder"),
        ):
            assert run(tmp_path, f"task={task}", f"init_from={pretrained}", f"model.tokenizer={name}") == 2
            (line,) = capsys.readouterr().err.splitlines()
            assert line.startswith(f"error: model.tokenizer={name}: ")
            assert problem in line


def test_a_model_without_next_tokens_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(tmp_path, "model=bert_l2_h128", "task=incontext/copa", "init_from=scratch") == 2
    error = capsys.readouterr().err.strip()
    assert error.count("\n") == 0
    assert error.startswith("error: ")


def test_a_recurrent_model_is_scored_by_the_decoder_that_it_was_pretrained_as(tmp_path: Path) -> None:
    words = ["model=rnn_tiny", "task=pretrain/clm", "task.max_len=48", "recipe.batch_size=4", "recipe.max_steps=2"]
    assert run(tmp_path / "pretrained", *words, "trainer.limit_val_batches=1") == 0
    weights = only_run(tmp_path / "pretrained")
    assert run(tmp_path / "task", "model=rnn_tiny", f"init_from={weights}", "task=incontext/copa", "task.shots=1") == 0
    assert len(predictions(only_run(tmp_path / "task"))) == 40
