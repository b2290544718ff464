"""Code from outside of the package counts: when it changes, finished runs and token caches of it are no longer valid."""

import shutil
from pathlib import Path
from typing import Any

import pytest

from protoformer.config.annotations import signatures
from protoformer.config.compose import compose
from protoformer.data.batching.samplers import BatchConfig
from protoformer.data.datamodules.context import DataContext
from protoformer.data.sources.local import LocalSource
from protoformer.runs.digests import code_digest
from protoformer.text.templates import BertTemplate
from protoformer.text.tokenizers import whole_word_tokenizer

HERE = Path(__file__).parent


@pytest.fixture
def config() -> dict[str, Any]:
    return compose(["model=bert", "task=passages", "source=sample", "init_from=scratch"], str(HERE / "conf"))


def test_code_from_outside_counts(config: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "ranking_copy"
    shutil.copytree(HERE / "ranking", package)
    monkeypatch.syspath_prepend(tmp_path)
    config["task"]["module"]["_target_"] = "ranking_copy.module.RankingModule"
    config["task"].pop("data")
    config["task"].pop("rows")
    file = package / "data.py"
    text = file.read_text()
    digests = []
    for edited in (text, text.replace('"""Data of', '"""The data of'), text.replace('== "error"', '!= "skip"')):
        file.write_text(edited)
        signatures.definition.cache_clear()
        digests.append(code_digest(config))
    assert digests[0] == digests[1] != digests[2]


def test_a_run_of_the_package_alone_has_the_digest_of_the_package() -> None:
    config = compose(["model=bert", "task=glue/rte", "source=sample", "init_from=scratch"])
    assert code_digest(config) == code_digest()


def test_token_caches_know_the_code_of_their_data_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from ranking.data import RankingDataModule, RankingReader

    from protoformer.data.datamodules import table

    folder = tmp_path / "data" / "passages"
    folder.mkdir(parents=True)
    row = '{"query": "which", "candidates": ["a", "b c"], "relevant": 1}\n'
    (folder / "train.jsonl").write_text(row)
    tokenizer = whole_word_tokenizer(["which a b c"], "here")

    def caches() -> int:
        context = DataContext(
            reader=RankingReader("passages"), splits={"train": "train"}, source=LocalSource(str(tmp_path / "data")),
            tokenizer=tokenizer, template=BertTemplate(tokenizer), max_len=16, batch_config=BatchConfig(1),
            cache=tmp_path / "cache",
        )  # fmt: skip
        data = RankingDataModule(context)
        data.setup()
        return len(list((tmp_path / "cache" / "tokens").iterdir()))

    assert caches() == caches() == 1
    monkeypatch.setattr(table, "outside_digest", lambda files: f"edited {len(list(files))}")
    assert caches() == 2
