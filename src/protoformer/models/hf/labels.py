"""Words of a classifier's labels in `config.json`."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from protoformer.errors import WeightsError
from protoformer.json_files import Values, shown

MOST_LABELS = 2**20


def label_words(config: Mapping[str, object]) -> list[str] | None:
    """The words in order; None for a regression: one label, or `problem_type` says so. Raises WeightsError for one word of two
    labels, and for a head that gives a text several labels.

    Labels without a word are LABEL_0, LABEL_1, ...: `transformers` leaves its default out of the file (two of them), and files
    may say a `num_labels` with fewer words.
    """
    values = Values(config)
    words = _by_index(values)
    known = max(words, default=1) + 1
    count = values.whole("num_labels", known, maximum=MOST_LABELS)
    problem_type = values.text("problem_type")
    if problem_type == "multi_label_classification":
        raise values.wrong("problem_type", "a head that gives each text one label, as all heads here do")
    if max(count, len(words)) == 1 or problem_type == "regression":
        return None
    return [words.get(index, f"LABEL_{index}") for index in range(max(count, known if words else 0))]


def fitted(labels: list[str] | None, rows: int) -> list[str] | None:
    """The words of a head's `rows` labels, whatever number of words its `config.json` has; None for a regression's one row."""
    if labels is None or rows == 1:
        return None
    return [*labels[:rows], *(f"LABEL_{index}" for index in range(len(labels), rows))]


def _by_index(values: Values) -> dict[int, str]:
    """Index -> word, of `id2label`, or else of `label2id`."""
    words: dict[int, str] = {}
    for key, reverse in (("id2label", False), ("label2id", True)):
        listed = values.get(key)
        is_list = isinstance(listed, list)  # of words in order, under either key
        for left, right in enumerate(listed) if is_list else values.mapping(key).items():
            index, word = (right, left) if reverse and not is_list else (left, right)
            try:
                words[_index(index)] = str(word)
            except (TypeError, ValueError):
                raise WeightsError(
                    f"{values.origin}: {key}: {shown(left)}: {shown(right)}; expected numbers of labels and words"
                ) from None
        if words:
            break
    if doubled := next((word for word, count in Counter(words.values()).items() if count > 1), None):
        raise WeightsError(f"{values.origin}: two labels are called {shown(doubled)}; give each a word of its own")
    return words


def _index(value: Any) -> int:
    number = int(value)
    if not 0 <= number < MOST_LABELS:
        raise ValueError
    return number


def label_config(labels: Sequence[str] | None) -> dict[str, object]:
    words = labels or ["score"]
    return {
        "id2label": {str(index): word for index, word in enumerate(words)},
        "label2id": {word: index for index, word in enumerate(words)},
        "problem_type": "single_label_classification" if labels else "regression",
    }
