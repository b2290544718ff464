"""Misspellings as a user makes them: one line with the nearest name and the choices, exit code 2."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from protoformer.commands import train

ROOT = Path(__file__).parents[2]
SECONDS = 4.0  # two are promised; the machine that runs the tests has other work
PAIR = "model=bert task=glue/mnli"
CASES = [
    # words, the nearest name, some of the choices
    ("model=brt task=glue/mnli", "did you mean model=bert?", ["bert_large", "bert_l12_h768"]),
    ("model=bert task=glue/mnlii", "did you mean task=glue/mnli?", ["glue/mnli", "glue/stsb"]),
    ("modle=bert task=glue/mnli", "did you mean model?", ["task", "hardware", "recipe"]),
    (f"{PAIR} hardwrae=ddp", "did you mean hardware?", ["model", "source"]),
    (f"{PAIR} hardware=dpd", "did you mean hardware=ddp?", ["ddp_cpu", "gpu_bf16", "auto"]),
    (f"{PAIR} source=smaple", "did you mean source=sample?", ["hub", "local"]),
    (f"{PAIR} tracking=wandb_ofline", "did you mean tracking=wandb_offline?", ["tensorboard"]),
    ("experiment=dmeo", "did you mean experiment=demo?", ["none"]),
    (f"{PAIR} trainer.max_epoch=3", "did you mean trainer.max_epochs?", ["max_steps", "limit_val_batches"]),
    (f"{PAIR} +trainer.max_epoch=3", "did you mean trainer.max_epochs?", ["max_steps", "limit_val_batches"]),
    (f"{PAIR} ++trainer.max_epoch=3", "did you mean trainer.max_epochs?", ["max_steps", "limit_val_batches"]),
    (f"{PAIR} ~trainer.max_epoch", "did you mean trainer.max_epochs?", ["max_steps", "limit_val_batches"]),
    (f"{PAIR} recipe.lrr=1", "did you mean recipe.lr?", ["batch_size", "warmup"]),
    (f"{PAIR} hardwrae.devices=2", "did you mean hardware?", ["model", "source"]),
    (f"{PAIR} sede=1", "did you mean seed?", ["init_from", "recipe"]),
    (f"{PAIR} model.droput=0", "did you mean model.dropout?", ["n_layers", "norm_eps"]),
    (f"{PAIR} task.data.on_bad_rwo=skip", "did you mean task.data.on_bad_row?", []),
    (f"{PAIR} model.norm=pree", "did you mean pre?", ["post"]),
    (f"{PAIR} recipe.schedule=liner", "did you mean linear?", ["constant", "cosine"]),
    (f"{PAIR} hardware.precision=bf61", "did you mean bf16?", ["fp32", "tf32"]),
    (f"{PAIR} task.rows.labels={{0:a,1:b}}", "does not fit; expected a list, as in task.rows.labels=[a,b]", []),
    (f"{PAIR} task.splits=[a,b]", "does not fit; expected a mapping, as in task.splits={a:1}", []),
    (f"{PAIR} source=sample source.rows=0", "source.rows=0 is out of range; expected a value at least 1", []),
    (
        f"{PAIR} trainer.max_steps=0",
        "trainer.max_steps=0 is out of range; expected a value at least 1, or -1 for no limit",
        [],
    ),
    (f"{PAIR} trainer.max_epochs=-3", "trainer.max_epochs=-3 is out of range; expected a value at least 1, or -1", []),
    (f"{PAIR} recipe.epochs=0", "recipe.epochs=0 is out of range; expected a value at least 1", []),
    (f"{PAIR} recipe.lr=abc", "recipe.lr=abc does not fit; expected a number", []),
    (f"{PAIR} recipe.lr=", "recipe.lr='' does not fit; expected a number", []),
    (f"{PAIR} recipe.lr=[1", "cannot be read as key=value", []),
    (f"{PAIR} hardware=cpu hardware.precision=fp16", "choose hardware.precision=bf16", []),
    ("model= task=glue/mnli", "model= is empty", ["bert_large"]),
    ("task=glue/mnli", "no model is chosen", ["model=<one of: bert,", "bert_large"]),
    ("model=bert", "no task is chosen", ["glue/rte"]),
    ("-m model=bert,brt task=glue/mnli", "did you mean model=bert?", ["bert_large"]),
    (f"{PAIR} --multirn", "did you mean --multirun?", ["--config-dir"]),
    ("model=bert task=pretrain/clm", "model=bert does not support task=pretrain/clm", ["gpt2_xl", "rnn"]),
    ("model=bert task=classify", "task.rows.text is not set; add task.rows.text=", []),
    ("", "no model and no task", ["model=bert task=glue/mnli"]),
]


@pytest.mark.parametrize(("words", "nearest", "choices"), CASES, ids=[case[0] or "nothing" for case in CASES])
def test_a_misspelling_is_one_readable_line(
    words: str,
    nearest: str,
    choices: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert train.main(words.split()) == 2
    printed = capfd.readouterr()
    assert printed.out == ""
    is_the_error(printed.err, nearest, choices)
    assert os.listdir(tmp_path) == []


def is_the_error(printed: str, nearest: str, choices: list[str]) -> None:
    (line,) = printed.splitlines()
    assert line.startswith("error: ")
    for said in (nearest, *choices):
        assert said in line


@pytest.mark.parametrize("number", [0, 2, 12, 33, -1])  # an option, a group, a key, of a sweep, nothing
def test_it_is_said_at_once_by_a_process_of_its_own(number: int, tmp_path: Path) -> None:
    words, nearest, choices = CASES[number]
    began = time.perf_counter()
    done = subprocess.run(
        [sys.executable, str(ROOT / "train.py"), *words.split()],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
    )
    seconds = time.perf_counter() - began
    assert done.returncode == 2, done.stderr
    assert done.stdout == ""
    is_the_error(done.stderr, nearest, choices)
    assert seconds < SECONDS
    assert os.listdir(tmp_path) == []


def test_nothing_heavy_is_imported_on_the_way_to_an_error_or_to_help(tmp_path: Path) -> None:
    code = """
import sys
from protoformer.commands.train import main
codes = main(["model=bert", "task=glue/mnli", "recipe.lrr=1"]), main(["--help"])
heavy = {"torch", "lightning", "numpy", "datasets", "wandb", "transformers", "matplotlib"} & set(sys.modules)
sys.exit(f"{codes} {heavy}" if heavy or codes != (2, 0) else 0)
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr


def test_the_console_command_says_it_in_the_same_way(tmp_path: Path) -> None:
    code = "import sys; from protoformer.cli import main; sys.exit(main())"
    for words, said in (
        ("lsit", "lsit: no such command; did you mean list? Choose from: list,"),
        ("train model=brt task=glue/mnli", "did you mean model=bert?"),
        ("plan", "the following arguments are required: KEY=VALUE"),
        ("list modles", "did you mean models?"),
        ("export x --too hf y", "did you mean --to?"),
        ("compare a --with b --draws 5", "--draws has a new name; did you mean --resamples?"),
    ):
        done = subprocess.run(
            [sys.executable, "-c", code, *words.split()], cwd=tmp_path, capture_output=True, text=True, timeout=60
        )
        assert done.returncode == 2, done.stderr
        (line,) = done.stderr.splitlines()
        assert line.startswith("error: ")
        assert said in line
