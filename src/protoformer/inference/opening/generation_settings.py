"""Settings of `generation_config.json` that change which tokens `transformers` chooses, and that are not followed here."""

import logging
from pathlib import Path

from protoformer.json_files import Values, read_object, shown

log = logging.getLogger(__name__)

FILE = "generation_config.json"
NEUTRAL: dict[str, tuple[object, ...]] = {  # key -> values that change nothing
    "repetition_penalty": (1.0,),
    "encoder_repetition_penalty": (1.0,),
    "no_repeat_ngram_size": (0,),
    "encoder_no_repeat_ngram_size": (0,),
    "min_length": (0,),
    "min_new_tokens": (0,),
    "suppress_tokens": ([],),
    "begin_suppress_tokens": ([],),
    "forced_bos_token_id": (),
    "sequence_bias": (),
    "force_words_ids": (),
}


def warn_of_unfollowed(folder: Path, suppressed: set[int]) -> None:
    """Name the settings of a folder's file that are not followed; `suppressed` are tokens that are never generated anyway.

    Raises WeightsError for a file that is no JSON object, or whose `bad_words_ids` are no lists of tokens.
    """
    path = folder / FILE
    if not path.is_file():
        return
    settings = read_object(path)
    unfollowed = {
        key: settings[key]
        for key, neutral in NEUTRAL.items()
        if settings.get(key) is not None and settings[key] not in neutral
    }
    words = settings.get("bad_words_ids") or []
    if not isinstance(words, list) or not all(isinstance(word, list) for word in words):
        raise Values(settings).wrong("bad_words_ids", "a list of lists of tokens")
    if others := [word for word in words if len(word) != 1 or word[0] not in suppressed]:
        unfollowed["bad_words_ids"] = others
    if unfollowed:
        shown_settings = ", ".join(f"{key}={shown(value)}" for key, value in unfollowed.items())
        log.warning("%s: %s not followed: transformers generates other tokens with it", path, shown_settings)
