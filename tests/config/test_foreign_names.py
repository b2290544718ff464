"""Names of Lightning, transformers, fairseq and torchrun: one line that says what they are called here."""

import re

import pytest

from protoformer.commands.parser import Parser
from protoformer.config import schema
from protoformer.config.annotations.signatures import signature
from protoformer.config.compose import compose
from protoformer.config.groups import groups, options, search_path
from protoformer.config.names.foreign_names import FOREIGN_KEYS, FOREIGN_VALUES
from protoformer.config.validate import keys_of, stated_keys
from protoformer.errors import ConfigurationError

PAIR = ["model=bert", "task=glue/mnli"]
TARGETS = {  # nodes whose targets take the keys that the table names
    "model": ["protoformer.models.bert.bert"],
    "task.rows": ["protoformer.data.LabelledTextReader"],
    "task.data": ["protoformer.data.SpanDataModule"],
    "task.module": ["protoformer.modules.TranslationModule", "protoformer.modules.ClassificationModule"],
    "source": ["protoformer.data.LocalSource"],
}


def exists(key: str) -> bool:
    node, _, name = key.partition("=")[0].rpartition(".")
    if not node:
        return name in {*keys_of(schema.Run), *groups(search_path())}
    inner = {"task.splits": schema.Splits, "recipe.early_stopping": schema.EarlyStopping}.get(node)
    known = {*(keys_of(inner) if inner else ()), *stated_keys(node)}
    return name in known | {name for target in TARGETS.get(node, ()) for name in signature(target).parameters}


@pytest.mark.parametrize("name", FOREIGN_KEYS)
def test_what_is_advised_exists(name: str) -> None:
    advice = FOREIGN_KEYS[name]
    assert advice.note or advice.key
    assert advice.key is None or exists(advice.key)
    for key in re.findall(r"\b(?:recipe|hardware|task|trainer|paths|model|source)\.[a-z_.]+[a-z]", advice.note):
        assert exists(key), key


@pytest.mark.parametrize("key", FOREIGN_VALUES)
def test_values_that_are_advised_exist(key: str) -> None:
    for ours in FOREIGN_VALUES[key].values():
        if "." not in key:
            assert ours in options(key, search_path())
        else:
            compose([*PAIR, f"{key}={ours}", *(["hardware=gpu"] if ours == "fp16" else [])])


@pytest.mark.parametrize(("number", "name"), list(enumerate(FOREIGN_KEYS)))
def test_each_name_is_answered_wherever_it_is_typed(number: int, name: str) -> None:
    """In one of the places in turn: composing takes a tenth of a second."""
    advice = FOREIGN_KEYS[name]
    said = f"did you mean {advice.key}?" if advice.key else "there is no such key: "
    places = [f"{node}.{name}" for node in ("trainer", "recipe", "hardware") if name not in stated_keys(node)]
    top = [] if name in {*keys_of(schema.Run), *groups(search_path())} else [name]
    typed = [*places, *top]
    with pytest.raises(ConfigurationError) as caught:
        compose([*PAIR, f"{typed[number % len(typed)]}=3"])
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)
    parser = Parser(prog="train", add_help=False, allow_abbrev=False)
    parser.add_argument("overrides", nargs="*")
    with pytest.raises(ConfigurationError, match=re.escape(said)):
        parser.parse_intermixed_args([f"--{name.replace('_', '-')}", "3"])


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("hardware.precision=16-mixed", "did you mean fp16?"),
        ("hardware.precision=bf16-mixed", "did you mean bf16?"),
        ("hardware.precision=32", "did you mean fp32?"),
        ("hardware.devices=-1", "did you mean all?"),
        ("tracking=offline", "did you mean tracking=wandb_offline?"),
        ("hardware=cuda", "did you mean hardware=gpu?"),
        ("model=google-bert/bert-base-uncased", "did you mean model=bert?"),
        ("trainer.precision=16-mixed", "did you mean hardware.precision? (fp32, tf32, bf16 for bf16-mixed, fp16 for"),
        ("batch_size=8", "over all devices and accumulated micro-batches"),
        ("trainer.weight_decay=0.1", "did you mean recipe.weight_decay?"),
    ],
)
def test_values_and_differences_are_named(override: str, said: str) -> None:
    with pytest.raises(ConfigurationError, match=re.escape(said)):
        compose([*PAIR, override])
