"""Every kind of task to its end under the tracker that nobody chose; what goes wrong after the result costs no run."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from protoformer import cli
from protoformer.commands import train
from protoformer.reporting import card, results
from protoformer.training.results import attention_page
from protoformer.training.trackers import tracking

from .commands import result

TINY = [
    "model.d_model=16",
    "model.d_ff=32",
    "source=sample",
    "source.rows=48",
    "init_from=scratch",
    "recipe.max_steps=3",
    "trainer.limit_val_batches=2",
    "trainer.limit_test_batches=2",
    "hardware=cpu",
    "hardware.threads=1",
]
ENCODER = ["model=bert_l2_h128", "recipe.batch_size=8"]
PRETRAINING = [*ENCODER, "source.rows=200", "recipe.warmup=1", "task.max_len=48"]
KINDS = {
    "classification": [*ENCODER, "task=glue/mrpc"],
    "regression": [*ENCODER, "task=glue/stsb"],
    "multiple_choice": [*ENCODER, "task=swag"],
    "span": [*ENCODER, "task=squad/v2"],
    "mlm_nsp": [*PRETRAINING, "task=pretrain/mlm_nsp"],
    "ltr": [*PRETRAINING, "task=pretrain/ltr", "model.attention=causal", "+model.template.pooled_token=last"],
    "clm": ["model=gpt2_tiny", "task=pretrain/clm", "task.max_len=48", "recipe.batch_size=4", "recipe.warmup=1"],
    "translation": [
        *("model=transformer_tiny", "task=translate/multi30k_en_de", "recipe.batch_size=120", "recipe.warmup=1"),
        *("recipe.average=1", "task.module.max_extra_tokens=2", "task.module.beams=2"),
    ],
}
QUERIES = {  # what `predict` is asked
    "classification": ["--text", "a cat sat", "--pair", "a cat stood"],
    "regression": ["--text", "a cat sat", "--pair", "a cat stood"],
    "multiple_choice": ["--text", "a cat sat", "--choice", "down", "--choice", "up"],
    "span": ["--text", "who sat?", "--pair", "a cat sat"],
    "mlm_nsp": ["--text", "a [MASK] sat"],
}
REFUSED = {  # the verbs that a kind has no use for, and what is said
    ("clm", "predict"): "protoformer generate RUN",
    ("ltr", "export"): "model.attention=causal has no counterpart in transformers",
    ("translation", "export"): "Marian's sinusoids are in halves",
    ("translation", "predict"): "protoformer translate RUN",
}
CALIBRATED = ("classification", "multiple_choice", "span")
COMPARED = {  # what `compare` says of two runs by their examples
    "regression": ("pearson", "spearman"), "translation": ("bleu", "chrf", "perplexity"),
    "mlm_nsp": ("mlm_perplexity", "mlm_accuracy"), "clm": ("perplexity",), "span": ("exact_match", "passages"),
}  # fmt: skip
LISTED = ("classification", "regression", "multiple_choice", "span")


def run(folder: Path, *overrides: str) -> Path:
    places = [f"paths.outputs={folder / 'outputs'}", f"paths.cache={folder / 'cache'}"]
    assert train.main([*TINY, *overrides, *places]) == 0
    (made,) = (folder / "outputs").rglob("result.json")
    return made.parent


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The folder in which a run of a kind was made, under the tracker that nobody chose; each is trained once."""
    folders: dict[str, Path] = {}

    def of(kind: str) -> Path:
        if kind not in folders:
            folders[kind] = tmp_path_factory.mktemp(kind)
            run(folders[kind], *KINDS[kind])
        return folders[kind]

    return of


def run_in(folder: Path) -> Path:
    (made,) = (folder / "outputs").rglob("result.json")
    return made.parent


@pytest.mark.usefixtures("whole_runs")
@pytest.mark.parametrize("kind", KINDS)
def test_a_run_ends_whole(kind: str, trained: Callable[[str], Path], capsys: pytest.CaptureFixture[str]) -> None:
    folder = run_in(trained(kind))
    assert result(folder)["training"]["steps"] == 3
    for name in ("card.md", "tokenizer", "wandb", "curves.svg"):
        assert (folder / name).exists(), name
    assert (folder / "reliability.svg").exists() == bool(result(folder)["calibration"]) == (kind in CALIBRATED)
    assert "skipped" not in (folder / "protoformer.log").read_text()
    files = folder.glob("wandb/offline-run-*/files/media/table/mistakes_*.json")
    tables = [json.loads(file.read_text()) for file in files]
    assert len(tables) == (kind in LISTED)
    assert all(listed["data"] for listed in tables)


@pytest.mark.parametrize("tracker", ["none", "tensorboard", "wandb_offline"])
@pytest.mark.parametrize("kind", KINDS)
def test_a_run_ends_under_every_tracker(
    kind: str, tracker: str, trained: Callable[[str], Path], tmp_path: Path
) -> None:
    """The run without its result, which the same command under another tracker brings to its end."""
    shutil.copytree(trained(kind), tmp_path, dirs_exist_ok=True, ignore=shutil.ignore_patterns("wandb"))
    folder = run_in(tmp_path)
    expected = result(folder)
    for name in ("result.json", "card.md"):
        (folder / name).unlink()
    assert run(tmp_path, *KINDS[kind], f"tracking={tracker}") == folder
    assert result(folder)["metrics"] == expected["metrics"]
    assert (folder / "card.md").exists()
    assert "skipped" not in (folder / "protoformer.log").read_text()
    assert (folder / "wandb").exists() == (tracker == "wandb_offline")
    assert (folder / "tensorboard").exists() == (tracker == "tensorboard")


@pytest.mark.parametrize("kind", KINDS)
def test_every_verb_works_or_says_why_not(
    kind: str, trained: Callable[[str], Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = run_in(trained(kind))
    twin = tmp_path / folder.name
    shutil.copytree(folder, twin, ignore=shutil.ignore_patterns("wandb"))
    verbs = {
        "report": [str(folder.parent)],
        "compare": [str(folder), "--with", str(twin)],
        "predict": [str(folder), *QUERIES.get(kind, ["--text", "a cat sat"])],
        "export": [str(folder), str(tmp_path / "exported")],
        "attention": [str(folder), "--text", "a cat sat", "--out", str(tmp_path / "page.html")],
    }
    for verb, words in verbs.items():
        capsys.readouterr()
        code = cli.main([verb, *words])
        printed = capsys.readouterr()
        errors = printed.err.splitlines()
        assert verb != "compare" or all(word in printed.out for word in COMPARED.get(kind, ()))
        assert code == (2 if (kind, verb) in REFUSED else 0), (verb, errors)
        if code:
            (error,) = [line for line in errors if line.startswith("error: ")]
            assert REFUSED[kind, verb] in error
        assert not any("Traceback" in line for line in errors)


def test_what_goes_wrong_after_the_result_costs_a_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(*arguments: Any, **named: Any) -> None:
        raise ValueError("no room\nleft")

    ended: list[int] = []

    class Broken:
        """A W&B run that takes what is logged in training, and nothing of what follows."""

        def __init__(self, whole: Any) -> None:
            self.whole = whole

        @property
        def summary(self) -> Any:
            raise ConnectionError

        def finish(self, exit_code: int) -> None:
            self.whole.finish(exit_code=exit_code)
            ended.append(exit_code)
            broken()

        def log(self, *arguments: Any, **named: Any) -> None:
            broken() if "mistakes" in arguments[0] else self.whole.log(*arguments, **named)

    finish = tracking.finish

    def finished(logger: Any, *arguments: Any) -> None:
        logger._experiment = Broken(logger.experiment)
        finish(logger, *arguments)

    monkeypatch.setattr(tracking, "finish", finished)
    monkeypatch.setattr(card, "write_card", broken)
    monkeypatch.setattr(attention_page, "write_attention_page", broken)
    monkeypatch.setattr(results, "print_results", broken)
    folder = run(tmp_path, *KINDS["classification"], "views.attention=true")
    assert ended == [0]
    printed = [line for line in capsys.readouterr().err.splitlines() if "skipped" in line]
    assert printed == [
        "card.md: skipped (ValueError: no room left)",
        "views.attention: skipped (ValueError: no room left)",
        "the tracker's summary: skipped (ConnectionError)",
        "the tracker's table of misclassified examples: skipped (ValueError: no room left)",
        "the end of the tracked run: skipped (ValueError: no room left)",
        "the table of results: skipped (ValueError: no room left)",
    ]
    monkeypatch.undo()
    assert run(tmp_path, *KINDS["classification"], "views.attention=true") == folder  # finished: only its card is made
    assert (folder / "card.md").exists()
