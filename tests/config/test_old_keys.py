"""Keys and classes under their earlier names: one-line errors, and config.yaml files of earlier versions."""

from typing import Any

import pytest
import yaml

from protoformer.config.annotations.signatures import signature
from protoformer.config.compose import compose
from protoformer.config.old_keys import OLD_KEYS, renamed, upgraded
from protoformer.config.validate import check
from protoformer.errors import ConfigurationError

PAIR = ["model=bert", "task=glue/mnli"]
OLD_CONFIG = """
seed: 42
init_from: auto
force: false
reuse: false
row: null
model:
  _target_: protoformer.models.bert.bert
  vocab_size: 30522
  d_model: 768
  n_layers: 12
  n_heads: 12
  d_ff: 3072
  max_seq_len: 512
  n_segments: 2
  norm_eps: 1.0e-12
  tokenizer: auto
  cleanup: null
  pretraining: null
  format: {_target_: protoformer.text.formats.BertFormat, summary: first}
  published:
    _target_: protoformer.models.published.bert.BertWeights
    repo: google-bert/bert-base-uncased
    revision: 86b5e0934494bd15c9632b12f734a8a67f723594
task:
  kind: classification
  max_len: 128
  starts_from: published
  train_examples: 2490
  rows:
    _target_: protoformer.data.rows.LabelledTexts
    dataset: nyu-mll/glue
    subset: rte
    text_a: sentence1
    text_b: sentence2
    labels: [entailment, not_entailment]
  splits: {train: train, validation: validation, test: test}
  data: {_target_: protoformer.data.classification.ClassificationDataModule}
  module: {_target_: protoformer.modules.kinds.classification.ClassificationModule, metrics: [accuracy]}
recipe: {lr: 5.0e-05, batch_size: 32, epochs: 3, warmup: 0.1, aux_lm_weight: 0.5}
trainer: {max_epochs: 3}
hardware: {accelerator: cpu}
source: {_target_: protoformer.data.sources.HubSource}
tracking: {mode: none}
paths: {outputs: outputs, cache: cache}
views: {attention: false}
choices: {model: bert, task: glue/rte, family: bert, set: []}
"""
OLD_TARGETS = [
    "data.blocks.BlocksDataModule",
    "data.classification.ClassificationDataModule",
    "data.corpora.Corpus",
    "data.masking.MaskedTokens",
    "data.masking.NextTokens",
    "data.multiple_choice.MultipleChoiceDataModule",
    "data.pairs.Pairs",
    "data.pairs.ParallelSource",
    "data.pretraining.PretrainingDataModule",
    "data.rows.Choices",
    "data.rows.LabelledTexts",
    "data.rows.Questions",
    "data.sources.FilesSource",
    "data.sources.HubSource",
    "data.sources.LocalSource",
    "data.sources.SampleSource",
    "data.span.SpanDataModule",
    "data.translation.TranslationDataModule",
    "data.vocabulary.LearntVocabulary",
    "models.bert.bert",
    "models.cnn.cnn",
    "models.gpt.gpt",
    "models.published.bert.BertWeights",
    "models.published.gpt.Gpt2Weights",
    "models.published.gpt.GptWeights",
    "models.published.marian.MarianWeights",
    "models.rnn.rnn",
    "models.transformer.transformer",
    "models.transformer_encoder.transformer_encoder",
    "modules.classification.ClassificationModule",
    "modules.language.LanguageModule",
    "modules.multiple_choice.MultipleChoiceModule",
    "modules.pretraining.PretrainingModule",
    "modules.span.SpanModule",
    "modules.translation.TranslationModule",
    "text.formats.BertFormat",
    "text.formats.GptFormat",
    "text.formats.SeparatedFormat",
    "text.translation.TranslationFormat",
]


def test_keys_of_a_recipe_that_are_newer_than_the_run_have_their_defaults() -> None:
    """So that a table does not set an earlier run beside a new one as another recipe."""
    recipe = upgraded({"recipe": {"lr": 1e-4, "ema": 0.9}})["recipe"]
    assert isinstance(recipe, dict)
    assert {"lr": 1e-4, "ema": 0.9, "layerwise_lr_decay": 1.0, "reinit_layers": 0}.items() <= recipe.items()


def test_a_config_of_an_earlier_version_is_valid_once_upgraded() -> None:
    config = upgraded(yaml.safe_load(OLD_CONFIG))
    check(config)
    assert config["model"]["hf"]["_target_"] == "protoformer.models.hf.BertWeights"
    assert config["model"]["template"] == {"_target_": "protoformer.text.BertTemplate", "pooled_token": "first"}
    assert config["task"]["module"]["labels"] == ["entailment", "not_entailment"]
    assert config["task"]["module"]["aux_lm_weight"] == 0.5
    assert "row" not in config


def test_upgrading_a_config_of_today_changes_nothing() -> None:
    for task in ("glue/stsb", "squad/v2", "pretrain/mlm_nsp"):
        config: dict[str, Any] = compose(["model=bert", f"task={task}"])
        assert upgraded(config) == config


@pytest.mark.parametrize("target", OLD_TARGETS)
def test_every_class_of_an_earlier_version_is_found(target: str) -> None:
    assert signature(upgraded({"_target_": f"protoformer.{target}"})["_target_"]) is not None


def test_a_users_own_class_keeps_its_path() -> None:
    assert upgraded({"_target_": "mine.data.Thing"}) == {"_target_": "mine.data.Thing"}


@pytest.mark.parametrize(("old", "new"), OLD_KEYS.items())
def test_an_old_key_is_one_line_with_its_new_name(old: str, new: str) -> None:
    today = renamed(old)
    assert today is not None
    for prefix in ("", "+", "++"):
        with pytest.raises(ConfigurationError) as caught:
            compose([*PAIR, f"{prefix}{old}=1"])
        assert str(caught.value) == f"{prefix}{old}=1: {old} has a new name; did you mean {today}?"
    assert renamed(new) in (None, today)


def test_an_old_key_in_a_yaml_is_named_too() -> None:
    config = compose(PAIR)
    config["model"]["published"] = config["model"].pop("hf")
    with pytest.raises(ConfigurationError, match=r"model has no key 'published'; .* did you mean model\.hf\?"):
        check(config)


def test_the_attention_of_an_earlier_recurrent_network() -> None:
    model = {"_target_": "protoformer.models.rnn.rnn", "role": "encoder_decoder", "attention": "additive"}
    later = upgraded({"model": {**model, "looks": "before"}})["model"]
    assert later == {
        "_target_": "protoformer.models.rnn.rnn",
        "architecture": "encoder_decoder",
        "attention_score": "additive",
        "attention": "bahdanau",
    }
    assert upgraded({"model": later})["model"] == later
