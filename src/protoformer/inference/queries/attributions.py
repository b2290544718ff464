"""Integrated gradients of an inspected model's text: the path from a baseline, and the logit that is attributed.

The baseline has the special tokens, positions and segments of the text, and the zero vector in place of every other token's
embedding: the baseline for texts of Sundararajan et al. 2017 (arXiv 1703.01365, section 3). It says nothing about the text,
and every family has it; [MASK] and [PAD] are trained tokens of BERT's, and GPT-2 has neither.
"""

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from protoformer.attribution.integrated_gradients import Logits, integrated_gradients, replaced_embeddings
from protoformer.blocks.kernels.packing import HiddenStates
from protoformer.errors import ConfigurationError
from protoformer.models.backbone import Backbone
from protoformer.models.encoder_decoder import EncoderDecoder
from protoformer.modules.logit_targets import EncodedQuery
from protoformer.modules.task_module import TaskModule
from protoformer.text.tokenizers import Tokenizer
from protoformer.views.inspected_model import InspectedModel
from protoformer.views.panels import TokenAttributions, TokenizedText
from protoformer.views.token_labels import token_labels

DEFAULT_STEPS = 64
MAX_FLOPS = 2e12  # what a page takes without being asked for it: BERT-base over 90 tokens, half a minute on one core
TOKENS_AT_ONCE = 2048  # of the texts along the path that are in memory at once


def token_attributions(
    module: TaskModule, inspected: InspectedModel, texts: list[TokenizedText], steps: int | None, requested: str | None
) -> TokenAttributions:
    """Attributions of the tokens of the first text; of a translation to its target's tokens, whose input stays as it is.

    `steps` None: DEFAULT_STEPS. `requested` names a label or a token. Raises ConfigurationError where there is no logit to
    attribute, or (`steps` None) it would take more than MAX_FLOPS.
    """
    text = texts[0].without_padding()
    special = torch.tensor([token.special for token in text.tokens])
    embedding = getattr(getattr(inspected.model, "embeddings", None), "token", None)
    if not isinstance(embedding, nn.Module):
        raise ConfigurationError("this model has no token embeddings that gradients could be taken of")
    if special.all():
        raise ConfigurationError("the text has special tokens alone, and the baseline keeps those")
    steps = _affordable(inspected.model, texts) if steps is None else steps
    with torch.no_grad():
        embeddings = embedding(text.ids.to(next(embedding.parameters()).device))
    if isinstance(inspected.model, EncoderDecoder):
        target = texts[1].without_padding()
        name, logits = _of_translation(inspected.model, inspected.tokenizer, text, target, requested)
    else:
        name, logits = _of_backbone(module, inspected, text, requested)
    baseline = torch.where(special[:, None].to(embeddings.device), embeddings, 0.0)
    points = max(1, TOKENS_AT_ONCE // len(text.ids))
    return TokenAttributions(name, text.tokens, integrated_gradients(logits, embeddings, baseline, steps, points))


def _affordable(model: nn.Module, texts: list[TokenizedText]) -> int:
    """DEFAULT_STEPS, if the page can have them unasked."""
    weights = sum(parameter.numel() for parameter in model.parameters() if parameter.ndim > 1)
    weights -= sum(part.weight.numel() for part in model.modules() if isinstance(part, nn.Embedding))
    tokens = max(len(text.without_padding().ids) for text in texts)
    flops = 4.0 * weights * tokens * DEFAULT_STEPS  # forward, and backward to the inputs alone
    if flops > MAX_FLOPS:
        raise ConfigurationError(
            f"{DEFAULT_STEPS} steps over {tokens} tokens take {flops / 1e12:.0f} TFLOP; --steps {DEFAULT_STEPS} computes them"
        )
    return DEFAULT_STEPS


def _of_backbone(
    module: TaskModule, inspected: InspectedModel, text: TokenizedText, requested: str | None
) -> tuple[str, Logits]:
    model = inspected.model
    assert isinstance(model, Backbone)
    ids, segments = text.ids, torch.zeros_like(text.ids) if text.segment_ids is None else text.segment_ids
    device = next(model.parameters()).device

    def hidden(points: Float[Tensor, "points seq d_model"]) -> HiddenStates:
        with replaced_embeddings(model.embeddings.token, points):
            inputs = (ids, torch.ones_like(ids).bool(), segments)
            batch_ids, mask, batch_segments = (_repeated(each, len(points), device) for each in inputs)
            # forward and not __call__: a model that is compiled in place would be compiled again for this
            return model.forward(batch_ids, mask, batch_segments)

    special = torch.tensor([token.special for token in text.tokens])
    with torch.no_grad():
        states = hidden(model.embeddings.token(ids.to(device))[None])
        query = EncodedQuery(ids, special, text.pooler_position, states, inspected.tokenizer, requested)
        target = module.logit_target(query)
    label = [] if target.token_id is None else [f"“{_label(inspected.tokenizer, target.token_id)}”"]
    return " ".join([target.name, *label]), lambda points: target.logit(hidden(points)).float()


def _of_translation(
    model: EncoderDecoder, tokenizer: Tokenizer, source: TokenizedText, target: TokenizedText, requested: str | None
) -> tuple[str, Logits]:
    """The sum of the logits of the target's tokens, each after those before it, or the logit of the requested one."""
    device = next(model.parameters()).device
    ids = target.ids.to(device)
    read, next_ids = ids[:-1], ids[1:]
    if not len(next_ids):
        raise ConfigurationError("the target has no token")
    chosen = list(range(len(next_ids)))
    name = "all tokens of the target, summed"
    if requested is not None:
        labels = [token.text for token in target.tokens[1:]]
        chosen = [index for index in chosen if requested in (labels[index], _word(labels[index]))][:1]
        if not chosen:
            raise ConfigurationError(f"--target {requested!r}: the tokens of the target are {', '.join(labels)}")
        name = f"target token “{labels[chosen[0]]}” ({chosen[0] + 2})"

    def logits(points: Float[Tensor, "points seq d_model"]) -> Float[Tensor, "points"]:
        count = len(points)
        with replaced_embeddings(model.embeddings.token, points):
            mask = torch.ones(count, points.shape[1], dtype=torch.bool, device=device)
            memory = model.encode(_repeated(source.ids, count, device), mask)
        read_mask = torch.ones(count, len(read), dtype=torch.bool, device=device)
        states = model.decode(_repeated(read, count, device), read_mask, memory).to_padded()[:, chosen]
        rows = next_ids[chosen]
        of_tokens = torch.einsum("ptd,td->pt", states, model.output_weight[rows])
        return (of_tokens if model.bias is None else of_tokens + model.bias[rows]).sum(1).float()

    return name, logits


def _repeated(row: Tensor, count: int, device: torch.device) -> Int[Tensor, "points seq"]:
    return row.to(device)[None].expand(count, -1)


def _label(tokenizer: Tokenizer, token_id: int) -> str:
    return token_labels(tokenizer, [token_id])[0]


def _word(label: str) -> str:
    """A label without the mark of a space before it, or of a word that goes on."""
    return label.strip("·▁-")
