"""The tokenizer of a run: the model's own, or one learned from the training text."""

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from protoformer import hub
from protoformer.assembly.initial_weights import Initial
from protoformer.assembly.instantiate import instantiate
from protoformer.errors import ConfigurationError
from protoformer.text.tokenizer_files import TOKENIZER_FILES, read_tokenizer
from protoformer.text.tokenizers import Tokenizer, whole_word_tokenizer, with_normalization

log = logging.getLogger(__name__)


def tokenizer(config: Mapping[str, Any], start: Initial, source: Any) -> Tokenizer:
    """The vocabulary of `model.tokenizer`, which cleans texts up as `model.normalization` says."""
    found, normalization = vocabulary(config, start, source), config["model"].get("normalization")
    return found if normalization is None else with_normalization(found, normalization)


def vocabulary(config: Mapping[str, Any], start: Initial, source: Any) -> Tokenizer:
    """`model.tokenizer=FILE`, or for `auto` the one that came with the weights, one learnt from the task's training text, the
    source's own, or the published one.

    Raises ConfigurationError for a file whose words are not those that the weights were trained with.
    """
    wanted = config["model"]["tokenizer"]
    own = start.folder and (start.folder / "tokenizer" if start.is_run else start.folder)
    if wanted != "auto":
        path = Path(wanted).expanduser()
        if not path.exists() and hub.is_path(wanted):
            raise ConfigurationError(f"model.tokenizer={wanted}: no such file or folder")
        given = read_tokenizer(path if path.exists() else hub.fetch(wanted, None, weights=False)[0])
        if own and any((own / name).exists() for name in TOKENIZER_FILES):
            theirs = read_tokenizer(own)
            if other := given.count_differing_ids(theirs):
                raise ConfigurationError(
                    f"model.tokenizer={wanted}: {other} of its {given.vocab_size} tokens have another id, or none, in the "
                    f"vocabulary that {start.origin} was trained with; leave model.tokenizer out"
                )
        return given
    if own:
        return read_tokenizer(own)
    if config["task"].get("vocabulary") and config["task"]["splits"].get("train"):
        learner, rows = instantiate(config, "task.vocabulary"), instantiate(config, "task.rows")
        return learner.learn(rows, source, config["task"]["splits"]["train"], Path(config["paths"]["cache"]))
    texts = source.corpus()
    if texts is not None:
        return whole_word_tokenizer(texts, "the source's own words")
    published = config["model"].get("hf") or {}
    if not published.get("repo"):
        raise ConfigurationError("this model has no published tokenizer: name one by model.tokenizer=FILE")
    return read_tokenizer(hub.fetch(published["repo"], published.get("revision"), weights=False)[0])
