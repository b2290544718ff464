"""`protoformer attention`: a page of the attention weights of all heads, and a table of notable heads.

Heads are named layer-head, both from 1, layer 1 is next to the embeddings.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from protoformer import hub
from protoformer.atomic import write_text
from protoformer.decoding.seq2seq import Seq2SeqParams, best_tokens, generate_targets
from protoformer.errors import ConfigurationError
from protoformer.inference.load import load
from protoformer.inference.opening.opened import OpenedModel
from protoformer.inference.opening.published import open_published
from protoformer.inference.queries.attributions import token_attributions
from protoformer.inference.queries.predict import predict
from protoformer.models.backbone import check_ids
from protoformer.models.encoder_decoder import EncoderDecoder
from protoformer.modules.queries import Query
from protoformer.text.tokenizers import valid_unicode
from protoformer.views.attention import PAGE_MARKER, page
from protoformer.views.head_statistics import top_heads
from protoformer.views.inspected_model import (
    InspectedModel,
    attention_panels,
    check_page_size,
    decoded_text,
    inspect_model,
    tokenized_text,
)
from protoformer.views.panels import Panel, TokenAttributions, TokenizedText
from protoformer.views.rollouts import with_rollout

HEADS_PER_LINE = 4  # heads in a line of the table
TOKENS_IN_LINE = 8  # with the largest attributions
NOTABLE = {"previous": "the previous token", "next": "the next token", "special": "special tokens"}


@dataclass(frozen=True)
class AttentionRequest:
    """A text or a pair, the layers to show (empty: all), and the number of padding tokens after the text.

    For an encoder-decoder `text_b` is the target; without one the model translates `text`. `steps` are those of integrated
    gradients (0: none are computed; None: as many as usual, where they take little time), of the logit of `target`, a label
    or a token (None: the predicted one).
    """

    text: str
    text_b: str | None = None
    layers: Sequence[int] = ()
    padding: int = 2
    steps: int | None = None
    target: str | None = None

    def __post_init__(self) -> None:
        """Halves of surrogate pairs, which no file can hold, become U+FFFD."""
        object.__setattr__(self, "text", valid_unicode(self.text))
        object.__setattr__(self, "text_b", None if self.text_b is None else valid_unicode(self.text_b))


def main(source: str, request: AttentionRequest, out: str) -> None:
    """Write the page and print the notable heads. Raises a one-line error for what cannot be shown."""
    path = writable_path(out)
    if request.steps is not None and request.steps < 0:
        raise ConfigurationError(f"--steps {request.steps}: at least 0")
    opened = _open(source)
    inspected = _inspected(opened, source)
    layers, texts = resolve(inspected, request)
    try:
        panels = attention_panels(inspected, texts, layers)
    except ConfigurationError as error:
        raise ConfigurationError(f"--layers: {error}") from None
    request_texts = [request.text] if request.text_b is None else [request.text, request.text_b]
    generated = [decoded_text(inspected, text) for text in texts[len(request_texts) :]]
    prediction = _prediction(opened, request) if opened.of_run else ""
    attributions = _attributions(opened, inspected, texts, request)
    panels = with_rollout(inspected, texts, panels)
    html = page(panels, inspected.name, [*request_texts, *generated], inspected.description, prediction, attributions)
    try:
        write_text(path, html)
    except OSError as error:
        raise ConfigurationError(f"--out {out}: {error.strerror or error}; choose another path") from None
    _print_heads(inspected, panels)
    _print_attributions(attributions)
    print(f"{path} ({len(html) / 2**20:.1f} MB)")


def writable_path(out: str) -> Path:
    """The path of the page, checked before anything is loaded. Raises ConfigurationError where it cannot be written."""
    path = Path(out).expanduser()
    folder = path.parent
    if not folder.is_dir():
        raise ConfigurationError(f"--out {out}: there is no folder {folder}; make it, or choose another path")
    if not os.access(folder, os.W_OK):
        raise ConfigurationError(f"--out {out}: {folder} cannot be written to; choose another path")
    if path.is_dir():
        raise ConfigurationError(f"--out {out}: a folder; name a file in it, such as {path / 'page.html'}")
    if path.exists() and PAGE_MARKER not in path.read_bytes()[:200].decode("utf-8", "replace"):
        raise ConfigurationError(f"--out {out}: this file exists and is no attention page; choose another name")
    return path


def load_model(source: str) -> InspectedModel:
    """Load a run, or weights of BERT, GPT, GPT-2 or Marian, from a folder or the hub."""
    return _inspected(_open(source), source)


def _open(source: str) -> OpenedModel:
    """A run, or weights with their head where they have one."""
    folder = Path(source).expanduser()
    if (folder / "config.yaml").is_file():
        return load(folder)
    name = "/".join(folder.absolute().parts[-2:]) if folder.is_dir() else source
    return open_published(hub.resolve_folder(source), name)


def _inspected(opened: OpenedModel, source: str) -> InspectedModel:
    """The model with its tokenizer and template."""
    choices = opened.config.get("choices", {})
    name = f"{choices['model']}, {choices['task']}" if {"model", "task"} <= choices.keys() else source
    return inspect_model(
        name if opened.of_run else opened.name,
        opened.model.backbone,
        opened.tokenizer,
        opened.template(),
        is_causal_lm=opened.model.is_causal_lm,
    )


def _attributions(
    opened: OpenedModel, inspected: InspectedModel, texts: list[TokenizedText], request: AttentionRequest
) -> TokenAttributions | str:
    """Integrated gradients, or why there are none. Raises ConfigurationError where they were requested."""
    if request.steps == 0 and request.target is None:
        return "left out by --steps 0"
    try:
        return token_attributions(opened.model, inspected, texts, request.steps or None, request.target)
    except ConfigurationError as error:
        if request.steps or request.target is not None:
            raise
        return str(error)


def _prediction(run: OpenedModel, request: AttentionRequest) -> str:
    """What a run predicts of the texts, as "paraphrase 72 %"; "" for a kind that predicts nothing of them."""
    try:
        rankings = predict(run, Query(request.text, request.text_b))
    except ConfigurationError:
        return ""
    best = [ranking.predictions[0] for ranking in rankings if ranking.predictions]
    return ", ".join(
        each.text if each.probability is None else f"{each.text} {100 * each.probability:.0f} %" for each in best
    )


def resolve(inspected: InspectedModel, request: AttentionRequest) -> tuple[list[int], list[TokenizedText]]:
    """Layers and tokenized texts of a request. Raises ConfigurationError for what a model lacks or a page cannot hold."""
    layers = _layers(inspected, request.layers)
    texts = tokenize(inspected, request)
    for text in texts:
        check_ids(inspected.model, "the texts", text.ids, text.segment_ids)
    try:
        check_page_size(len(layers), inspected.n_heads, *(len(text.ids) for text in texts))
    except ConfigurationError as error:
        raise ConfigurationError(f"{error} (--layers 1,2)") from None
    return layers, texts


def _layers(inspected: InspectedModel, requested: Sequence[int]) -> list[int]:
    """The requested layers, or all. Raises ConfigurationError for one that the model does not have."""
    if invalid := [layer for layer in requested if not 1 <= layer <= inspected.n_layers]:
        raise ConfigurationError(f"--layers {invalid[0]}: the model has layers 1 to {inspected.n_layers}")
    return sorted(set(requested)) or list(range(1, inspected.n_layers + 1))


def tokenize(inspected: InspectedModel, request: AttentionRequest) -> list[TokenizedText]:
    """The text as the model reads it, or source and target, each with padding. A text that is too long is an error."""
    if request.padding < 0:
        raise ConfigurationError(f"--padding {request.padding}: at least 0")
    texts = {"--text": request.text} | ({} if request.text_b is None else {"--text-b": request.text_b})
    encoded = inspected.tokenizer.encode(list(texts.values()))
    if isinstance(inspected.model, EncoderDecoder) and request.text_b is not None:
        encoded[1:] = inspected.tokenizer.encode_targets([request.text_b])
    for (name, text), tokens in zip(texts.items(), encoded, strict=True):
        if not tokens:
            raise ConfigurationError(f"{name} {text!r} is empty: there is no token in it")
    if isinstance(inspected.model, EncoderDecoder):
        source = [*encoded[0], inspected.template.eos_id]
        _check_length(inspected, len(source))  # before the source is translated
        target = [inspected.template.bos_id, *(encoded[1] if encoded[1:] else _translate(inspected, source))]
        return [_padded(inspected, ids, [0] * len(ids), request.padding) for ids in (source, target)]
    ids, segments, pooler_position = _apply_template(inspected, *encoded)
    return [replace(_padded(inspected, ids, segments, request.padding), pooler_position=pooler_position)]


def _padded(inspected: InspectedModel, ids: list[int], segments: list[int], padding: int) -> TokenizedText:
    _check_length(inspected, len(ids))
    return tokenized_text(inspected, ids, segments, min(padding, inspected.model.max_seq_len - len(ids)))


def _check_length(inspected: InspectedModel, tokens: int) -> None:
    positions = inspected.model.max_seq_len
    if tokens > positions:
        raise ConfigurationError(
            f"the text is {tokens} tokens long, the model has {positions} positions: give a shorter one"
        )


def _translate(inspected: InspectedModel, source: list[int]) -> list[int]:
    """The model's translation of a source, by the paper's beam search."""
    assert isinstance(inspected.model, EncoderDecoder)
    template, ids = inspected.template, torch.tensor([source])
    hypotheses = generate_targets(
        inspected.model,
        ids,
        torch.ones_like(ids, dtype=torch.bool),
        Seq2SeqParams(template.bos_id, template.eos_id, template.never_generated(inspected.model.target_vocab_size)),
    )
    return best_tokens(hypotheses[0], template.eos_id)


def _apply_template(
    inspected: InspectedModel, a: list[int], b: list[int] | None = None
) -> tuple[list[int], list[int], int]:
    """Ids, segments, and the position that heads read."""
    if inspected.template is not None:
        encoded = inspected.template.encode_texts([a], None if b is None else [b], len(a) + len(b or ()) + 3)
        return encoded.ids.tolist(), encoded.segment_ids.tolist(), int(encoded.pooler_position[0])
    if b is not None:
        raise ConfigurationError("--text-b: this model reads a single text; leave it out")
    return a, [0] * len(a), len(a) - 1


def _print_heads(inspected: InspectedModel, panels: Sequence[Panel]) -> None:
    print(inspected.description)
    for panel in panels:
        count = sum(not token.padding for token in panel.keys)
        print(f"{panel.name}, {count} tokens; heads (layer-head) with the largest mean weight on")
        statistics = panel.statistics()._asdict()
        for name, description in NOTABLE.items():
            heads = [] if statistics[name] is None else top_heads(statistics[name], HEADS_PER_LINE)
            if heads and heads[0][2] > 0:  # 0 where the mask hides those tokens
                cells = (f"{panel.layers[layer]}-{head + 1} {weight:4.0%}" for layer, head, weight in heads)
                print(f"  {description:<18}  {'   '.join(cells)}")


def _print_attributions(attributions: TokenAttributions | str) -> None:
    if isinstance(attributions, str):
        print(f"no integrated gradients: {attributions}")
        return
    result = attributions.attributions
    print(
        f"integrated gradients, logit of {attributions.target}: {result.logit:.2f}, of the baseline "
        f"{result.baseline_logit:.2f}; {result.steps} steps, completeness error {100 * result.relative_error:.2g} %"
    )
    largest = attributions.largest(TOKENS_IN_LINE)
    print(f"  {'   '.join(f'{text} {value:+.2g}' for text, value in largest)}")
