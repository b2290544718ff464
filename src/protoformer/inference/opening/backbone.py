"""A folder of published weights, opened without its head: the family by `model_type` in its `config.json`."""

from collections.abc import Collection
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from protoformer.assembly.start_and_end import template_tokens
from protoformer.errors import ConfigurationError, WeightsError
from protoformer.inference.opening.generation_settings import warn_of_unfollowed
from protoformer.json_files import Values, read_object, shown
from protoformer.models import weights
from protoformer.models.backbone import Backbone
from protoformer.models.encoder_decoder import EncoderDecoder
from protoformer.models.hf import FAMILIES, Family, WeightsLayout, family_of
from protoformer.models.hf.sizes import read_sizes, read_tensors
from protoformer.text.tokenizer_files import read_tokenizer
from protoformer.text.tokenizers import Tokenizer


@dataclass(frozen=True)
class PublishedBackbone:
    """The model of a folder in evaluation mode, without a head, and what reads texts for it."""

    model: Backbone | EncoderDecoder
    tokenizer: Tokenizer
    template: Any
    family: Family


@dataclass(frozen=True)
class PublishedFolder:
    """What a folder says of its model: family, layout, the builder's arguments, and the vocabulary."""

    family: Family
    layout: WeightsLayout
    config: weights.HfConfig
    sizes: dict[str, Any]
    tokenizer: Tokenizer


def read_published(folder: Path, architectures: Collection[str] = ()) -> PublishedFolder:
    """The facts of a folder.

    Raises WeightsError, or another one-line error that names the file, where it cannot be opened, its vocabulary has more
    tokens than the embedding has rows, or its family is of none of the `architectures` (empty: any).
    """
    config = weights.read_config(folder)
    family = family_of(config)
    if family is None or (architectures and family.architecture not in architectures):
        supported = [name for name, each in FAMILIES.items() if not architectures or each.architecture in architectures]
        raise WeightsError(
            f"{folder}: config.json says model_type {shown(config.get('model_type'))}; supported: {', '.join(supported)}"
        )
    layout = family.layout()
    sizes, tokenizer = read_sizes(folder, layout), read_tokenizer(folder)
    if tokenizer.vocab_size > sizes["vocab_size"]:
        raise ConfigurationError(
            f"{folder}: the tokenizer ({tokenizer.origin}) has {tokenizer.vocab_size} tokens, the weights "
            f"{sizes['vocab_size']}: they do not match"
        )
    if family.architecture == "encoder_decoder":
        family = _with_start_and_end(family, config, tokenizer)
    template = family.template(tokenizer)
    if family.architecture == "encoder_decoder":
        _check_start_and_end(config, template)
    if family.architecture != "encoder":
        warn_of_unfollowed(folder, set(getattr(template, "suppressed_ids", ())))
    return PublishedFolder(family, layout, config, sizes, tokenizer)


def _with_start_and_end(family: Family, config: weights.HfConfig, tokenizer: Tokenizer) -> Family:
    """The family with the start and end tokens of `config.json`, where the vocabulary lacks the family's own."""
    own = family.template
    if not isinstance(own, partial):
        return family
    tokens = template_tokens(config, tokenizer, own.keywords)
    return replace(family, template=partial(own.func, **tokens)) if tokens else family


def _check_start_and_end(config: weights.HfConfig, template: Any) -> None:
    """Raise WeightsError where a `config.json` starts or ends targets with other tokens than the family's template."""
    values = Values(config)
    for key, token in (("decoder_start_token_id", template.bos_id), ("eos_token_id", template.eos_id)):
        if values.get(key) is not None and values.whole(key, minimum=0) != token:
            raise WeightsError(
                f"{values.origin}: {key}={config[key]}, and the vocabulary's token for it has the id {token}"
            )


def open_backbone(folder: Path, architectures: Collection[str] = ()) -> PublishedBackbone:
    """The model of a folder of published weights, without its head. Raises as `read_published` does."""
    published = read_published(folder, architectures)
    try:
        model = published.family.builder(**published.sizes)
    except ValueError as error:
        raise WeightsError(f"{folder / 'config.json'}: {error}") from None
    body, _ = read_tensors(folder, published.layout)
    weights.load_into(model, body, str(folder), published.layout.optional_prefixes)
    return PublishedBackbone(
        model.eval(), published.tokenizer, published.family.template(published.tokenizer), published.family
    )


def end_ids(folder: Path, opened: PublishedBackbone) -> list[int]:
    """The tokens that end a text of a decoder: the vocabulary's own, and those of `generation_config.json` or `config.json`.

    Rows of the embedding that are no token of the vocabulary are none.
    """
    generation = folder / "generation_config.json"
    named: list[object] = [opened.template.end_of_text_id]
    for config in (read_object(generation) if generation.exists() else {}, weights.read_config(folder)):
        ids = config.get("eos_token_id")
        named += ids if isinstance(ids, list) else [ids]
    tokens = set(opened.tokenizer.hf_tokenizer.get_vocab(with_added_tokens=True).values())
    return [token for token in dict.fromkeys(named) if isinstance(token, int) and token in tokens]
