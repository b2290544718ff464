"""A run's name: the same for what cannot change a result, another for what can."""

import re
from pathlib import Path
from typing import Any

import pytest

from protoformer.config.compose import compose
from protoformer.runs.identity import identity_config, run_id

PAIR = ["model=bert", "task=glue/rte"]


def name(*overrides: str) -> str:
    return run_id(compose([*PAIR, *overrides]))


def test_it_is_readable_and_the_same_every_time() -> None:
    assert re.fullmatch(r"seed42-lr5e-05-bs32-[0-9a-f]{8}", name())
    assert name() == name()
    assert re.fullmatch(r"seed7-lr0.0001-bs16-[0-9a-f]{8}", name("seed=7", "recipe.lr=1e-4", "recipe.batch_size=16"))


@pytest.mark.parametrize(
    "overrides",
    [
        ["hardware=ddp_cpu"],
        ["hardware.micro_batch=4"],
        ["hardware.workers=2"],
        ["hardware.threads=1"],
        ["hardware.compile=true"],
        ["tracking=none"],
        ["tracking.tags=[a]"],
        ["paths.outputs=/elsewhere"],
        ["trainer.checkpoint_every=7"],
        ["trainer.log_every=1"],
        ["force=true"],
        ["reuse=true"],
        ["task.train_examples=5"],
        ["recipe.bias_correction=true"],  # a target's own default, spelt out
        ["recipe.optimizer=adamw"],
        ["recipe.lr=0.00005"],
        ["model.norm_eps=1e-12"],
    ],
    ids=" ".join,
)
def test_what_cannot_change_a_result_changes_no_name(overrides: list[str]) -> None:
    assert name(*overrides) == name()


@pytest.mark.parametrize(
    "overrides",
    [
        ["seed=1"],
        ["recipe.lr=4e-5"],
        ["recipe.epochs=4"],
        ["recipe.bias_correction=false"],
        ["recipe.optimizer=lamb"],
        ["model.dropout=0.2"],
        ["model=bert_base_cased"],
        ["task=glue/mrpc"],
        ["task.max_len=64"],
        ["hardware.precision=bf16"],
        ["hardware.packing=off"],
        ["trainer.limit_train_batches=5"],
        ["debug=fast"],
        ["source=sample"],
        ["init_from=scratch"],
    ],
    ids=" ".join,
)
def test_what_can_change_a_result_changes_the_name(overrides: list[str]) -> None:
    assert name(*overrides) != name()


def test_one_batch_is_not_the_whole_epoch() -> None:
    assert name("trainer.limit_train_batches=1") != name("trainer.limit_train_batches=1.0")
    assert name("recipe.weight_decay=1") == name("recipe.weight_decay=1.0")


def data(root: Path, text: str = "a\tb\n") -> Path:
    folder = root / "nyu-mll" / "glue" / "rte"
    folder.mkdir(parents=True)
    (folder / "train.tsv").write_text(text)
    return root


def test_folders_count_by_content_not_by_place(tmp_path: Path) -> None:
    one, two = data(tmp_path / "one"), data(tmp_path / "two")
    other = data(tmp_path / "three", "c\td\n")
    names = [name("source=local", f"source.root={root}") for root in (one, two, other)]
    assert names[0] == names[1] != names[2]

    for folder, content in (("w1", "{}"), ("w2", "{}"), ("w3", "{ }")):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "config.json").write_text(content)
    names = [name(f"init_from={tmp_path / folder}") for folder in ("w1", "w2", "w3")]
    assert names[0] == names[1] != names[2]


def test_parallel_text_counts_by_content(tmp_path: Path) -> None:
    """Files of both languages, wherever they lie; what else lies there counts for nothing."""

    def write(folder: str, german: str) -> Path:
        (tmp_path / folder).mkdir(exist_ok=True)
        for split in ("train", "validation", "test"):
            (tmp_path / folder / f"{split}.en").write_text("a cat\n")
            (tmp_path / folder / f"{split}.de").write_text(german)
        return tmp_path / folder

    def named(root: Path) -> str:
        overrides = [
            "model=transformer_tiny",
            "task=translate/multi30k_en_de",
            "source=parallel",
            f"source.root={root}",
        ]
        return run_id(compose(overrides))

    one, two, other = write("one", "eine Katze\n"), write("two", "eine Katze\n"), write("three", "ein Hund\n")
    names = [named(root) for root in (one, two, other)]
    assert names[0] == names[1] != names[2]
    (two / "notes.txt").write_text("nothing")
    assert named(two) == names[0]
    (two / "train.de").write_text("ein Tier\n")
    assert named(two) not in names


def test_text_and_vocabulary_files_count_by_all_their_content(tmp_path: Path) -> None:
    """Also by what stands in the middle of a large file of the same size."""
    content = "The dog ran on the roof.\n\n" * 20_000
    for folder in ("a", "b", "c"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "corpus [v1].txt").write_text(content)
        (tmp_path / folder / "vocab.txt").write_text("\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "dog"]))
    (tmp_path / "c" / "corpus [v1].txt").write_text(f"{content[:200_000].replace('dog', 'cat')}{content[200_000:]}")

    def named(folder: str, *more: str) -> str:
        files = [
            f"source.files=['{tmp_path}/{folder}/corpus [v1].txt']",
            f"model.tokenizer={tmp_path}/{folder}/vocab.txt",
        ]
        overrides = ["model=bert_l2_h128", "task=pretrain/mlm_nsp", "source=files", *files, *more]
        return run_id(compose(overrides))

    own = f"+source.validation=['{tmp_path}/b/corpus [v1].txt']"
    assert named("a") == named("b")
    assert len({named("a"), named("c"), named("a", own)}) == 3
    before = named("b")
    (tmp_path / "b" / "vocab.txt").write_text("\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "cat"]))
    assert named("b") != before


def test_a_new_key_with_a_default_renames_nothing() -> None:
    config: dict[str, Any] = compose(PAIR)
    before = run_id(config)
    changed = {**config, "model": {**config["model"], "attention_dropout": None, "activation": "gelu"}}
    assert run_id(changed) == before
    assert "activation" not in identity_config(changed)["model"]
    assert "optimizer" not in identity_config(config)["recipe"]


def test_what_trains_nothing_is_named_by_neither_recipe_nor_seed() -> None:
    def name(task: str, *overrides: str) -> str:
        return run_id(compose(["model=gpt2", f"task={task}", *overrides]))

    assert re.fullmatch(r"shots0-[0-9a-f]{8}", name("incontext/copa"))
    assert re.fullmatch(r"shots8-[0-9a-f]{8}", name("incontext/copa", "task.shots=8"))
    assert re.fullmatch(r"tested-[0-9a-f]{8}", name("lm/wikitext2"))
    for task in ("incontext/copa", "lm/wikitext2"):
        assert name(task, "recipe.lr=1", "recipe.batch_size=7", "seed=3") == name(task)
    memory = ("task.module.tokens_per_pass=64", "task.module.cached_tokens=99")  # bounds of memory change no answer
    assert name("incontext/copa", *memory) == name("incontext/copa")
    assert name("incontext/copa", "task.shots=2", "task.shots_seed=1") != name("incontext/copa", "task.shots=2")
    assert name("lm/wikitext2", "task.max_len=64") != name("lm/wikitext2")
    assert name("pretrain/clm", "seed=3") != name("pretrain/clm")
    assert name("glue/ax", "init_from=some/hub").startswith("seed42-lr6.25e-05-bs32-")  # a head, and so the seed
