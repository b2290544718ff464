"""`tokenizer.json` and `tokenizer_config.json` as `transformers` reads them, made from a run's tokenizer."""

import json
from collections.abc import Mapping
from typing import Any

from tokenizers import Tokenizer as HfTokenizer
from tokenizers import models, normalizers, processors

from protoformer.errors import WeightsError
from protoformer.models.hf.layout import CompanionFiles
from protoformer.text.encoder_decoder.translation_template import BOS, EOS, TranslationTemplate
from protoformer.text.tokenizers import Tokenizer

BERT_ROLES = ("pad_token", "unk_token", "cls_token", "sep_token", "mask_token")
END_ROLES = ("bos_token", "eos_token")  # a language model's: one token


def tokenizer_files(tokenizer: Tokenizer, max_len: int) -> CompanionFiles:
    """The two files, truncating at `max_len` tokens. [CLS] and [SEP], if the vocabulary has them, are put around texts."""
    names = {role: tokenizer.special_token(role) for role in BERT_ROLES}
    if tokenizer.hf_tokenizer.token_to_id(names["cls_token"]) is None:
        end = tokenizer.special_token("eos_token")
        ends = dict.fromkeys(END_ROLES, end) if tokenizer.hf_tokenizer.token_to_id(end) is not None else {}
        config = {"tokenizer_class": "PreTrainedTokenizerFast", "model_max_length": max_len, **ends}
        return {"tokenizer.json": _json(tokenizer.hf_tokenizer, max_len), "tokenizer_config.json": config}
    hf_tokenizer = HfTokenizer.from_str(tokenizer.hf_tokenizer.to_str())
    cls, sep = ((names[role], tokenizer.id(names[role])) for role in ("cls_token", "sep_token"))
    hf_tokenizer.post_processor = processors.BertProcessing(sep, cls)
    config = {
        "model_max_length": max_len,
        "model_input_names": ["input_ids", "token_type_ids", "attention_mask"],
        **{role: token for role, token in names.items() if hf_tokenizer.token_to_id(token) is not None},
    }
    normalizer = hf_tokenizer.normalizer
    if isinstance(hf_tokenizer.model, models.WordPiece) and isinstance(normalizer, normalizers.BertNormalizer):
        config |= {  # BertTokenizer builds its normalizer from these, not from tokenizer.json
            "tokenizer_class": "BertTokenizer",
            "do_lower_case": normalizer.lowercase,
            "strip_accents": normalizer.strip_accents,
            "tokenize_chinese_chars": normalizer.handle_chinese_chars,
        }
    else:
        config["tokenizer_class"] = "PreTrainedTokenizerFast"
    return {"tokenizer.json": _json(hf_tokenizer, max_len), "tokenizer_config.json": config}


def _json(hf_tokenizer: HfTokenizer, max_len: int) -> dict[str, object]:
    """`tokenizer.json`, with the truncation of the run: of the longer of two texts, as `transformers` does when asked to."""
    truncating = HfTokenizer.from_str(hf_tokenizer.to_str())
    truncating.enable_truncation(max_len, strategy="longest_first")
    return json.loads(truncating.to_str())


def closing_tokenizer_files(tokenizer: Tokenizer, template: TranslationTemplate, max_len: int) -> CompanionFiles:
    """The two files of a tokenizer that appends the template's end token to each text.

    Start and end tokens that the vocabulary lacks are added, under names that it does not use. Raises WeightsError where they
    cannot get the ids that the model was trained with.
    """
    hf_tokenizer = HfTokenizer.from_str(tokenizer.hf_tokenizer.to_str())
    tokens = {index: token for token, index in hf_tokenizer.get_vocab(with_added_tokens=True).items()}
    names = {}
    for name, index in sorted({BOS: template.bos_id, EOS: template.eos_id}.items(), key=lambda pair: pair[1]):
        # "<end>", or "_<end>", "__<end>", ... where the vocabulary uses that word for something else
        names[index] = tokens.get(index) or next(
            token for dashes in range(len(tokens) + 1) if (token := "_" * dashes + name) not in tokens.values()
        )
        hf_tokenizer.add_special_tokens([names[index]])  # gets the next free id
        if hf_tokenizer.token_to_id(names[index]) != index:
            raise WeightsError(f"the vocabulary's ids have gaps, and none is free for {index}: no tokenizer.json")
    end = names[template.eos_id]
    hf_tokenizer.post_processor = processors.TemplateProcessing(
        single=f"$A {end}", special_tokens=[(end, template.eos_id)]
    )
    config = {"tokenizer_class": "PreTrainedTokenizerFast", "model_max_length": max_len}
    config |= {"bos_token": names[template.bos_id], "pad_token": names[template.bos_id], "eos_token": end}
    return {"tokenizer.json": _json(hf_tokenizer, max_len), "tokenizer_config.json": config}


def marian_tokenizer_config(
    tokenizer: Tokenizer, template: TranslationTemplate, task: Mapping[str, Any], max_len: int
) -> dict[str, Any]:
    """The `tokenizer_config.json` of `MarianTokenizer`."""
    tokens = {index: token for token, index in tokenizer.hf_tokenizer.get_vocab().items()}
    return {
        "tokenizer_class": "MarianTokenizer",
        "model_max_length": max_len,
        "source_lang": task["rows"].get("source"),
        "target_lang": task["rows"].get("target"),
        "eos_token": tokens[template.eos_id],
        "pad_token": tokens[template.bos_id],
    }
