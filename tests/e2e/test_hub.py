"""The hub path, proven on a loopback server that serves tiny things under the real ids: the very command, cold and warm.

Its `main` has moved on to what no run could use, so that every run that works has asked for the pinned commits.
"""

import io
import json
import os
import re
import shlex
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

from protoformer.models.bert import bert
from protoformer.models.hf.bert import BertWeights
from protoformer.sample import generate
from protoformer.text.tokenizers import whole_word_tokenizer

from .. import preloaded
from .hub_server import Hub, Repository

ROOT = Path(__file__).parents[2]
MODEL, DATA = "google-bert/bert-base-uncased", "nyu-mll/glue"
SPLITS = {"train": 96, "validation_matched": 16, "validation_mismatched": 16, "test_matched": 8, "test_mismatched": 8}
SIZES = {"d_model": 32, "n_layers": 2, "n_heads": 2, "d_ff": 64, "max_seq_len": 160, "n_segments": 2, "norm_eps": 1e-12}
COMMAND = ("model=bert", "task=glue/mnli", "debug=fast")
SECRETS = {"HF_TOKEN": "hf_" + "fakefakefake" * 3, "WANDB_API_KEY": "fade" * 10}
CALLED = f"Bearer {SECRETS['HF_TOKEN']}"
PREDICTED = {"val_matched.jsonl": 16, "val_mismatched.jsonl": 16, "test_matched.jsonl": 8, "test_mismatched.jsonl": 8}
SECONDS = 60  # no command here may take longer


def pinned(file: str, *keys: str) -> str:
    """A value of a yaml in conf/."""
    node = yaml.safe_load((ROOT / "conf" / file).read_text())
    for key in keys:
        node = node[key]
    return str(node)


MODEL_COMMIT = pinned("model/bert.yaml", "model", "hf", "revision")
DATA_COMMIT = pinned("task/_glue.yaml", "rows", "revision")
NEWER, NOWHERE = "a" * 40, "b" * 40


def weights(commit: str = MODEL_COMMIT) -> Repository:
    """A tiny random BERT with a vocab.txt, its tensors named as in the files of 2018."""
    tables = [generate(DATA, "mnli", split, 0, rows) for split, rows in SPLITS.items()]
    overrides = whole_word_tokenizer(
        (text for table in tables for name in ("premise", "hypothesis") for text in table.column(name).to_pylist()), ""
    )
    vocab = sorted(overrides.hf_tokenizer.get_vocab(), key=overrides.hf_tokenizer.get_vocab().get)
    sizes = {"vocab_size": len(vocab), **SIZES}
    layout = BertWeights()
    state = layout.to_hf("pretraining", bert(**sizes).state_dict(), {"masked.bias": torch.zeros(len(vocab))})
    old = {
        re.sub("LayerNorm.bias", "LayerNorm.beta", re.sub("LayerNorm.weight", "LayerNorm.gamma", name)): tensor
        for name, tensor in state.items()
    }
    config = layout.hf_config("pretraining", sizes)
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
    """A machine with empty caches: runs commands, with or without a hub, and keeps all that they say."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.outputs, self.cache = folder / "outputs", folder / "cache"
        self.said: list[str] = []

    def run(self, *overrides: str, endpoint: str, offline: bool = False) -> subprocess.CompletedProcess[str]:
        ours = ("HF_", "WANDB_", "PROTOFORMER_", "XDG_")
        clean = {k: v for k, v in os.environ.items() if not k.startswith(ours) and not k.lower().endswith("_proxy")}
        environ = {**clean, **SECRETS, "OMP_NUM_THREADS": "1", "HOME": str(self.folder), "HF_ENDPOINT": endpoint}
        environ |= {"HF_HOME": str(self.folder / "hf"), **({"HF_HUB_OFFLINE": "1"} if offline else {})}
        program = Path(sys.executable).with_name("protoformer")
        start = [str(program)] if overrides[0] == "prepare" else [str(ROOT / "train.py")]
        own = [f"paths.outputs={self.outputs}", f"paths.cache={self.cache}", "hardware.threads=1"]
        words = [*start, *overrides, *(word for word in own if word not in overrides)]
        # a process with torch and Lightning imported, in which nothing has read these variables yet
        process = preloaded.start(words, self.folder, environ)
        completed = subprocess.CompletedProcess(words, process.wait(SECONDS), *process.communicate())
        self.said.append(completed.stdout + completed.stderr)
        return completed

    def runs(self) -> list[Path]:
        """Folders of finished runs, oldest first."""
        actual = (self.outputs / "bert" / "glue" / "mnli").glob("*/result.json")
        return [path.parent for path in sorted(actual, key=lambda path: path.stat().st_mtime)]

    def tokens(self) -> dict[Path, int]:
        return {path: path.stat().st_mtime_ns for path in (self.cache / "tokens").rglob("*") if path.is_file()}

    def leaks(self) -> list[str]:
        """Where a secret stands: what the commands said, and every file below this machine's home."""
        secrets = [secret.encode() for secret in SECRETS.values()]
        files = {str(path): path.read_bytes() for path in self.folder.rglob("*") if path.is_file()}
        assert any("/hf/" in name for name in files)
        assert any("/outputs/" in name for name in files)
        return [
            name
            for name, content in {**files, "what was said": "".join(self.said).encode()}.items()
            if any(secret in content for secret in secrets)
        ]


def is_from_the_hub(run: Path) -> None:
    """A run's own record: weights and rows of the pinned commits, and a prediction a row of the limited splits."""
    result = json.loads((run / "result.json").read_text())
    assert result["init_from"] == f"{MODEL}@{MODEL_COMMIT}"
    assert result["data_commits"] == {DATA: DATA_COMMIT}
    kept = {path.name: path.read_text().splitlines() for path in (run / "predictions").iterdir()}
    assert {name: len(lines) for name, lines in kept.items()} == PREDICTED


def closed_port() -> str:
    """An endpoint where nobody answers."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{probe.getsockname()[1]}"


def error_lines(completed: subprocess.CompletedProcess[str]) -> list[str]:
    """The lines on stderr of a command that failed by user errors alone: one a run."""
    assert completed.returncode == 2, completed.stderr
    assert "Traceback" not in completed.stderr
    lines = [line for line in completed.stderr.splitlines() if line.strip()]
    assert [line for line in lines if not line.startswith("error: ")] == []
    return lines


@pytest.fixture(scope="module")
def hub() -> Iterator[Hub]:
    """The pinned commits, and newer ones that hold nothing of use."""
    models = [Repository(NEWER, {"config.json": b"{}"}), weights()]
    datasets = [Repository(NEWER, {"README.md": b"# Moved\n"}), rows()]
    with Hub({MODEL: models}, {DATA: datasets}) as server:
        yield server


@pytest.fixture(scope="module")
def warm(hub: Hub, tmp_path_factory: pytest.TempPathFactory) -> Machine:
    """A machine on which the command has run once, with the hub and nothing cached."""
    machine = Machine(tmp_path_factory.mktemp("warm"))
    completed = machine.run(*COMMAND, endpoint=hub.endpoint)
    assert completed.returncode == 0, completed.stderr
    return machine


def test_cold(hub: Hub, warm: Machine) -> None:
    """The very command fetches the pinned commits, never `main`, and records them."""
    is_from_the_hub(warm.runs()[0])
    assert hub.unknown == []
    read = [path for path in hub.asked if MODEL in path or DATA in path]
    assert any(MODEL in path for path in read)
    assert any(DATA in path for path in read)
    assert [path for path in read if (MODEL_COMMIT if MODEL in path else DATA_COMMIT) not in path] == []


def test_warm_without_a_hub(warm: Machine) -> None:
    """What is cached at the pinned commits is all that another run needs, with no setting that says so."""
    before = warm.tokens()
    completed = warm.run(*COMMAND, "seed=7", endpoint=closed_port())
    assert completed.returncode == 0, completed.stderr
    first, second = warm.runs()
    assert first != second
    is_from_the_hub(second)
    assert warm.tokens() == before != {}


def test_prepare_then_offline(hub: Hub, tmp_path: Path) -> None:
    """`protoformer prepare` says what it fetched; the command that it prints works without a network, from those caches.

    A folder of the working directory that is called as the data set is not taken for it.
    """
    machine = Machine(tmp_path)
    decoy = tmp_path / DATA / "mnli" / "train.jsonl"
    decoy.parent.mkdir(parents=True)
    decoy.write_text('{"premise": "a decoy", "hypothesis": "a decoy", "label": 0}\n')
    completed = machine.run("prepare", *COMMAND[:2], endpoint=hub.endpoint)
    assert completed.returncode == 0, completed.stderr
    facts = {line.partition(":")[0]: line.partition(":")[2].strip() for line in completed.stdout.splitlines()}
    assert facts["weights"].startswith(f"{MODEL}@{MODEL_COMMIT} | ")
    assert facts["tokenizer"].endswith(" tokens")
    assert facts["data set"].startswith(f"{DATA}@{DATA_COMMIT} | {tmp_path / 'hf'}")
    assert facts["train"].startswith(f"hub:{DATA}@{DATA_COMMIT[:8]}/mnli/train | {SPLITS['train']} examples, ")
    for role in ("validation matched", "validation mismatched", "test matched", "test mismatched"):
        assert f" | {SPLITS[role.replace(' ', '_')]} examples, " in facts[role]
    assert facts["tokens"] == str(machine.cache / "tokens")

    setting, python, script, *overrides = shlex.split(facts["to run without a network"])
    assert (setting, python, script) == ("HF_HUB_OFFLINE=1", "python", "train.py")
    before = machine.tokens()
    completed = machine.run(*overrides, "debug=fast", endpoint=closed_port(), offline=True)
    assert completed.returncode == 0, completed.stderr
    (run,) = machine.runs()
    is_from_the_hub(run)
    assert machine.tokens() == before != {}
    assert machine.leaks() == []


PREPARE = "`protoformer prepare`"
ELSEWHERE = ("init_from=<folder>", "init_from=scratch")
OTHER_ROWS = ("source=local", "source=sample")
FAILURES: dict[str, tuple[str, str, tuple[str, ...], list[tuple[str, ...]]]] = {
    # name: machine, hub, further words, what the line (of each run of a sweep) says
    "no such ids": (
        "warm", "open", ("-m", "init_from=nobody/none,auto", "task.rows.dataset=nobody/no-rows"),
        [("nobody/none", "no such repository", *ELSEWHERE), ("nobody/no-rows", "doesn't exist", *OTHER_ROWS)],
    ),
    "no such commits": (
        "warm", "open", ("-m", f"model.hf.revision={NOWHERE},{MODEL_COMMIT}", f"task.rows.revision={NOWHERE}"),
        [(MODEL, NOWHERE, "no such revision", *ELSEWHERE), (DATA, NOWHERE, "doesn't exist", *OTHER_ROWS)],
    ),
    "a token that is refused": ("cold", "strict", (), [(MODEL, "HF_TOKEN", *ELSEWHERE)]),
    "no answer": ("cold", "closed", (), [(MODEL, MODEL_COMMIT, "no answer from", *ELSEWHERE)]),
    "offline": ("cold", "offline", (), [(MODEL, MODEL_COMMIT, "HF_HUB_OFFLINE", *ELSEWHERE)]),
    "no answer, rows of another commit": (
        "warm", "closed", (f"task.rows.revision={NOWHERE}",), [(DATA, NOWHERE, "no answer from", *OTHER_ROWS)],
    ),
}  # fmt: skip


@pytest.fixture(scope="module")
def cold(tmp_path_factory: pytest.TempPathFactory) -> Machine:
    """A machine that never gets to fetch anything."""
    return Machine(tmp_path_factory.mktemp("cold"))


@pytest.fixture(scope="module")
def strict() -> Iterator[Hub]:
    """A hub that knows another token than ours."""
    with Hub({MODEL: [weights()]}, token="hf_another") as server:
        yield server


@pytest.mark.parametrize("name", FAILURES)
def test_what_cannot_be_had_is_one_line(hub: Hub, strict: Hub, warm: Machine, cold: Machine, name: str) -> None:
    """It names the id (and the commit) and what would do; `prepare` is advised where a network would help, only there."""
    which, where, overrides, named = FAILURES[name]
    machine = {"warm": warm, "cold": cold}[which]
    endpoint = {"open": hub.endpoint, "strict": strict.endpoint}.get(where) or closed_port()
    before = machine.runs()
    lines = error_lines(machine.run(*COMMAND, *overrides, endpoint=endpoint, offline=where == "offline"))
    assert len(lines) == len(named), lines
    for line, parts in zip(lines, named, strict=True):
        assert [part for part in parts if part not in line] == [], line
        assert (PREPARE in line) == (where in ("closed", "offline")), line
    assert machine.runs() == before


def test_secrets(hub: Hub, warm: Machine) -> None:
    """The token goes to the hub (not where it redirects to) as a header; no key is said, sent otherwise or written."""
    assert {token for _, token in hub.credentials} == {CALLED}
    assert not any(path.startswith("/storage") for path, _ in hub.credentials)
    assert any("/storage/" in path for path in hub.asked)
    assert not any(secret in heard for heard in hub.heard for secret in SECRETS.values())
    assert warm.leaks() == []
