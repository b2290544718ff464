"""The page of arcs: a sentence with the arcs of its tree above, and below what each word attends to most, of any head."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import resources

from protoformer.views.html_page import filled

ARCS_MARKER = "<!-- arcs, a page of protoformer -->"
ASSETS = resources.files("protoformer.views")


@dataclass(frozen=True)
class ShownSentence:
    """Words, arcs (dependent, head, relation) numbered from 0, the root's number, and of each head and word the word that is
    attended to most (-1: punctuation, or none), and its weight in per cent."""

    words: Sequence[str]
    arcs: Sequence[tuple[int, int, str]]
    root: int
    attended: Sequence[Sequence[int]]
    weights: Sequence[Sequence[int]]


@dataclass(frozen=True)
class BestHead:
    """A relation in one direction, the head that was chosen for it, and the fraction of arcs that it finds, in per cent."""

    relation: str
    direction: str
    head: int
    accuracy: float
    offset_accuracy: float


def arcs_page(
    model: str,
    treebank: str,
    note: str,
    heads: Mapping[int, int],
    sentences: Sequence[ShownSentence],
    best: Sequence[BestHead],
) -> str:
    """The page's HTML. `heads` are the numbers of heads of the layers by their number; `note` says what is shown."""
    assets = ASSETS / "arcs_page"
    template, own_style, script = (
        (assets / name).read_text(encoding="utf-8") for name in ("page.html", "page.css", "page.js")
    )
    style = (ASSETS / "attention_page" / "page.css").read_text(encoding="utf-8") + own_style
    data = {
        "model": model,
        "treebank": treebank,
        "note": note,
        "layers": [[layer, count] for layer, count in heads.items()],
        "sentences": [vars(sentence) for sentence in sentences],
        "best": [vars(each) for each in best],
    }
    title = f"Heads and syntax · {model} · {treebank}"
    return filled(template, mark=ARCS_MARKER, title=title, style=style, script=script, data=data)
