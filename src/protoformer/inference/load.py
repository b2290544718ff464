"""A model opened for use, for notebooks and for every verb: from a run folder, a Hugging Face folder, or the hub."""

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import fields
from pathlib import Path
from typing import Any, overload

from protoformer import hub
from protoformer.distributed.backends import disable_cudnn_attention
from protoformer.errors import ConfigurationError, RunFolderError
from protoformer.inference.opening.opened import OpenedModel
from protoformer.inference.opening.published import open_published
from protoformer.inference.opening.run import open_run
from protoformer.inference.queries.hidden_states import EncodedText, cache_text, encode_text
from protoformer.inference.queries.predict import prediction_rows
from protoformer.interventions.activations import Activations, Replacement, replaced
from protoformer.modules.queries import Query
from protoformer.runs.folder import runs_beside


class LoadedRun(OpenedModel):
    """A task's module in evaluation mode on the CPU (`.model`), its `.tokenizer`, and the `.config` that it is built from."""

    @overload
    def predict(
        self, texts: str, pairs: str | None = None, *, choices: Sequence[str] = (), top: int = 5
    ) -> dict[str, object]: ...

    @overload
    def predict(
        self,
        texts: Sequence[str],
        pairs: Sequence[str] | None = None,
        *,
        choices: Sequence[Sequence[str]] = (),
        top: int = 5,
    ) -> list[dict[str, object]]: ...

    def predict(self, texts: Any, pairs: Any = None, *, choices: Any = (), top: int = 5) -> Any:
        """The prediction for each text (for one, where `texts` is a str): `prediction`, `probabilities`, as in files.

        `pairs` are second texts, or the contexts of questions; `choices` those of each text. Raises ConfigurationError for
        texts that the kind of task does not take.
        """
        if isinstance(texts, str):
            return prediction_rows(self, [Query(texts, pairs, choices, top)])[0]
        texts = _checked(texts)
        of_texts = [list(each or [None] * len(texts)) for each in (pairs, choices)]
        for name, each in zip(("pairs", "choices"), of_texts, strict=True):
            if len(each) != len(texts):
                raise ConfigurationError(f"{len(texts)} texts and {len(each)} {name}: one for each text")
        queries = [Query(text, pair, choice or (), top) for text, pair, choice in zip(texts, *of_texts, strict=True)]
        return prediction_rows(self, queries) if queries else []

    @overload
    def encode(self, texts: str, pairs: str | None = None) -> EncodedText: ...

    @overload
    def encode(self, texts: Sequence[str], pairs: Sequence[str] | None = None) -> list[EncodedText]: ...

    def encode(self, texts: Any, pairs: Any = None) -> Any:
        """Tokens, hidden states of every layer and attention weights of each text (of one, where `texts` is a str).

        The texts get the special tokens that the model was trained with; `pairs` are their second texts.
        """
        if isinstance(texts, str):
            return encode_text(self, texts, pairs)
        texts = _checked(texts)
        pairs = [None] * len(texts) if pairs is None else list(pairs)
        if len(pairs) != len(texts):
            raise ConfigurationError(f"{len(texts)} texts and {len(pairs)} pairs: one for each text")
        return [encode_text(self, text, pair) for text, pair in zip(texts, pairs, strict=True)]

    def cache(self, text: str, pair: str | None = None) -> Activations:
        """Activations of a text by name, such as `layers.3` or `layers.3.heads` (`interventions.activations` lists them), on
        the CPU; of an encoder-decoder those of its encoder.

        `embeddings` and `layers.N` have shape `(tokens, d_model)`, as have `layers.N.attention` and `layers.N.feed_forward`,
        what these add to the residual stream; `layers.N.heads` has `(tokens, heads, d_head)`.
        """
        return cache_text(self, text, pair)

    def patch(self, replacements: Mapping[str, Replacement]) -> AbstractContextManager[None]:
        """Within `with run.patch({"layers.3.heads": value}):` every pass of the model computes with these activations in place
        of its own: tensors as `cache` gives them, or functions from an activation (with a batch axis or packed, as the pass has
        it) to another one. `predict`, `encode` and `cache` then see their consequences.

        Raises ConfigurationError for a name that the model lacks; a pass over a text of other length raises it too.
        """
        return replaced(self.model.backbone, replacements)


def _checked(texts: Any) -> list[str]:
    """Texts as a list. Raises TypeError for one that is none, such as a pair as a tuple."""
    texts = list(texts)
    for index, text in enumerate(texts):
        if not isinstance(text, str):
            raise TypeError(
                f"texts[{index}] is of type {type(text).__name__}, not str; second texts of pairs are a list of their own: "
                "predict(texts, pairs)"
            )
    return texts


def load(source: str | Path) -> LoadedRun:
    """Open a run folder, a folder of published weights (BERT, GPT, GPT-2, Marian), or a hub id.

    Of a run the weights are those of the best checkpoint; of one that was only tested, those that it tested.
    Raises RunFolderError when the folder holds no model or the run has trained nothing yet, WeightsError for weights that
    cannot be read or fetched.
    """
    disable_cudnn_attention()
    folder = Path(source).expanduser()
    if (folder / "config.yaml").is_file() or (folder / "checkpoints").is_dir():
        opened = open_run(folder)
    elif folder.is_dir() and not (folder / "config.json").exists():
        raise RunFolderError(
            f"{folder}: no config.yaml and no config.json, so this is neither a run folder nor a folder of weights"
            f"{runs_beside(folder)}"
        )
    elif not folder.exists() and hub.is_path(str(source)):
        raise RunFolderError(f"{source}: no such run folder{runs_beside(folder.parent)}")
    else:
        name = "/".join(folder.absolute().parts[-2:]) if folder.is_dir() else str(source)
        opened = open_published(hub.resolve_folder(str(source)), name)
    return LoadedRun(**{field.name: getattr(opened, field.name) for field in fields(OpenedModel)})
