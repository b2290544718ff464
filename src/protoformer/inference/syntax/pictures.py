"""The figure of all heads, and the page of sentences with their arcs."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch

from protoformer.atomic import write_text
from protoformer.inference.syntax.output import file_name
from protoformer.inference.syntax.probe import Baseline, Choice, Counting, Report
from protoformer.inference.syntax.sentence_attention import EncodedSentence, Side, word_attention
from protoformer.syntax import relations
from protoformer.syntax.relations import Direction
from protoformer.syntax.treebank import PUNCTUATION
from protoformer.views.arcs import BestHead, ShownSentence, arcs_page
from protoformer.views.heads.relation_grid import GridHead, draw_grid
from protoformer.views.inspected_model import InspectedModel

SHOWN, WORDS = 12, range(6, 17)  # sentences of a page, and numbers of words that fit it
MIN_GAIN = 0.1  # over the best offset, of a head that has a colour
ARROW = {Direction.TO_HEAD: "→ head", Direction.TO_DEPENDENT: "→ dep."}


def draw_heads(
    folder: Path,
    model: str,
    treebank: str,
    choice: Choice,
    report: Report,
    counting: Counting,
    layers: Mapping[int, int],
) -> Path:
    """heads.<treebank>.svg. A head's relation is chosen as heads are, and its accuracy is of this treebank."""
    accuracy, arcs = 100 * report.accuracy(), report.arcs.sum(axis=0)
    flat = []
    for head, cell in enumerate(choice.relation):
        relation, direction = counting.cells[int(cell)]
        above = choice.gain[head] >= MIN_GAIN and arcs[cell] >= counting.at_least
        flat.append(GridHead(relation if above else None, ARROW[direction], float(accuracy[cell, head])))
    rows, first = {}, 0
    for layer, heads in layers.items():
        rows[layer] = flat[first : first + heads]
        first += heads
    order = list(dict.fromkeys(relation for relation, _ in counting.cells))
    title = f"{model}, {treebank}"
    return draw_grid(title, rows, order, folder / f"heads.{file_name(treebank)}.svg")


def write_page(
    folder: Path, inspected: InspectedModel, encoded: Sequence[EncodedSentence], treebank: str, side: Side | None,
    choice: Choice, report: Report, baseline: Baseline, counting: Counting, layers: Mapping[int, int],
) -> Path:  # fmt: skip
    """arcs.<treebank>.html."""
    fitting = [each for each in encoded if len(each.sentence) in WORDS] or sorted(
        encoded, key=lambda each: len(each.sentence)
    )
    shown = []
    for batch in word_attention(inspected, fitting[:SHOWN], side):
        attended = relations.most_attended(batch, special_tokens=counting.special_tokens)
        weights = batch.weights.gather(-1, attended.clamp(min=0)[..., None])[..., 0]
        for row, sentence in enumerate(batch.sentences):
            words = len(sentence)
            nothing = torch.tensor([part == PUNCTUATION for part in sentence.parts_of_speech])
            own = attended[row, :, :words].masked_fill(nothing | (weights[row, :, :words] <= 0), -1)
            shown.append(
                ShownSentence(
                    sentence.forms, sentence.arcs, sentence.heads.index(-1), own.tolist(),
                    (100 * weights[row, :, :words]).round().int().tolist(),
                )
            )  # fmt: skip
    arcs, correct = report.arcs.sum(axis=0), report.by_head.sum(axis=0)
    assert report.by_offset is not None
    by_offset = report.by_offset.sum(axis=0)
    gains = np.where(arcs > 0, (correct - by_offset) / np.maximum(arcs, 1), -np.inf)
    best = [
        BestHead(
            counting.cells[cell][0], counting.cells[cell][1].value, int(choice.heads[cell]),
            float(100 * correct[cell] / arcs[cell]), float(100 * by_offset[cell] / arcs[cell]),
        )
        for cell in np.argsort(-gains, kind="stable").tolist()
        if arcs[cell] >= max(1, counting.at_least)
    ]  # fmt: skip
    special = "special tokens included (no arc)" if counting.special_tokens else "without special tokens"
    note = f"Above the words the arcs of the treebank; below, what each word attends to most, {special}."
    path = folder / f"arcs.{file_name(treebank)}.html"
    write_text(path, arcs_page(inspected.name, treebank, note, layers, shown, best))
    return path
