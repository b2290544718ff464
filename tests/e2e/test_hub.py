"""The hub path, proven on a loopback server that serves tiny things under the real ids: the very command, cold and warm."""

import io
import json
import os
import re
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pyarrow.parquet
import pytest
import torch
import yaml
from safetensors.torch import save as to_safetensors

from protoformer.data.sample import generate
from protoformer.models.bert import bert
from protoformer.models.published import BertWeights
from protoformer.text.tokenizers import whole_words

from .hub_server import Hub, Repository

ROOT = Path(__file__).parents[2]
MODEL, DATA = "google-bert/bert-base-uncased", "nyu-mll/glue"
SPLITS = {"train": 96, "validation_matched": 16, "validation_mismatched": 16, "test_matched": 8, "test_mismatched": 8}
SIZES = {"d_model": 32, "n_layers": 2, "n_heads": 2, "d_ff": 64, "max_seq_len": 160, "n_segments": 2, "norm_eps": 1e-12}
CALLED = "Bearer hf_"
SECRETS = {"HF_TOKEN": "hf_" + "fakefakefake" * 3, "WANDB_API_KEY": "fade" * 10}
SECONDS = 60  # no command here may take longer


def pinned(file: str, *keys: str) -> str:
    """A value of a yaml in conf/."""
    node = yaml.safe_load((ROOT / "conf" / file).read_text())
    for key in keys:
        node = node[key]
    return str(node)


MODEL_COMMIT = pinned("model/bert.yaml", "model", "published", "revision")
DATA_COMMIT = pinned("task/_glue.yaml", "rows", "revision")


def weights(commit: str = MODEL_COMMIT) -> Repository:
    """A tiny random BERT with a vocab.txt, its tensors named as in the files of 2018."""
    tables = [generate(DATA, "mnli", split, 0, rows) for split, rows in SPLITS.items()]
    words = whole_words(
        (text for table in tables for name in ("premise", "hypothesis") for text in table.column(name).to_pylist()), ""
    )
    vocab = sorted(words.rust.get_vocab(), key=words.rust.get_vocab().get)
    sizes = {"vocab_size": len(vocab), **SIZES}
    layout = BertWeights()
    state = layout.write(bert(**sizes).state_dict(), {"cls.predictions.bias": torch.zeros(len(vocab))})
    old = {
        re.sub("LayerNorm.bias", "LayerNorm.beta", re.sub("LayerNorm.weight", "LayerNorm.gamma", name)): tensor
        for name, tensor in state.items()
    }
    config = {k: v for k, v in layout.config(sizes, None).items() if k not in ("id2label", "label2id", "problem_type")}
    return Repository(
        commit,
        {
            "config.json": json.dumps({**config, "architectures": ["BertForMaskedLM"]}).encode(),
            "model.safetensors": to_safetensors(old, {"format": "pt"}),
            "vocab.txt": "\n".join([*vocab, ""]).encode(),
            "tokenizer_config.json": json.dumps({"do_lower_case": True, "model_max_length": 512}).encode(),
        },
    )


def rows(commit: str = DATA_COMMIT) -> Repository:
    """MNLI as GLUE keeps it: a card that names each split's files, and parquet."""
    files = {}
    for split, number in SPLITS.items():
        buffer = io.BytesIO()
        pyarrow.parquet.write_table(generate(DATA, "mnli", split, 0, number), buffer)
        files[f"mnli/{split}-00000-of-00001.parquet"] = buffer.getvalue()
    splits = [{"split": split, "path": f"mnli/{split}-*"} for split in SPLITS]
    card = yaml.safe_dump({"configs": [{"config_name": "mnli", "data_files": splits}]})
    return Repository(commit, {"README.md": f"---\n{card}---\n# GLUE\n".encode(), **files})


class Machine:
    """A machine with empty caches: runs commands, with or without a hub."""

    def __init__(self, place: Path) -> None:
        self.place = place
        self.hub_home, self.outputs = place / "hf", place / "outputs"

    def run(self, *words: str, endpoint: str, offline: bool = False) -> subprocess.CompletedProcess[str]:
        clean = {k: v for k, v in os.environ.items() if not k.startswith(("HF_", "WANDB_", "PROTOFORMER_"))}
        paths = [f"paths.outputs={self.outputs}", f"paths.cache={self.place / 'cache'}"]
        environ = {**clean, **SECRETS, "HF_ENDPOINT": endpoint, "HF_HOME": str(self.hub_home)}
        environ |= {"HF_HUB_OFFLINE": "1"} if offline else {}
        if words[0] == "prepare":
            command = [sys.executable, "-m", "protoformer.cli", *words]
        else:
            command = [sys.executable, str(ROOT / "train.py"), *words]
        return subprocess.run(
            [*command, *paths, "hardware.threads=1"],
            cwd=self.place, env=environ, capture_output=True, text=True, timeout=SECONDS, stdin=subprocess.DEVNULL,
        )  # fmt: skip

    def result(self, attempt: int = 1) -> tuple[Path, dict[str, object]]:
        found = sorted((self.outputs / "bert" / "glue" / "mnli").glob("*/result.json"))
        path = found[attempt - 1]
        return path.parent, json.loads(path.read_text())


@pytest.fixture(scope="module")
def hub() -> Iterator[Hub]:
    with Hub({MODEL: weights()}, {DATA: rows()}) as server:
        yield server


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


def closed_port() -> str:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{probe.getsockname()[1]}"


def told(done: subprocess.CompletedProcess[str]) -> str:
    """The one line that a user error is."""
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr
    lines = [line for line in done.stderr.splitlines() if line.strip()]
    assert len(lines) == 1, done.stderr
    assert lines[0].startswith("error: ")
    return lines[0]


COMMAND = ("model=bert", "task=glue/mnli", "debug=fast")


def test_cold_then_warm(hub: Hub, machine: Machine) -> None:
    first = machine.run(*COMMAND, "tracking=none", endpoint=hub.endpoint)
    print(first.stdout, first.stderr, hub.asked, hub.unknown)
    assert first.returncode == 0, first.stderr
    folder, result = machine.result()
    assert result["init_from"] == f"{MODEL}@{MODEL_COMMIT}"
