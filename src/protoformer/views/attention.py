"""The attention page: one HTML file that needs nothing but a browser.

Weights are quantised to bytes, 255 sqrt(w): the square root keeps differences between small weights, and the error is at most
0.004.
"""

import base64
import math
import zlib
from collections.abc import Iterable, Mapping, Sequence
from importlib import resources

import numpy as np
import torch
from jaxtyping import Bool, Float, UInt8
from numpy import ndarray
from torch import Tensor

from protoformer.views.html_page import filled
from protoformer.views.panels import Panel, RolloutPanel, Token, TokenAttributions

PAGE_MARKER = "<!-- attention, a page of protoformer -->"  # only a file with this line is overwritten
MAX_WEIGHTS = 48 * 2**20  # in a page, one byte each: at most 64 MiB in base64, where nothing compresses them
SCRIPTS = ("data.js", "tokens.js", "overview.js", "lines.js", "matrix.js", "readout.js", "page.js")
MAX_TITLE = 70  # characters of the text in the page's title


def page(
    panels: Sequence[Panel],
    model: str,
    texts: Sequence[str],
    note: str = "",
    prediction: str = "",
    attributions: TokenAttributions | str = "this page was written without them; protoformer attention computes them",
) -> str:
    """The page's HTML. `model` and `texts` name the model and its inputs; `note` is shown in the help, `prediction`, what the
    model says of the texts, beside them. `attributions` are of the first text, or say why there are none."""
    assets = resources.files("protoformer.views") / "attention_page"
    template, style, *scripts = (
        (assets / name).read_text(encoding="utf-8") for name in ("page.html", "page.css", *SCRIPTS)
    )
    script = "\n".join(scripts)
    title_text = " · ".join(" ".join(text.split()) for text in texts)
    data = {
        "model": model,
        "note": note,
        "texts": list(texts),
        "prediction": prediction,
        "panels": [_panel(panel, attributions) for panel in panels],
        "gradients": {"reason": attributions} if isinstance(attributions, str) else _gradients(attributions),
    }
    title = f"Attention · {model} · {title_text[:MAX_TITLE]}{'...' if len(title_text) > MAX_TITLE else ''}"
    return filled(template, mark=PAGE_MARKER, title=title, style=style, script=script, data=data)


def quantize(weights: Float[Tensor, "..."]) -> UInt8[ndarray, "..."]:
    """Weights from 0 to 1 as bytes, 255 sqrt(w) rounded."""
    return (weights.clamp(0, 1).sqrt() * 255).round().to(torch.uint8).numpy()


def _panel(panel: Panel, attributions: TokenAttributions | str) -> dict[str, object]:
    distinct_masks: list[Bool[Tensor, "queries keys"]] = []
    mask_index = []
    for mask in panel.visible:
        index = next((n for n, earlier in enumerate(distinct_masks) if torch.equal(earlier, mask)), len(distinct_masks))
        distinct_masks += [mask] if index == len(distinct_masks) else []
        mask_index.append(index)
    return {
        "name": panel.name,
        "cross_attention": panel.cross_attention,
        "layers": list(panel.layers),
        "heads": panel.weights.shape[1],
        "opening": panel.telling_head(),
        "queries": _tokens(panel.queries),
        "keys": _tokens(panel.keys),
        "masks": [_compressed(np.packbits(mask.numpy())) for mask in distinct_masks],
        "mask_index": mask_index,
        "weights": _compressed(quantize(panel.weights)),
        "statistics": _statistics(panel.statistics()._asdict()),
        "rollout": None if panel.rollout is None else _rollout(panel.rollout),
        "attributed": isinstance(attributions, TokenAttributions) and _real(panel.keys) == _real(attributions.tokens),
    }


def _rollout(rollout: RolloutPanel) -> dict[str, str]:
    return {
        "weights": _compressed(quantize(rollout.weights)),
        "mask": _compressed(np.packbits(rollout.reach.numpy())),
    }


def _gradients(token_attributions: TokenAttributions) -> dict[str, object]:
    """Attributions of the tokens, rounded to six significant digits, and what their sum should be."""
    attributions = token_attributions.attributions
    return {
        "target": token_attributions.target,
        "values": [float(f"{value:.6g}") for value in attributions.values.tolist()],
        "logit": attributions.logit,
        "baseline": attributions.baseline_logit,
        "sum": float(attributions.values.sum()),
        "error": attributions.relative_error,
        "steps": attributions.steps,
    }


def _real(tokens: Iterable[Token]) -> list[Token]:
    return [token for token in tokens if not token.padding]


def _tokens(tokens: Iterable[Token]) -> list[list[object]]:
    """[text, segment, kind], where kind is 0 for text, 1 for special tokens, 2 for padding."""
    return [[token.text, token.segment, 2 if token.padding else 1 if token.special else 0] for token in tokens]


def _statistics(numbers: Mapping[str, Tensor | None]) -> dict[str, list[list[float | None]]]:
    """Rounded to four digits; null for NaN."""
    return {
        name: [[round(x, 4) if math.isfinite(x) else None for x in row] for row in values.tolist()]
        for name, values in numbers.items()
        if values is not None
    }


def _compressed(array: UInt8[ndarray, "..."]) -> str:
    return base64.b64encode(zlib.compress(array.tobytes(), 6)).decode()
