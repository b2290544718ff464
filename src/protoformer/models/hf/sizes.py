"""Builder arguments of a published folder: what `config.json` says, held against the tensors beside it."""

import logging
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from protoformer.errors import WeightsError
from protoformer.json_files import Values
from protoformer.models.hf.layout import WeightsLayout
from protoformer.models.weights import HfConfig, StateDict, read_config, read_state

log = logging.getLogger(__name__)

LANGUAGE_MODELS = ("LMHeadModel", "ForMaskedLM", "ForPreTraining", "MTModel")  # classes with an output matrix
LAYER = re.compile(r"(?:^|\.)(?:layer|layers|h)\.(\d+)\.")


def read_sizes(folder: Path, layout: WeightsLayout) -> dict[str, Any]:
    """The builder's arguments. Raises WeightsError, which names the file, for another architecture or a wrong value, and for a
    size that the tensors contradict: no model of such a size is ever built."""
    config, state = read_config(folder), read_state(folder)
    sizes = layout.sizes(config)
    try:
        sizes |= layout.sizes_of_tensors(state)
    except WeightsError as error:
        raise WeightsError(f"{folder}: {error}") from None
    _warn_of_missing_output(config, state, layout)
    check_sizes(sizes, state, config.origin, getattr(layout, "size_names", {}))
    return sizes


def _warn_of_missing_output(config: HfConfig, state: StateDict, layout: WeightsLayout) -> None:
    """Say that a language model that claims an output matrix of its own has none in the file."""
    output = getattr(layout, "output_name", None)
    if output is None or config.get("tie_word_embeddings") is not False or any(name.endswith(output) for name in state):
        return
    if any(name.endswith(LANGUAGE_MODELS) for name in Values(config).texts("architectures")):
        where = Values(config).origin
        log.warning("%s: tie_word_embeddings=false, but no %s: the token embedding is the output matrix", where, output)


def read_tensors(folder: Path, layout: WeightsLayout) -> tuple[StateDict, StateDict]:
    """The model's tensors under our names, and those of heads under theirs. Raises WeightsError, which names the folder."""
    state = read_state(folder)
    try:
        return layout.from_hf(state)
    except WeightsError as error:
        raise WeightsError(f"{folder}: {error}") from None


def check_sizes(
    sizes: Mapping[str, Any], state: Mapping[str, Tensor], origin: str, size_names: Mapping[str, str]
) -> None:
    """Raise WeightsError for a size of `config.json` (`origin`) that the tensors contradict.

    `size_names` maps the names of sizes in the file to ours.
    """
    theirs = {ours: name for name, ours in size_names.items()}
    layers = len({match[1] for name in state if (match := LAYER.search(name))})
    stacks = {name: sizes[name] for name in ("n_layers", "n_decoder_layers") if sizes.get(name) is not None}
    most = max(stacks, key=stacks.__getitem__, default=None)
    if most is not None and stacks[most] != layers:
        raise WeightsError(f"{origin}: {theirs.get(most, most)}={stacks[most]}, but the weights have {layers} layers")
    lengths = {length for tensor in state.values() for length in tensor.shape}
    computed = {"max_seq_len"} if "sinusoid" in sizes or sizes.get("positions", "learned") != "learned" else set()
    for name in sorted({"vocab_size", "d_model", "d_ff", "max_seq_len"} & sizes.keys() - computed):
        if sizes[name] not in lengths:
            raise WeightsError(
                f"{origin}: {theirs.get(name, name)}={sizes[name]}, but no tensor of the weights has that length"
            )
