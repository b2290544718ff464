"""The tokens that start and end a target, as the `config.json` of an encoder-decoder names them by their ids."""

from collections.abc import Mapping

from protoformer.json_files import Values
from protoformer.models.weights import HfConfig
from protoformer.text.tokenizers import Tokenizer


def template_tokens(config: HfConfig, tokenizer: Tokenizer, given: Mapping[str, object]) -> dict[str, object]:
    """Arguments of a translation template: `bos_token`, `eos_token`, `suppressed_tokens`.

    Empty where those `given` to the template are tokens of the vocabulary, or `config.json` names none. Exports of runs that
    learned their vocabulary have other tokens than Marian's `<pad>` and `</s>`.
    """
    tokens = tokenizer.hf_tokenizer.get_vocab(with_added_tokens=True)
    if {given.get("bos_token"), given.get("eos_token")} <= tokens.keys():
        return {}
    names, values = {index: token for token, index in tokens.items()}, Values(config)
    start, end = (
        names.get(-1 if values.get(key) is None else values.whole(key, minimum=0))
        for key in ("decoder_start_token_id", "eos_token_id")
    )
    if start is None or end is None:
        return {}
    return {"bos_token": start, "eos_token": end, "suppressed_tokens": [start]}
