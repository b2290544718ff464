"""The command: reads treebanks, runs the model and random ones, prints and writes what heads find."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path

from protoformer.errors import ConfigurationError
from protoformer.inference.attention import load_model
from protoformer.inference.files.progress import Progress, counted
from protoformer.inference.syntax import output, pictures, probe, results, treebanks
from protoformer.inference.syntax.probe import Baseline, Choice, Counting, Report
from protoformer.inference.syntax.random_models import random_model
from protoformer.inference.syntax.sentence_attention import (
    EncodedSentence,
    Side,
    checked_side,
    encode,
    is_causal,
    layers_of,
    word_attention,
)
from protoformer.syntax import relations
from protoformer.syntax.treebank import Sentence
from protoformer.syntax.word_attention import WordAttention
from protoformer.views.inspected_model import InspectedModel

PARTS = {"source": "encoder:", "target": "decoder:", "cross": "cross:"}  # before heads, as `probe ablate` names them
REPORTED_ARCS = 20  # at least, of a relation in the treebank that is reported on


@dataclass(frozen=True)
class ProbeRequest:
    """`report_on` empty: half of the treebank's sentences are reported on, heads are chosen on the others."""

    treebank: str
    report_on: Sequence[str] = ()
    side: Side | None = None
    random_seeds: int = 3
    at_least: int = 100
    sentences: int | None = None
    special_tokens: bool = False
    out: str | None = None


@dataclass(frozen=True)
class Probing:
    """A model, or random ones of its shape, over encoded treebanks: which all have the same tokens."""

    models: Iterable[InspectedModel]  # the first one is trained
    side: Side | None
    progress: Progress

    def attended(self, model: InspectedModel, encoded: Sequence[EncodedSentence], done: int) -> Iterator[WordAttention]:
        for batch in word_attention(model, encoded, self.side):
            yield batch
            done += len(batch.sentences)
            self.progress.update(done)


def main(source: str, request: ProbeRequest) -> None:
    """Print what heads find of relations and trees, for each treebank that is reported on."""
    chosen_on, sentences_of = treebanks.read(request.treebank, request.report_on, request.sentences)
    folder = None if request.out is None else output.writable_folder(request.out)
    inspected = load_model(source)
    encoded = _encoded(inspected, request.treebank, chosen_on)
    reported = {name: _encoded(inspected, name, sentences) for name, sentences in sentences_of.items()}
    side = checked_side(inspected, encoded[0], request.side)
    layers = layers_of(inspected, encoded[0], side)
    part = PARTS[side] if side else ""
    names = [f"{part}{layer}-{head + 1}" for layer, heads in layers.items() for head in range(heads)]
    chosen_sentences = [each.sentence for each in encoded]
    counting = Counting(
        relations.cells(chosen_sentences, request.at_least),
        is_causal(inspected, side),
        request.special_tokens,
        min(request.at_least, REPORTED_ARCS),
    )
    baseline = probe.choose_baseline(chosen_sentences, counting)
    # one at a time: they are as large as the model
    random = (replace(inspected, model=random_model(source, seed)) for seed in range(request.random_seeds))
    total = (1 + request.random_seeds) * (len(encoded) + sum(map(len, reported.values())))
    probing = Probing(chain([inspected], random), side, Progress("sentence", total))
    print("\n".join(_description(inspected, request, counting, len(encoded))))
    choices, reports = _reports(probing, encoded, reported, counting, baseline, len(names))
    probing.progress.close()
    for name in reported:
        _print_treebank(
            name, len(reported[name]), choices, [each[name] for each in reports], counting, baseline, names, folder
        )
    if folder is not None:
        for name, each in reported.items():
            of_model = (choices[0], reports[0][name])
            print(pictures.draw_heads(folder, inspected.name, name, *of_model, counting, layers))
            print(pictures.write_page(folder, inspected, each, name, side, *of_model, baseline, counting, layers))


def _reports(
    probing: Probing, encoded: Sequence[EncodedSentence], reported: dict[str, list[EncodedSentence]],
    counting: Counting, baseline: Baseline, heads: int,
) -> tuple[list[Choice], list[dict[str, Report]]]:  # fmt: skip
    """What each model's heads are chosen for, and find in each treebank; the baseline stands in the first model's reports."""
    kept = probe.kept_sentences([each.sentence for each in encoded], heads)
    choices, reports, done = [], [], 0
    for number, model in enumerate(probing.models):
        choice = probe.choose(probing.attended(model, encoded, done), counting, baseline, kept)
        done += len(encoded)
        of_model = {}
        for name, each in reported.items():
            attended = probing.attended(model, each, done)
            of_model[name] = probe.report(attended, counting, choice, baseline if number == 0 else None)
            done += len(each)
        choices.append(choice)
        reports.append(of_model)
    return choices, reports


def _print_treebank(
    name: str, sentences: int, choices: Sequence[Choice], reports: Sequence[Report], counting: Counting,
    baseline: Baseline, names: Sequence[str], folder: Path | None,
) -> None:  # fmt: skip
    """Print the tables of one treebank, and write them."""
    report, *random = reports
    of_relations = results.relation_results(choices[0], baseline, counting, report, random, names)
    of_trees = results.tree_results(choices[0], report, random, names)
    print(f"\n{name}: {counted(sentences, 'sentence')}")
    if not of_relations:
        print(f"No relation with {counted(counting.at_least, 'arc')} here that has enough to choose on (--at-least).")
    output.print_results(of_relations, of_trees)
    if folder is not None:
        output.write_tables(folder, output.file_name(name), of_relations, of_trees, report, counting, names)


def _encoded(inspected: InspectedModel, name: str, sentences: Sequence[Sentence]) -> list[EncodedSentence]:
    """The sentences that the model can read. Raises ConfigurationError where there is none."""
    encoded = encode(inspected, sentences)
    if left_out := len(sentences) - len(encoded):
        print(
            f"{name}: {left_out:,} of {len(sentences):,} sentences have more tokens than the model has positions; left out"
        )
    if not any(each.sentence.arcs for each in encoded):
        raise ConfigurationError(f"{name}: no sentence with an arc between words that the model can read")
    return encoded


def _description(inspected: InspectedModel, request: ProbeRequest, counting: Counting, sentences: int) -> Iterable[str]:
    """What was measured, in a few lines."""
    yield inspected.description
    yield f"Heads, offsets and probes are chosen on {counted(sentences, 'sentence')} of {request.treebank}."
    if counting.causal:
        yield "Causal attention: only arcs to the left of the attending word are counted; trees and probes see all arcs."
    if counting.special_tokens:
        yield "A word whose largest weight is on a special token finds no arc (--special-tokens)."
