"""A page to look at attention: one HTML file that needs nothing but a browser.

Weights are kept as bytes, 255 times their square root, rounded: small ones keep their differences, and none is off by more
than 0.004. Text goes in as JSON with `<`, `>` and `&` escaped, and the page writes it as text alone; a content security policy
lets no script run but the page's own, and lets it load nothing.
"""

import base64
import hashlib
import html
import json
import math
import zlib
from collections.abc import Iterable, Mapping, Sequence
from importlib import resources
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, UInt8
from numpy import ndarray
from torch import Tensor

from protoformer.views.panels import Panel, Token

MARK = "<!-- attention, a page of protoformer -->"  # what says that a file may be written anew
LARGEST = 48 * 2**20  # weights in a page: in base64 at most 64 MiB, for bytes that nothing makes shorter
SCRIPTS = ("data.js", "overview.js", "lines.js", "matrix.js", "readout.js", "page.js")
TITLE = 70  # characters of the text in the page's title


def page(panels: Sequence[Panel], model: str, texts: Sequence[str], note: str = "") -> str:
    """The page's HTML. `model` and `texts` say what is looked at, `note` whatever else is to be known of the model."""
    assets = resources.files("protoformer.views") / "attention_page"
    template, style, *scripts = (
        (assets / name).read_text(encoding="utf-8") for name in ("page.html", "page.css", *SCRIPTS)
    )
    script = "\n".join(scripts)
    shown = " · ".join(" ".join(text.split()) for text in texts)
    data = {"model": model, "note": note, "texts": list(texts), "panels": [_panel(panel) for panel in panels]}
    parts = {
        "mark": MARK,
        "policy": f"default-src 'none'; script-src '{_digest(script)}'; style-src '{_digest(style)}'; base-uri 'none'",
        "title": html.escape(f"Attention · {model} · {shown[:TITLE]}{'...' * (len(shown) > TITLE)}"),
        "style": style,
        "data": _as_json(data),
        "script": script,
    }
    before, *pieces = template.split("{{")
    return before + "".join(parts[name] + rest for name, _, rest in (piece.partition("}}") for piece in pieces))


def codes(weights: Float[Tensor, "..."]) -> UInt8[ndarray, "..."]:
    """Weights from 0 to 1 as bytes: 255 sqrt(w), rounded."""
    return (weights.clamp(0, 1).sqrt() * 255).round().to(torch.uint8).numpy()


def _panel(panel: Panel) -> dict[str, Any]:
    distinct: list[Bool[Tensor, "queries keys"]] = []
    mask_of = []
    for mask in panel.seen:
        number = next((n for n, known in enumerate(distinct) if torch.equal(known, mask)), len(distinct))
        distinct += [mask] if number == len(distinct) else []
        mask_of.append(number)
    return {
        "name": panel.name,
        "crosses": panel.crosses,
        "layers": list(panel.layers),
        "heads": panel.weights.shape[1],
        "queries": _tokens(panel.queries),
        "keys": _tokens(panel.keys),
        "masks": [_packed(np.packbits(mask.numpy())) for mask in distinct],
        "mask_of": mask_of,
        "weights": _packed(codes(panel.weights)),
        "numbers": _numbers(panel.numbers()._asdict()),
    }


def _tokens(tokens: Iterable[Token]) -> list[list[Any]]:
    """[text, segment, kind], where kind is 0 for text, 1 for special tokens, 2 for padding."""
    return [[one.text, one.segment, 2 if one.padding else 1 if one.special else 0] for one in tokens]


def _numbers(numbers: Mapping[str, Tensor | None]) -> dict[str, list[list[float | None]]]:
    """Rounded, and null where there is none."""
    return {
        name: [[round(x, 4) if math.isfinite(x) else None for x in row] for row in values.tolist()]
        for name, values in numbers.items()
        if values is not None
    }


def _packed(array: UInt8[ndarray, "..."]) -> str:
    return base64.b64encode(zlib.compress(array.tobytes(), 6)).decode()


def _as_json(data: Mapping[str, Any]) -> str:
    """JSON that ends no script element and starts no comment in one."""
    text = json.dumps(data, ensure_ascii=True, separators=(",", ":"))
    return text.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e")


def _digest(text: str) -> str:
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"
