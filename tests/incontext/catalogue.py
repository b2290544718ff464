"""In-context tasks as their yamls say, over invented rows of their schemas; their prompts, and a golden hash of these.

python -m tests.incontext.catalogue --write     rewrites golden_prompts.json after a change of templates
"""

import argparse
import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
from omegaconf import OmegaConf
from tokenizers import Tokenizer as HFTokenizer
from tokenizers import decoders, models, pre_tokenizers

from protoformer.config.groups import option, options
from protoformer.data.batching.samplers import BatchConfig
from protoformer.data.datamodules.context import DataContext
from protoformer.data.prompts.datamodule import InContextDataModule
from protoformer.data.prompts.reader import PromptReader
from protoformer.data.prompts.rendering import prompt_texts
from protoformer.data.prompts.shots import ShotPool
from protoformer.data.sources.source import DatasetRef, RawStream, RawTable
from protoformer.text.templates import GptTemplate
from protoformer.text.tokenizers import END_OF_TEXT, Tokenizer

from .schemas import SCHEMAS

FOLDERS = (Path(__file__).parents[2] / "conf",)
TASKS = [name for name in options("task", FOLDERS) if name.startswith("incontext/")]
PAGE, BEGIN, END = Path(__file__).parents[2] / "docs" / "in-context.md", "<!-- tasks -->", "<!-- end of tasks -->"
GOLDEN = Path(__file__).with_name("golden_prompts.json")
EVALUATED, SHOTS = range(3), range(3, 7)  # rows of the schema


def task(name: str, shots: int = 0) -> dict[str, Any]:
    """The task's node with its interpolations resolved."""
    model = {"max_seq_len": 4096}
    node = {**option("task", name, FOLDERS), "shots": shots}
    whole: Any = OmegaConf.to_container(OmegaConf.create({"task": node, "model": model}), resolve=True)
    return {key: value for key, value in whole["task"].items() if key != "overrides"}


def without_target(node: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in node.items() if key != "_target_"}


class InventedRows:
    """A source of the rows of `schemas`: three in the evaluated split, four in that of the shots, all where it is the same."""

    def __init__(self, evaluated: set[str], shots_split: str) -> None:
        self.evaluated, self.shots_split = evaluated, shots_split

    def load(self, ref: DatasetRef, split: str) -> RawTable:
        numbers = [
            *(EVALUATED if split in self.evaluated else ()),
            *(SHOTS if split == self.shots_split else ()),
        ]
        rows = [SCHEMAS[ref.dataset, ref.subset](number) for number in numbers]
        return RawTable(pa.Table.from_pylist(rows), f"{ref.dataset}/{split}", f"{ref} {split}")

    def stream(self, ref: DatasetRef, split: str, columns: Any = None) -> RawStream:
        raise NotImplementedError

    def corpus(self) -> None:
        return None


def evaluated_splits(node: Mapping[str, Any]) -> set[str]:
    roles = [node["splits"][role] for role in ("validation", "test")]
    return {name for role in roles if role for name in (role.values() if isinstance(role, dict) else [role])}


def source(node: Mapping[str, Any]) -> InventedRows:
    return InventedRows(evaluated_splits(node), node["data"]["shots_split"])


def tokenizer() -> Tokenizer:
    """A token a byte."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    built = HFTokenizer(models.BPE(vocab={symbol: number for number, symbol in enumerate(alphabet)}, merges=[]))
    built.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    built.decoder = decoders.ByteLevel()
    built.add_special_tokens([END_OF_TEXT])
    return Tokenizer(built, "bytes")


def data_module(node: Mapping[str, Any], tokenizer: Tokenizer, cache: Path) -> InContextDataModule:
    context = DataContext(
        reader=PromptReader(**without_target(node["rows"])),
        splits=node["splits"],
        source=source(node),
        tokenizer=tokenizer,
        template=GptTemplate(tokenizer),
        max_len=4096,
        batch_config=BatchConfig(4),
        cache=cache,
    )
    built = InContextDataModule(context, **without_target(node["data"]))
    built.setup()
    return built


def prompts(name: str, shots: int) -> list[str]:
    """The first three prompts of a task, each with its choices and the right one."""
    node = task(name, shots)
    reader, rows = PromptReader(**without_target(node["rows"])), source(node)
    split = min(evaluated_splits(node))
    raw = rows.load(reader, split)
    examples = reader.read(raw, "validation").examples[: len(EVALUATED)]
    shots_split = node["data"]["shots_split"]
    pool = None
    if shots:
        own = shots_split in evaluated_splits(node)
        pool = ShotPool(reader, rows.load(reader, shots_split), shots, ["shots/0/0"], own_split=own)
    written = []
    for example in examples:
        texts = prompt_texts(reader, example, pool.draw("shots/0/0", example.row) if pool else [])
        written.append(json.dumps([texts, example.completions, example.gold, example.answers], ensure_ascii=False))
    return written


def fingerprint(name: str) -> dict[str, Any]:
    """The version of a task's templates, and a hash of three prompts without shots and with two."""
    hashes = {
        key: hashlib.sha256("\n".join(prompts(name, shots)).encode()).hexdigest()[:16]
        for key, shots in (("zero_shots", 0), ("two_shots", 2))
        if not shots or task(name)["data"]["shots_split"]
    }
    return {"version": task(name)["rows"]["version"], **hashes}


def table() -> str:
    """The tasks as a table of docs/in-context.md."""
    rows = [
        "| `task=` | data set | answer | metrics | evaluated | shots from |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for name in TASKS:
        node = task(name)
        reader, split = PromptReader(**without_target(node["rows"])), node["data"]["shots_split"]
        data_set = " ".join(filter(None, (reader.dataset, reader.subset)))
        metrics = ", ".join(f"`{metric}`" for metric in node["module"]["metrics"])
        evaluated = ", ".join(sorted(evaluated_splits(node)))
        rows.append(f"| `{name}` | {data_set} | {reader.answer_type} | {metrics} | {evaluated} | {split or 'none'} |")
    return "\n".join(rows)


def page_with_table() -> str:
    """docs/in-context.md with the table of today's tasks."""
    before, _, rest = PAGE.read_text(encoding="utf-8").partition(f"{BEGIN}\n")
    return f"{before}{BEGIN}\n{table()}\n{END}{rest.partition(END)[2]}"


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--write", action="store_true", required=True, help="rewrite the hashes and the table")
    parser.parse_args()
    lines = [f"{json.dumps(name)}: {json.dumps(fingerprint(name))}" for name in TASKS]
    GOLDEN.write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")
    PAGE.write_text(page_with_table(), encoding="utf-8")
