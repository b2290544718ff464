"""`tokenizer.json` and `tokenizer_config.json` as `transformers` reads them, made from a run's tokenizer."""

import json

from tokenizers import Tokenizer as HfTokenizer
from tokenizers import models, normalizers, processors

from protoformer.errors import WeightsError
from protoformer.models.hf.layout import CompanionFiles
from protoformer.text.tokenizers import END_OF_TEXT, Tokenizer
from protoformer.text.translation_template import BOS, EOS, TranslationTemplate

BERT_TOKENS = {
    "pad_token": "[PAD]",
    "unk_token": "[UNK]",
    "cls_token": "[CLS]",
    "sep_token": "[SEP]",
    "mask_token": "[MASK]",
}
END_TOKENS = {"bos_token": END_OF_TEXT, "eos_token": END_OF_TEXT}  # a language model's


def tokenizer_files(tokenizer: Tokenizer, max_len: int) -> CompanionFiles:
    """The two files, truncating at `max_len` tokens. [CLS] and [SEP], if the vocabulary has them, are put around texts."""
    if tokenizer.hf_tokenizer.token_to_id(BERT_TOKENS["cls_token"]) is None:
        ends = {
            name: token for name, token in END_TOKENS.items() if tokenizer.hf_tokenizer.token_to_id(token) is not None
        }
        config = {"tokenizer_class": "PreTrainedTokenizerFast", "model_max_length": max_len, **ends}
        return {"tokenizer.json": json.loads(tokenizer.hf_tokenizer.to_str()), "tokenizer_config.json": config}
    hf_tokenizer = HfTokenizer.from_str(tokenizer.hf_tokenizer.to_str())
    cls, sep = ((BERT_TOKENS[name], tokenizer.id(BERT_TOKENS[name])) for name in ("cls_token", "sep_token"))
    hf_tokenizer.post_processor = processors.BertProcessing(sep, cls)
    config = {
        "model_max_length": max_len,
        "model_input_names": ["input_ids", "token_type_ids", "attention_mask"],
        **{name: token for name, token in BERT_TOKENS.items() if hf_tokenizer.token_to_id(token) is not None},
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
    return {"tokenizer.json": json.loads(hf_tokenizer.to_str()), "tokenizer_config.json": config}


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
    return {"tokenizer.json": json.loads(hf_tokenizer.to_str()), "tokenizer_config.json": config}
