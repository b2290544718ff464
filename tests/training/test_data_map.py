"""`views.data_map`: what is recorded of training examples, the same over stops, ranks and micro-batches; and that the training
does not notice it."""

import json
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import pytest

from protoformer.config.compose import compose
from protoformer.errors import ConfigurationError, InterruptedRunError
from protoformer.modules.task_module import TaskModule
from protoformer.runs.identity import run_id
from protoformer.runs.metrics import read_metrics
from protoformer.training.callbacks.data_map import RecordDataMap
from protoformer.training.callbacks.step_logger import StepLogger
from protoformer.training.run import train

from ..forked_ranks import forked_ranks

WORDS = [
    *("model=bert_l2_h128", "task=glue/mrpc", "source=sample", "source.rows=44", "init_from=scratch", "tracking=none"),
    *("model.d_model=16", "model.d_ff=32", "model.n_heads=2", "recipe.batch_size=8", "recipe.epochs=3", "recipe.lr=1e-2"),
    *("task.max_len=24", "trainer.limit_test_batches=1", "trainer.log_every=1", "hardware.threads=1", "hardware=cpu"),
]  # fmt: skip
NO_DROPOUT = ("model.dropout=0", "model.attention_dropout=0")
MAP = "views.data_map=true"


def run(outputs: Path, *overrides: str) -> Path:
    with forked_ranks():
        train(compose([*WORDS, f"paths.outputs={outputs}", f"paths.cache={outputs.parent / 'cache'}", *overrides]), "")
    return next(outputs.rglob("result.json")).parent


def rows(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "data_map.jsonl").read_text().splitlines()]


def losses(folder: Path) -> list[float]:
    return [line["train/loss"] for line in read_metrics(folder / "metrics.jsonl") if "train/loss" in line]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with dropout that was not stopped, and ends with an evaluation of its training rows."""
    outputs = tmp_path_factory.mktemp("whole") / "out"
    return run(outputs, MAP, "task.splits.validation=null", "task.splits.test=train", "trainer.limit_test_batches=null")


def test_the_probabilities_are_those_of_the_labels_after_each_epoch(whole: Path) -> None:
    mapped = rows(whole)
    last = [json.loads(line) for line in (whole / "predictions" / "test.jsonl").read_text().splitlines()]
    assert [row["id"] for row in mapped] == [row["id"] for row in last]
    assert len(mapped) > 40
    for row, evaluated in zip(mapped, last, strict=True):
        assert len(row["probabilities"]) == len(row["predictions"]) == 3
        assert row["label"] == evaluated["label"]
        assert row["predictions"][-1] == evaluated["prediction"]
        assert row["probabilities"][-1] == pytest.approx(evaluated["probabilities"][row["label"]], abs=2e-5)
    assert len({tuple(row["probabilities"]) for row in mapped}) > 20
    assert sum("texts" in row for row in mapped) == min(
        20, sum(set(row["predictions"]) != {row["label"]} for row in mapped)
    )
    assert "## Data map" in (whole / "card.md").read_text()
    assert (whole / "data_map.svg").exists()


def test_the_training_does_not_notice(whole: Path, tmp_path: Path) -> None:
    splits = ("task.splits.validation=null", "task.splits.test=train", "trainer.limit_test_batches=null")
    plain = run(tmp_path / "out", *splits)
    assert losses(plain) == losses(whole)
    assert not (plain / "data_map.jsonl").exists()
    assert plain.name == whole.name
    assert run_id(compose([*WORDS, MAP])) == run_id(compose(WORDS))


def test_a_run_that_was_stopped_within_an_epoch_records_the_same(
    whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(self: StepLogger, trainer: pl.Trainer, module: Any, *rest: Any) -> None:
        module.stop.signal_number = int(trainer.global_step == 7)

    words = [MAP, "task.splits.validation=null", "task.splits.test=train", "trainer.limit_test_batches=null"]
    with monkeypatch.context() as patched:
        patched.setattr(StepLogger, "on_train_batch_start", stop)
        with pytest.raises(InterruptedRunError):
            run(tmp_path / "out", *words)
    assert not list(tmp_path.rglob("data_map.jsonl"))
    again = run(tmp_path / "out", *words)
    assert (again / "data_map.jsonl").read_text() == (whole / "data_map.jsonl").read_text()


@pytest.mark.parametrize("epochs_before", [1, 2])  # the third is the last
def test_a_stop_while_it_is_recorded_is_granted_at_this_step_or_at_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, epochs_before: int
) -> None:
    record = RecordDataMap._evaluate

    def interrupted(self: RecordDataMap, trainer: pl.Trainer, module: TaskModule, **rest: Any) -> Any:
        if len(self.steps) == epochs_before:
            module.stop.signal_number = 15
        return record(self, trainer, module, **rest)

    one = run(tmp_path / "one" / "out", MAP)
    with monkeypatch.context() as patched:
        patched.setattr(RecordDataMap, "_evaluate", interrupted)
        with pytest.raises(InterruptedRunError):
            run(tmp_path / "other" / "out", MAP)
    other = run(tmp_path / "other" / "out", MAP)
    assert (other / "data_map.jsonl").read_text() == (one / "data_map.jsonl").read_text()


@pytest.mark.parametrize("hardware", [["hardware.micro_batch=3"], ["hardware=ddp_cpu"]])
def test_ranks_and_micro_batches_record_the_same(tmp_path: Path, hardware: list[str]) -> None:
    one, other = (
        rows(run(tmp_path / name / "out", MAP, *NO_DROPOUT, *words))
        for name, words in (("one", []), ("other", hardware))
    )
    assert [row["id"] for row in one] == [row["id"] for row in other]
    for row, same in zip(one, other, strict=True):
        assert row["probabilities"] == pytest.approx(same["probabilities"], abs=2e-3)


def test_a_run_that_stops_early_within_an_epoch_has_a_map(tmp_path: Path) -> None:
    stopping = ("recipe.early_stopping={patience:1,min_delta:100}", "trainer.val_check_interval=2")
    folder = run(tmp_path / "out", MAP, *stopping)
    result = json.loads((folder / "result.json").read_text())
    assert (result["training"]["steps"], result["training"]["ended_by"]) == (4, "early_stopping")
    assert {len(row["probabilities"]) for row in rows(folder)} == {1}
    assert "After one epoch alone" in (folder / "card.md").read_text()


def test_epochs_that_were_trained_without_it_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(self: StepLogger, trainer: pl.Trainer, module: Any, *rest: Any) -> None:
        module.stop.signal_number = int(trainer.global_step == 13)

    with monkeypatch.context() as patched:
        patched.setattr(StepLogger, "on_train_batch_start", stop)
        with pytest.raises(InterruptedRunError):
            run(tmp_path / "out")
    folder = run(tmp_path / "out", MAP)
    assert {len(row["probabilities"]) for row in rows(folder)} == {1}
    assert "2 epochs of this run were trained without it" in (folder / "protoformer.log").read_text()


def test_candidates_of_a_file_are_named_by_its_lines(tmp_path: Path) -> None:
    table = tmp_path / "pairs.csv"
    table.write_text("text,label\n" + "".join(f"word {i},{'ab'[i % 2]}\n" for i in range(24)))
    vocabulary = tmp_path / "vocab.txt"
    vocabulary.write_text("\n".join(("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "word")) + "\n")
    own = ["task=classify", "source=local", "~source.rows", f"source.root={table}", "task.rows.text=text"]
    folder = run(tmp_path / "out", MAP, *own, f"model.tokenizer={vocabulary}", "recipe.epochs=1")
    named = [row for row in rows(folder) if "location" in row]
    assert named
    lines = table.read_text().splitlines()
    for row in named:
        number = int(row["location"].removeprefix(f"{table}, line "))
        assert lines[number - 1] == f"{row['texts']['text']},{row['label']}"  # rows that are held out are not counted


def test_a_task_without_labels_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"views\.data_map=true: .* classification with labels"):
        run(tmp_path / "out", "task=glue/stsb", MAP)
