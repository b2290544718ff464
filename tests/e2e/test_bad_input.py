"""What is wrong with the input is said in one line, with exit code 2, and nothing that was there is lost."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet
import pytest
import torch

from protoformer.commands import train
from protoformer.models.bert import bert
from protoformer.models.hf.bert import BertWeights
from protoformer.sample import GLUE, corpus, generate
from protoformer.text.tokenizers import whole_word_tokenizer

Row = dict[str, Any]


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny Hugging Face folder."""
    import json

    from safetensors.torch import save_file

    folder = tmp_path_factory.mktemp("weights")
    words = whole_word_tokenizer(corpus(), "here")
    sizes = {"vocab_size": words.vocab_size, "d_model": 16, "n_layers": 1, "n_heads": 2, "d_ff": 32, "max_seq_len": 64}
    layout = BertWeights()
    save_file(
        layout.to_hf("classification", bert(**sizes).state_dict(), {}), folder / "model.safetensors", {"format": "pt"}
    )
    described = layout.hf_config("classification", {**sizes, "n_segments": 2, "norm_eps": 1e-12}, None)
    (folder / "config.json").write_text(json.dumps(described))
    words.save(folder)
    return folder


def rte(root: Path, change: Callable[[list[Row]], object] = lambda rows: None) -> Path:
    """The sample's RTE as local files, the training split changed."""
    for split in ("train", "validation", "test"):
        rows = generate(GLUE, "rte", split, 0, 12).to_pylist()
        if split == "train":
            change(rows)
        file = root / GLUE / "rte" / f"{split}-00000-of-00001.parquet"
        file.parent.mkdir(parents=True, exist_ok=True)
        table = pa.Table.from_pylist(rows) if rows else generate(GLUE, "rte", split, 0, 1).slice(0, 0)
        pyarrow.parquet.write_table(table, file)
    return root


class Command:
    """train.py in this process, in a folder of its own."""

    def __init__(self, folder: Path, weights: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.folder, self.weights, self.capsys = folder, weights, capsys

    def words(self, *more: str) -> list[str]:
        return [
            "model=bert",
            "task=glue/rte",
            "source=local",
            f"source.root={self.folder / 'data'}",
            f"init_from={self.weights}",
            "tracking=none",
            "recipe.epochs=1",
            "hardware.threads=1",
            f"paths.outputs={self.folder / 'outputs'}",
            f"paths.cache={self.folder / 'cache'}",
            *more,
        ]

    def __call__(self, *more: str) -> tuple[int, list[str]]:
        code = train.main(self.words(*more))
        output = [line for line in self.capsys.readouterr().err.splitlines() if line.strip()]
        return code, output


@pytest.fixture
def command(tmp_path: Path, weights: Path, capsys: pytest.CaptureFixture[str]) -> Command:
    return Command(tmp_path, weights, capsys)


def one_line(result: tuple[int, list[str]]) -> str:
    code, output = result
    errors = [line for line in output if line.startswith("error: ")]
    assert code == 2, output
    assert len(errors) == 1, output
    assert not any("Traceback" in line for line in output)
    return errors[0]


ROWS: dict[str, tuple[Callable[[list[Row]], object], list[str]]] = {
    "a missing column": (
        lambda rows: [row.pop("sentence2") for row in rows],
        ["sentence2", "train-00000-of-00001.parquet"],
    ),
    "an empty text": (
        lambda rows: rows[3].update(sentence1="  "),
        ["row 4", "sentence1", "train-00000-of-00001.parquet"],
    ),
    "a null": (lambda rows: rows[5].update(sentence2=None), ["row 6", "sentence2", "train-00000-of-00001.parquet"]),
    "a null label": (lambda rows: rows[5].update(label=None), ["row 6", "label", "train-00000-of-00001.parquet"]),
    "a label out of range": (
        lambda rows: rows[7].update(label=2),
        ["row 8", "label", "2", "train-00000-of-00001.parquet"],
    ),
    "a hidden label in train": (lambda rows: rows[1].update(label=-1), ["row 2", "label", "-1"]),
    "no rows": (lambda rows: rows.clear(), ["train-00000-of-00001.parquet", "zero rows"]),
}


@pytest.mark.parametrize("name", ROWS)
def test_rows_that_cannot_be_used_are_named(command: Command, name: str) -> None:
    change, named = ROWS[name]
    rte(command.folder / "data", change)
    output = one_line(command())
    for words in named:
        assert words in output, output


def test_a_long_text_is_cut_and_counted(command: Command) -> None:
    rte(command.folder / "data", lambda rows: rows[0].update(sentence1="the doctor " * 100))
    code, output = command()
    assert code == 0, output
    assert any("1 of 12 examples truncated to 64 tokens" in line for line in output), output


def test_weights_that_are_damaged_or_missing(command: Command, weights: Path, tmp_path: Path) -> None:
    rte(command.folder / "data")
    for name, content in (("truncated", lambda data: data[: len(data) // 2]), ("corrupt", lambda data: b"\xff" * 64)):
        folder = tmp_path / name
        shutil.copytree(weights, folder)
        file = folder / "model.safetensors"
        file.write_bytes(content(file.read_bytes()))
        assert "model.safetensors" in one_line(command(f"init_from={folder}"))
    assert "no such folder" in one_line(command(f"init_from={tmp_path / 'nowhere'}"))


def test_a_model_that_the_hub_cannot_give(command: Command) -> None:
    rte(command.folder / "data")  # the tests run with HF_HUB_OFFLINE=1
    output = one_line(command("init_from=nobody/no-such-model"))
    assert "nobody/no-such-model" in output
    assert "init_from" in output


def test_sizes_that_clash_with_the_weights(command: Command) -> None:
    rte(command.folder / "data")
    assert "model.d_model=32 is set, but" in one_line(command("model.d_model=32"))


def test_what_the_hardware_cannot_do(command: Command) -> None:
    rte(command.folder / "data")
    assert "choose hardware.precision=bf16" in one_line(command("hardware.precision=fp16", "hardware=cpu"))
    if not torch.cuda.is_available():
        assert "torch finds no GPU" in one_line(command("hardware=gpu"))


def test_a_task_without_training_names_what_it_needs(command: Command) -> None:
    code = train.main(
        ["model=bert", "task=glue/ax", "source=sample", "tracking=none", f"paths.outputs={command.folder}"]
    )
    output = command.capsys.readouterr().err
    assert code == 2
    assert "init_from=" in output
    assert len(output.splitlines()) == 1


def test_a_local_copy_without_its_test_split_is_trained_on(command: Command) -> None:
    root = rte(command.folder / "data")
    (root / GLUE / "rte" / "test-00000-of-00001.parquet").unlink()
    code, output = command()
    assert code == 0, output
    assert any("no file test*.parquet" in line and "no predictions" in line for line in output), output
    (run,) = (path.parent for path in (command.folder / "outputs").rglob("result.json"))
    assert {file.name for file in (run / "predictions").iterdir()} == {"val.jsonl"}
    (root / GLUE / "rte" / "validation-00000-of-00001.parquet").unlink()
    assert "no file validation*.parquet" in one_line(command())


def test_a_tokenizer_file_that_is_not_there(command: Command) -> None:
    rte(command.folder / "data")
    output = one_line(command("model.tokenizer=./nowhere/words.json"))
    assert output == "error: model.tokenizer=./nowhere/words.json: no such file or folder"


@pytest.mark.parametrize("there", [False, True])
def test_a_first_command_that_is_refused_leaves_no_folder(tmp_path: Path, there: bool) -> None:
    outputs = tmp_path / "outputs"
    if there:
        outputs.mkdir()
    words = [
        "model=bert_l2_h128",
        "task=glue/rte",
        "init_from=scratch",
        "source=local",
        f"source.root={tmp_path / 'no'}",
    ]
    assert train.main([*words, "hardware=cpu", "tracking=none", f"paths.outputs={outputs}"]) == 2
    assert outputs.exists() == there  # a folder that was there stays
    assert not outputs.exists() or not list(outputs.iterdir())


def test_weights_that_nothing_names_are_asked_for_before_a_run_is_announced(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for task in ("incontext/copa", "lm/wikitext2"):
        assert train.main(["model=gpt2_tiny", f"task={task}", f"paths.outputs={tmp_path / 'outputs'}"]) == 2
        printed = capsys.readouterr()
        assert "scratch" not in printed.out + printed.err
        assert printed.err.count("\n") == 1
        assert (
            f"task={task} has no training split and gpt2_tiny no published weights: name some by init_from="
            in printed.err
        )
    assert not list(tmp_path.iterdir())
