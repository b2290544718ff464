"""Queries: a text that a trained run is asked about, and its ranked predictions.

`TaskModule.predict_queries` answers queries: it checks which texts its kind needs, has them encoded as the run's own data are
(`QueryEncoder`), and ranks what the model predicts. `TaskModule.prediction_row` is an answer as a line of a file.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from jaxtyping import Float
from torch import Tensor

from protoformer.text.tokenizers import Tokenizer, valid_unicode


@dataclass(frozen=True)
class Query:
    """A text; beside it the second text of a pair (or the context of a question) or choices; and the number of predictions."""

    text: str
    pair: str | None = None
    choices: Sequence[str] = ()
    top: int = 5

    def __post_init__(self) -> None:
        """Halves of surrogate pairs, which no file can hold, become U+FFFD."""
        object.__setattr__(self, "text", valid_unicode(self.text))
        object.__setattr__(self, "pair", None if self.pair is None else valid_unicode(self.pair))
        object.__setattr__(self, "choices", tuple(map(valid_unicode, self.choices)))


@dataclass(frozen=True)
class QueryColumns:
    """Columns of a data set that hold what a query does.

    `texts` are joined to the text. `pair` None: there is no second text. Choices are a column each, or with `options` a column
    of lists; each follows the text of the column `stem`, or stands at the `blank` of the text (Winogrande's `_`).
    """

    texts: Sequence[str]
    pair: str | None = None
    choices: Sequence[str] = ()
    options: str | None = None
    stem: str | None = None
    blank: str | None = None


@dataclass(frozen=True)
class Prediction:
    """A label, word, answer or choice with its probability; of a regression the number, without one."""

    text: str
    probability: float | None = None


@dataclass(frozen=True)
class RankedPredictions:
    """Predictions of one thing (`title`: "label", "answer", one mask of several), the most probable first."""

    title: str
    predictions: Sequence[Prediction]


class EncodedRows(Protocol):
    """Rows encoded by a run's datamodule: their batches, and the references that their evaluation needs (texts, answers)."""

    @property
    def references(self) -> Any: ...

    def batches(self) -> Iterator[Any]:
        """Rows of similar length together; `example_ids` are their numbers."""
        ...


class QueryEncoder(Protocol):
    """Encodes texts as the run's own data are encoded. `reader` names the columns of the run's data set.

    A model that is not `of_run` has no data set of its own: its reader's columns are only names.
    """

    tokenizer: Tokenizer
    reader: Any
    of_run: bool

    def encode_texts(self, texts: Sequence[str], pairs: Sequence[str] | None = None) -> dict[str, Tensor]:
        """A batch of texts, or of pairs, by the model's input template alone."""
        ...

    def encode_batches(self, texts: Sequence[str], pairs: Sequence[str] | None = None) -> Iterator[dict[str, Tensor]]:
        """The same in batches of texts of similar length; `example_ids` are their numbers."""
        ...

    def encode_rows(self, columns: Mapping[str, Sequence[object]], reader: object = None) -> EncodedRows:
        """Rows of the data set, by name of column, as the datamodule encodes them (with another `reader` than the run's)."""
        ...


def rounded(probability: float) -> float:
    """A probability as files hold it."""
    return round(probability, 5)


def ranked(names: Sequence[str], logits: Float[Tensor, "classes"], top: int) -> list[Prediction]:
    """The `top` classes of a softmax over `logits`."""
    probs, indices = logits.softmax(-1).topk(min(top, len(names)))
    return [Prediction(names[index], prob) for prob, index in zip(probs.tolist(), indices.tolist(), strict=True)]
