"""`protoformer probe heads`: batches, sides, causal models, tables and files, refusals; heads of a trained model are found."""

import csv
from collections.abc import Iterable
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional

from protoformer.cli import main as command
from protoformer.errors import ConfigurationError
from protoformer.inference.ablation.overlap import read_syntactic_heads
from protoformer.inference.attention import load_model
from protoformer.inference.syntax import probe, results
from protoformer.inference.syntax.probe import Counting
from protoformer.inference.syntax.random_models import random_model
from protoformer.inference.syntax.sentence_attention import (
    checked_side,
    encode,
    is_causal,
    layers_of,
    weights_of_layers,
    word_attention,
)
from protoformer.interventions.heads import heads_of
from protoformer.models.backbone import Backbone
from protoformer.models.bert import bert
from protoformer.sample import BUCKETS
from protoformer.sample.treebank import treebank as sample_treebank
from protoformer.syntax import relations, treebank
from protoformer.syntax.treebank import Sentence
from protoformer.syntax.word_attention import WordAttention

from .test_attention import TRANSLATION, bert_folder, gpt2_folder, write_run

__all__ = ["bert_folder", "gpt2_folder"]  # fixtures

TREES = """1\tthe\t_\tDET\t_\t_\t2\tdet\t_\t_
2\tcat\t_\tNOUN\t_\t_\t3\tnsubj\t_\t_
3\tsat\t_\tVERB\t_\t_\t0\troot\t_\t_
4\t.\t_\tPUNCT\t_\t_\t3\tpunct\t_\t_

1\tdogs\t_\tNOUN\t_\t_\t2\tnsubj\t_\t_
2\tran\t_\tVERB\t_\t_\t0\troot\t_\t_
3\toff\t_\tADV\t_\t_\t2\tadvmod\t_\t_

1\tthe\t_\tDET\t_\t_\t2\tdet\t_\t_
2\tdogs\t_\tNOUN\t_\t_\t3\tnsubj\t_\t_
3\tsat\t_\tVERB\t_\t_\t0\troot\t_\t_
4\ton\t_\tADP\t_\t_\t5\tcase\t_\t_
5\tmats\t_\tNOUN\t_\t_\t3\tobl\t_\t_

"""
SENTENCES = treebank.parse(TREES, "here")


@pytest.fixture
def trees(tmp_path: Path) -> Path:
    file = tmp_path / "here.conllu"
    file.write_text(TREES)
    return file


def of_one(model: str | Path, sentence: Sentence) -> torch.Tensor:
    """`layers heads tokens tokens` of one sentence."""
    inspected = load_model(str(model))
    return torch.cat(list(weights_of_layers(inspected, encode(inspected, [sentence])).values()))


def test_batches_have_the_weights_of_each_sentence(bert_folder: Path) -> None:
    inspected = load_model(str(bert_folder))
    seen = []
    for batch in word_attention(inspected, encode(inspected, [*SENTENCES, *SENTENCES])):
        for sentence, weights, special in zip(batch.sentences, batch.weights, batch.special, strict=True):
            alone = of_one(bert_folder, sentence).flatten(0, 1)
            words = len(sentence)
            torch.testing.assert_close(weights[:, :words, :words], alone[:, 1:-1, 1:-1], atol=1e-5, rtol=0)
            torch.testing.assert_close(special[:, :words], alone[:, 1:-1, [0, -1]].amax(-1), atol=1e-5, rtol=0)
            seen.append(words)
    assert sorted(seen) == [3, 3, 4, 4, 5, 5]


def test_sides_of_an_encoder_decoder(tmp_path: Path) -> None:
    inspected = load_model(str(write_run(tmp_path, *TRANSLATION)))
    encoded = encode(inspected, SENTENCES)
    assert [text.words for text in encoded[1].texts] == [[0, 1, 2, -1], [-1, 0, 1, 2]]
    assert checked_side(inspected, encoded[0], None) == "source"
    assert [is_causal(inspected, side) for side in ("source", "target", "cross")] == [False, True, False]
    of_cross = weights_of_layers(inspected, [encoded[1]], "cross")
    (batch,) = word_attention(inspected, [encoded[1]], "cross")
    # the first word is written where [start] is read
    torch.testing.assert_close(batch.weights[0, :3], of_cross[1][0, :, :3, :3])
    (of_target,) = word_attention(inspected, [encoded[1]], "target")
    assert of_target.weights.triu(1).abs().max() == 0
    with pytest.raises(ConfigurationError, match="--side cross: this model is one stack of layers"):
        checked_side(load_model(str(write_run(tmp_path, "model=bert", "task=glue/mnli"))), encoded[0], "cross")


def test_recurrent_and_convolutional_models_have_attention_to_the_source_alone(tmp_path: Path) -> None:
    for model in ("rnn_tiny", "cnn_tiny"):
        inspected = load_model(
            str(write_run(tmp_path, f"model={model}", "task=translate/multi30k_en_de", attends=False))
        )
        encoded = encode(inspected, SENTENCES)
        assert checked_side(inspected, encoded[0], None) == "cross"
        assert (" of 1 head, " in inspected.description) == (inspected.n_heads == 1)
        assert set(layers_of(inspected, encoded[0], "cross").values()) == {1}
        assert all(batch.weights.shape[1] == len(layers_of(inspected, encoded[0], "cross"))
                   for batch in word_attention(inspected, encoded, "cross"))  # fmt: skip
        with pytest.raises(
            ConfigurationError, match="--side source: this model has no self-attention of its encoder; choose cross"
        ):
            checked_side(inspected, encoded[0], "source")


def test_a_language_model_reads_the_end_of_the_document_before(tmp_path: Path) -> None:
    """Else its first word is where heads put the weight that they have no use for."""
    inspected = load_model(str(write_run(tmp_path, "model=gpt2_tiny", "task=pretrain/clm")))
    (encoded, *_) = encode(inspected, SENTENCES)
    assert inspected.start_id == inspected.tokenizer.vocab_size + 2
    assert encoded.texts[0].ids[0] == inspected.start_id
    assert encoded.texts[0].words == [-1, 0, 1, 2, 3]
    (batch,) = word_attention(inspected, [encoded])
    assert batch.special.min() > 0


def test_random_models_have_the_shape_and_other_weights(bert_folder: Path, tmp_path: Path) -> None:
    for source in (bert_folder, write_run(tmp_path, "model=gpt2_tiny", "task=pretrain/clm")):
        one, same, other = (random_model(str(source), seed).state_dict() for seed in (1, 1, 2))
        trained = load_model(str(source)).model.state_dict()
        assert {name: value.shape for name, value in one.items()} == {
            name: value.shape for name, value in trained.items()
        }
        name = next(name for name in one if "token.weight" in name)
        assert torch.equal(one[name], same[name])
        assert not torch.equal(one[name], other[name])
        assert not torch.equal(one[name], trained[name])


def test_tables_and_files(bert_folder: Path, trees: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    files = ["--treebank", "sample", "--report-on", str(trees), "--out", str(out)]
    assert (
        command(["probe", "heads", str(bert_folder), *files, "--sentences", "30", "--at-least", "2", "--random", "1"])
        == 0
    )
    text = capsys.readouterr().out
    assert "tiny/bert: 2 layers of 3 heads, 24 wide." in text
    assert "sample: 1 of 30 sentences have more tokens than the model has positions; left out" in text
    assert "chosen on 29 sentences of sample" in text
    assert "here: 3 sentences" in text
    for name in ("relations", "trees", "heads"):
        for of in ("sample-test", "here"):
            assert (out / f"{name}.{of}.csv").is_file()
    with (out / "relations.here.csv").open() as file:
        rows = {(row["relation"], row["direction"]): row for row in csv.DictReader(file)}
    assert rows["any", "to head"]["arcs"] == "8"
    assert rows["det", "to head"]["arcs"] == "2"
    assert rows["det", "to head"]["offset"] in ("1", "2")
    with (out / "trees.here.csv").open() as file:
        scores = {row["trees"]: row for row in csv.DictReader(file)}
    assert float(scores["right-branching"]["score"]) == 7 / 8
    assert scores["right-branching"]["random"] == ""
    assert 0 <= float(scores["linear probe of all heads, 6"]["random"]) <= 1
    with (out / "heads.here.csv").open() as file:
        assert {row["head"] for row in csv.DictReader(file)} == {"1-1", "1-2", "1-3", "2-1", "2-2", "2-3"}
    assert (out / "heads.here.svg").read_text().startswith("<?xml")
    assert "arcs, a page of protoformer" in (out / "arcs.here.html").read_text()


def test_a_treebank_alone_is_halved(gpt2_folder: Path, trees: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert (
        command(["probe", "heads", str(gpt2_folder), "--treebank", str(trees), "--at-least", "1", "--random", "0"]) == 0
    )
    text = capsys.readouterr().out
    assert "chosen on 2 sentences" in text
    assert "here, every second sentence: 1 sentence\n" in text
    assert "Causal attention: only arcs to the left" in text


def test_files_of_one_name_and_few_arcs(
    bert_folder: Path, trees: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "other").mkdir()
    other, out = tmp_path / "other" / "here.conllu", tmp_path / "out"
    other.write_text(TREES.split("\n\n")[0] + "\n")
    words = ["--sentences", "20", "--random", "0", "--special-tokens", "--out", str(out)]
    both = ["--treebank", "sample", "--report-on", str(trees), str(other)]
    assert command(["probe", "heads", str(bert_folder), *both, *words]) == 0
    text = capsys.readouterr().out
    assert f"{trees}: 3 sentences\nNo relation with 20 arcs here" in text
    assert f"{other}: 1 sentence\nNo relation with 20 arcs here" in text
    pages = [page for page in out.glob("arcs.*.html") if "sample" not in page.name]
    assert len(pages) == 2
    assert all("special tokens included" in page.read_text() for page in pages)
    # a relation without an arc has no row, and the page is JSON
    (tmp_path / "none.conllu").write_text(TREES.split("\n\n")[1] + "\n")
    words = ["--report-on", str(tmp_path / "none.conllu"), "--random", "0", "--at-least", "0", "--out", str(out)]
    assert command(["probe", "heads", str(bert_folder), "--treebank", str(trees), *words]) == 0
    with (out / "relations.none.csv").open() as file:
        assert {row["relation"] for row in csv.DictReader(file)} == {"any", "nsubj", "advmod"}
    assert "NaN" not in (out / "arcs.none.html").read_text()


def test_heads_of_an_encoder_decoder_are_named_as_they_are_ablated(
    tmp_path: Path, trees: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run, out = write_run(tmp_path, *TRANSLATION), tmp_path / "out"
    words = ["--treebank", str(trees), "--side", "cross", "--at-least", "1", "--random", "0", "--out", str(out)]
    assert command(["probe", "heads", str(run), *words]) == 0
    with (out / "relations.here-every-second-sentence.csv").open() as file:
        rows = list(csv.DictReader(file))
    heads = heads_of(load_model(str(run)).model)
    assert {row["head"] for row in rows} <= {str(head) for head in heads if head.part == "cross"}
    file_of_cross = tmp_path / "relations.csv"
    text = "relation,direction,head,verdict\ndet,to head,{},above\n"
    file_of_cross.write_text(text.format(rows[0]["head"]))
    assert [head.part for head in read_syntactic_heads(file_of_cross, heads)] == ["cross"]
    file_of_cross.write_text(text.format("1-1"))  # of which side?
    with pytest.raises(ConfigurationError, match=r"line 2: the model has no head 1-1"):
        read_syntactic_heads(file_of_cross, heads)


def test_the_colour_of_a_head_is_of_relations_with_arcs_enough() -> None:
    """One `det` that is farther than any offset: a head that finds it is far above the baseline, of one arc."""
    rows = [f"{n}\tw\t_\tX\t_\t_\t{n + 1}\tdep\t_\t_\n" for n in range(2, 14)]
    text = f"1\tw\t_\tX\t_\t_\t14\tdet\t_\t_\n{''.join(rows)}14\tw\t_\tX\t_\t_\t0\troot\t_\t_\n"
    sentences = treebank.parse(text, "one")
    weights = torch.zeros(1, 1, 14, 14)
    weights[..., 13] = 1.0
    attended = [WordAttention(sentences, weights, torch.zeros(1, 1, 14))]
    for at_least, expected, gain in ((1, ("det", "to head"), 1.0), (2, ("dep", "to head"), 1 / 12 - 1.0)):
        counting = Counting(relations.cells(sentences), at_least=at_least)
        choice = probe.choose(attended, counting, probe.choose_baseline(sentences, counting), sentences)
        assert counting.cells[int(choice.relation[0])] == expected
        assert choice.gain[0] == pytest.approx(gain)


def test_repeated_tokens_of_a_decoder(
    gpt2_folder: Path, bert_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command(["probe", "heads", str(gpt2_folder), "--random", "1", "--out", str(tmp_path)]) == 0
    text = capsys.readouterr().out
    assert "50 sequences of 7 random tokens, each twice" in text
    with (tmp_path / "repeated.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["pattern"] for row in rows[::6]] == ["previous token", "duplicate token", "induction"]
    assert all(float(row["low"]) <= float(row["weight"]) <= float(row["high"]) for row in rows)
    assert float(rows[0]["equal_weights"]) == pytest.approx(sum(1 / n for n in range(2, 15)) / 13, abs=1e-4)
    assert command(["probe", "heads", str(bert_folder)]) == 2
    assert "--treebank: name a treebank, or sample" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--treebank", "none.conllu"], "none.conllu: No such file or directory"),
        (["--treebank", "{trees}", "--report-on", "{trees}"], "heads are chosen on this treebank"),
        (["--treebank", "{trees}", "--sentences", "1"], "a single sentence"),
        (["--treebank", "{trees}", "--sentences", "0"], "'0' is no number from 1 on"),
        (["--treebank", "{trees}", "--random", "-1"], "'-1' is no number from 0 on"),
        (["--treebank", "{trees}", "--side", "cross"], "--side cross: this model is one stack"),
        (["--report-on", "{trees}"], "--report-on goes with --treebank"),
        (["--special-tokens"], "--special-tokens goes with --treebank"),
        (["--at-least", "3"], "--at-least goes with --treebank"),
        (["--treebank", "{trees}", "--out", "{trees}"], "--out {trees}: File exists; choose another folder"),
    ],
)
def test_what_is_refused(
    bert_folder: Path, trees: Path, arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    filled = [argument.format(trees=trees) for argument in arguments]
    assert command(["probe", "heads", str(bert_folder), *filled]) == 2
    error = capsys.readouterr().err
    assert message.format(trees=trees) in error
    assert "Traceback" not in error


def sample(split: str, sentences: int) -> list[Sentence]:
    return treebank.parse(sample_treebank(Random(split), BUCKETS[split], sentences), "sample")


class Trained:
    """An encoder whose tokens are the sample's words, and an untrained one of its shape."""

    def __init__(self, layers: int, sentences: int) -> None:
        self.sentences = sample("train", sentences)
        words = sorted({word for each in self.sentences for word in each.forms})
        self.vocabulary = {word: 2 + index for index, word in enumerate(words)}
        self.layers, size = layers, len(words) + 2
        self.model, self.untrained = (
            bert(
                vocab_size=size,
                d_model=64,
                n_layers=layers,
                n_heads=4,
                d_ff=64,
                max_seq_len=32,
                dropout=0.0,
                init_std=std,
            )
            for std in (0.1, 0.02)
        )
        self.output = torch.nn.Linear(64, size)

    def ids(self, words: Iterable[Iterable[str]]) -> torch.Tensor:
        rows = [torch.tensor([self.vocabulary.get(word, 1) for word in row]) for row in words]
        return torch.nn.utils.rnn.pad_sequence(rows, batch_first=True)

    def train(self, targets: torch.Tensor, steps: int, lr: float, masked: float) -> None:
        """Predict the targets of all words, or where `masked` is not 0 those of so many of them, which are hidden."""
        ids = self.ids(each.forms for each in self.sentences)
        optimizer = torch.optim.Adam([*self.model.parameters(), *self.output.parameters()], lr=lr)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, lr, total_steps=steps)
        for _ in range(steps):
            rows = torch.randint(len(ids), (32,))
            real = ids[rows] > 0
            chosen = (torch.rand(real.shape) < masked) & real if masked else real
            hidden = self.model(ids[rows].masked_fill(chosen, 1) if masked else ids[rows], real)
            logits = self.output(hidden.layout.unpack(hidden.tokens)[chosen])
            optimizer.zero_grad()
            functional.cross_entropy(logits, targets[rows][chosen]).backward()
            optimizer.step()
            schedule.step()

    def rows(self) -> tuple[dict[tuple[str, str], results.RelationResult], results.TreeResult]:
        """Rows of relations, and that of the linear probe."""
        chosen_on, reported = sample("validation", 150), sample("test", 150)
        counting = Counting(relations.cells(chosen_on, 40))
        baseline = probe.choose_baseline(chosen_on, counting)
        reports, choices = [], []
        for each in (self.model.eval(), self.untrained.eval()):
            choices.append(probe.choose(self.attended(each, chosen_on), counting, baseline, chosen_on))
            reports.append(probe.report(self.attended(each, reported), counting, choices[-1], baseline))
        names = [f"{layer + 1}-{head + 1}" for layer in range(self.layers) for head in range(4)]
        rows = results.relation_results(choices[0], baseline, counting, reports[0], reports[1:], names)
        of_trees = results.tree_results(choices[0], reports[0], reports[1:], names)
        return {(each.relation, each.direction.value): each for each in rows}, of_trees[-1]

    @torch.no_grad()
    def attended(self, model: Backbone, sentences: list[Sentence]) -> list[WordAttention]:
        ids = self.ids(each.forms for each in sentences)
        hidden = model(ids, ids > 0, attn_layers=range(self.layers))
        weights = torch.cat([hidden.attn_weights[index] for index in range(self.layers)], dim=1)
        return [WordAttention(sentences, weights, torch.zeros(weights.shape[:3]))]


def test_of_many_rows_one_can_be_above() -> None:
    """Holm's correction of 120 tests takes a p that 2,000 resamples cannot give."""
    cells: list[tuple[str, relations.Direction]] = [(f"relation {number}", "to head") for number in range(120)]
    arcs = np.ones((50, len(cells)), dtype=int)
    by_head = np.zeros_like(arcs)
    by_head[:, 7] = 1
    report = probe.Report(
        arcs=arcs, by_head=by_head, by_offset=np.zeros_like(arcs), edges=arcs[:, 0], trees={}, correct=by_head.T
    )
    unread: Any = None  # the linear probes
    first = np.zeros(len(cells), dtype=int)
    choice = probe.Choice(heads=first, ensemble=[0], probe=unread, relation=first, gain=np.zeros(1))
    baseline = probe.Baseline(offsets=first, accuracy=np.zeros(len(cells)), probe=unread)
    rows = results.relation_results(choice, baseline, Counting(tuple(cells)), report, [], ["1-1"])
    assert [row.relation for row in rows if row.verdict == "above"] == ["relation 7"]
    assert rows[7].corrected_p == pytest.approx(120 / 3601)


def test_a_model_that_is_trained_on_the_sample_has_heads_that_find_arcs() -> None:
    """One that names the word that each word depends on, after 150 steps: it must look there."""
    trained = Trained(layers=1, sentences=1000)
    heads = [
        [each.forms[word if head < 0 else head] for word, head in enumerate(each.heads)] for each in trained.sentences
    ]
    trained.train(trained.ids(heads), steps=150, lr=5e-3, masked=0.0)
    rows, of_probe = trained.rows()
    for relation in ("nsubj", "obj", "obl", "aux"):
        row = rows[relation, "to head"]
        assert row.verdict == "above"
        assert row.low > row.offset_accuracy + 0.1
        assert row.accuracy > max(row.random) + 0.3
    assert of_probe.score > max(0.7, of_probe.random[0] + 0.2)


@pytest.mark.slow
def test_a_masked_language_model_of_the_sample_has_heads_that_find_arcs() -> None:
    trained = Trained(layers=2, sentences=3000)
    trained.train(trained.ids(each.forms for each in trained.sentences), steps=1500, lr=3e-3, masked=0.25)
    rows, of_probe = trained.rows()
    above = [each for each in rows.values() if each.verdict == "above" and each.accuracy > max(each.random) + 0.2]
    assert {"case", "obj", "nsubj"} & {each.relation for each in above}
    assert of_probe.score > of_probe.random[0] + 0.1
