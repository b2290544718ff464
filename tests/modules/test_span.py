"""Spans against `transformers` and against trying every one: logits, loss, answers over windows, thresholds, files, speed."""

import json
import math
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
import transformers
from torch import Tensor, nn

from protoformer.batches import SpanBatch
from protoformer.data.batching.samplers import BatchConfig
from protoformer.data.datamodules.context import DataContext
from protoformer.data.datamodules.span import SpanDataModule, SpanReferences, SpanTable
from protoformer.data.examples.extractive_qa import ExtractiveQAReader, QuestionExamples
from protoformer.data.sources.source import DatasetRef, RawTable
from protoformer.errors import ConfigurationError
from protoformer.models import weights
from protoformer.models.bert import bert
from protoformer.models.hf.bert import BertWeights
from protoformer.modules.evaluation import EvalOutputs, gather_examples
from protoformer.modules.kinds.span import SpanEvaluation, SpanModule
from protoformer.runs import predictions
from protoformer.scoring import spans, squad
from protoformer.text.templates import BertTemplate
from protoformer.text.tokenizers import whole_word_tokenizer

NAMES = ("ids", "padding_mask", "segment_ids")
LONGEST = 30


def module(**settings: Any) -> SpanModule:
    settings = {"splits": {"val": [""], "test": [""]}, **settings}
    sizes = {"vocab_size": 60, "d_model": 8, "n_layers": 1, "n_heads": 1, "d_ff": 8, "max_seq_len": 400}
    return SpanModule(backbone=bert(**sizes, dropout=0.0), **settings).eval()


def random_batch(seq: int = 15) -> SpanBatch:
    lengths = torch.tensor([seq, 6, 9])
    mask = torch.arange(seq)[None] < lengths[:, None]
    context = mask & (torch.arange(seq)[None] > 2)
    return SpanBatch(
        ids=torch.randint(50, (3, seq)),
        padding_mask=mask,
        segment_ids=torch.randint(2, (3, seq)),
        pooler_position=torch.zeros(3, dtype=torch.long),
        example_ids=torch.arange(3),
        context_mask=context,
        max_context_mask=context,
        null_position=torch.zeros(3, dtype=torch.long),
        start_position=torch.tensor([3, 0, 8]),
        end_position=torch.tensor([12, 0, 8]),
    )


def from_transformers(folder: Path, packing: Any) -> tuple[Any, SpanModule]:
    """A random model of theirs, and ours with its weights, by way of a folder."""
    config = transformers.BertConfig(
        hidden_size=24, num_hidden_layers=2, num_attention_heads=4, intermediate_size=48, vocab_size=50,
        max_position_embeddings=24,
    )  # fmt: skip
    theirs = transformers.BertForQuestionAnswering(config).eval()
    for parameter in theirs.parameters():
        nn.init.normal_(parameter, std=0.2)
    theirs.save_pretrained(folder)
    layout, described = BertWeights(), weights.read_config(folder)
    body, heads = layout.from_hf(weights.read_state(folder))
    ours = SpanModule(backbone=bert(**layout.sizes(described), packing=packing), splits={"val": [""], "test": []})
    weights.load_into(ours.backbone, body, "here", layout.optional_prefixes)
    weights.load_into(ours.head, layout.head_from_hf("span", heads, described), "here")
    return theirs, ours.eval()


@pytest.mark.parametrize("packing", ["on", "off"])
def test_logits_and_loss_equal_transformers(packing: str, tmp_path: Path) -> None:
    theirs, ours = from_transformers(tmp_path, packing)
    batch = random_batch()
    losses = []
    with torch.no_grad():
        start, end = ours(batch)
        loss = ours.loss(batch)
        for row, length in enumerate(batch["padding_mask"].sum(1).tolist()):  # each alone: no padding on their side
            ids, _, segments = (batch[name][row : row + 1, :length] for name in NAMES)
            positions = {f"{name}s": batch[name][row : row + 1] for name in ("start_position", "end_position")}
            expected = theirs(ids, token_type_ids=segments, **positions)
            torch.testing.assert_close(start[row, :length], expected.start_logits[0], atol=1e-5, rtol=0)
            torch.testing.assert_close(end[row, :length], expected.end_logits[0], atol=1e-5, rtol=0)
            losses.append(expected.loss)
        together = theirs(batch["ids"], batch["padding_mask"].long(), batch["segment_ids"])
    mask = batch["padding_mask"]
    torch.testing.assert_close(start[mask], together.start_logits[mask], atol=1e-5, rtol=0)
    torch.testing.assert_close(loss.total, torch.stack(losses).sum(), atol=1e-5, rtol=0)
    assert loss.targets == 3


def test_packed_equals_padded_backward_and_fillers_count_nowhere() -> None:
    gradients = {}
    batch = random_batch()
    batch["example_ids"] = torch.tensor([0, -1, 7])
    for packing in ("on", "off"):
        torch.manual_seed(1)
        ours = module()
        ours.backbone.packing = packing
        loss = ours.loss(batch)
        assert loss.targets == 2
        loss.total.backward()
        gradients[packing] = {name: p.grad for name, p in ours.named_parameters() if p.grad is not None}
        assert ours.eval_step(batch)[0].tolist() == [0, 7]
    assert not [name for name in gradients["on"] if "pooler" in name]
    for name, gradient in gradients["on"].items():
        torch.testing.assert_close(gradient, gradients["off"][name], atol=1e-6, rtol=1e-4, msg=name)
    rows = {name: tensor[[0, 2]] for name, tensor in batch.items()}
    torch.testing.assert_close(ours.loss(rows).total, loss.total, atol=1e-6, rtol=1e-5)


# --- answers over several windows


def random_words(number: int, seed: int) -> str:
    """Few different words, so that the same text stands in many places."""
    return " ".join(f"w{n}" for n in np.random.default_rng(seed).integers(0, 9, size=number))


def table(contexts: Sequence[str], answers: Sequence[Sequence[str]] | None) -> RawTable:
    count = len(contexts)
    columns: dict[str, Any] = {
        "id": [f"q{i}" for i in range(count)],
        "question": [f"w{i} ?" for i in range(count)],
        "context": list(contexts),
    }
    if answers is not None:
        columns["answers"] = [
            {"text": list(texts), "answer_start": [c.index(t) for t in texts]}
            for c, texts in zip(contexts, answers, strict=True)
        ]
    return RawTable(pa.table(columns), "squad/any.jsonl", str(hash(str(columns))))


class Source:
    def __init__(self, **splits: RawTable) -> None:
        self.splits = splits

    def load(self, ref: DatasetRef, split: str) -> RawTable:
        return self.splits[split]


def data(cache: Path, unanswerable: bool = False, **splits: RawTable) -> SpanDataModule:
    tokenizer = whole_word_tokenizer([random_words(300, 0), "?"], "here")
    datamodule = SpanDataModule(
        DataContext(
            reader=ExtractiveQAReader("squad", unanswerable=unanswerable),
            splits={name: name for name in splits},
            source=Source(**splits),  # type: ignore[arg-type]
            tokenizer=tokenizer,
            template=BertTemplate(tokenizer),
            max_len=45,
            batch_config=BatchConfig(4, eval_rows=5),
            cache=cache,
        ),
        stride=9,
    )
    datamodule.setup()
    return datamodule


Logits = dict[int, tuple[Tensor, Tensor]]


def fix_logits(ours: SpanModule, windows: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Let a module say drawn logits of each window."""
    drawn = 3 * torch.randn(2, windows, 45, generator=torch.Generator().manual_seed(seed))

    def forward(batch: SpanBatch) -> tuple[Tensor, Tensor]:
        seq = batch["ids"].shape[1]
        return drawn[0, batch["example_ids"], :seq], drawn[1, batch["example_ids"], :seq]

    ours.forward = forward  # type: ignore[method-assign]
    return drawn[0], drawn[1]


def eval_outputs(ours: SpanModule, loader: Any) -> EvalOutputs:
    return gather_examples([ours.eval_step(batch) for batch in loader], 1)


def brute_force_answers(
    span_table: SpanTable, contexts: Sequence[str], start: Tensor, end: Tensor, keep: int, limit: int, null: bool
) -> dict[str, list[tuple[str, float]]]:
    """Each question's n-best by trying all spans of all its windows: `keep` of each window, `limit` of them all."""
    results: dict[str, list[tuple[str, float]]] = {}
    for question, context in enumerate(contexts):
        tokens = context.split()
        windows = np.flatnonzero(span_table.example == question).tolist()
        shown = {
            w: range(span_table.first_token[w], span_table.first_token[w] + span_table.context_tokens[w])
            for w in windows
        }

        def home(token: int, shown: dict[int, range] = shown) -> int:
            """The window in which a token has most context (BERT's code, `_check_is_max_context`)."""
            scores = {
                w: min(token - part[0], part[-1] - token) + 0.01 * len(part)
                for w, part in shown.items()
                if token in part
            }
            return max(scores, key=lambda w: scores[w])  # the first of equals

        pool: list[tuple[float, str]] = []
        for w, part in shown.items():
            shift = int(span_table.context_start[w]) - part[0]
            pool += sorted(
                (
                    (float(start[w, i + shift] + end[w, j + shift]), " ".join(tokens[i : j + 1]))
                    for i in part
                    if home(i) == w
                    for j in part
                    if 0 <= j - i < LONGEST
                ),
                reverse=True,
            )[:keep]
        texts: dict[str, float] = {}
        for score, text in sorted(pool, reverse=True):
            if text not in texts and len(texts) < limit:
                texts[text] = score
        if null:
            texts[""] = min(float(start[w, 0] + end[w, 0]) for w in windows)
        results[f"q{question}"] = sorted(texts.items(), key=lambda pair: -pair[1])
    return results


CONTEXTS = [random_words(n, seed) for seed, n in enumerate((60, 41, 7, 95))]
GOLD = [[" ".join(c.split()[2:4]), " ".join(c.split()[-2:])] for c in CONTEXTS]


@pytest.mark.parametrize("null", [False, True])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_answers_are_those_of_trying_every_span(tmp_path: Path, seed: int, null: bool) -> None:
    """n_best=45, all places of a window: then the most likely starts and ends are all of them."""
    datamodule = data(tmp_path, validation=table(CONTEXTS, GOLD))
    rows = datamodule.tables["validation"][""]
    assert np.bincount(rows.example).tolist() == [4, 2, 1, 8]
    ours = module(n_best=45, unanswerable=null, null_threshold=0.0)
    start, end = fix_logits(ours, len(rows), seed)
    columns = eval_outputs(ours, datamodule.val_dataloader()[0])
    assert columns[0].tolist() == list(range(len(rows)))
    n_best = ours.n_best_answers(columns, datamodule.references("validation", ""))
    expected = brute_force_answers(rows, CONTEXTS, start, end, 45, 45, null)
    assert list(n_best) == list(expected)
    for name, answers in n_best.items():
        assert [a.text for a in answers] == [text for text, _ in expected[name]]
        assert [a.score for a in answers] == pytest.approx([score for _, score in expected[name]], rel=1e-5)
        probs = np.exp([score for _, score in expected[name]])
        assert [a.probability for a in answers] == pytest.approx((probs / probs.sum()).tolist(), rel=1e-4, abs=1e-9)
    assert max(len(a.text.split()) for answers in n_best.values() for a in answers) <= LONGEST
    assert max(len(a.text.split()) for a in all_answers(n_best)) > 20  # the bound on the length is met, or nearly so
    ours.references = {"val": {"": datamodule.references("validation", "")}}
    outputs = ours.evaluate("val", "", columns)
    best = {name: next(text for text, _ in answers if text) for name, answers in expected.items()}
    if not null:
        assert outputs.predictions == best
        plain = squad.score(best, {f"q{i}": gold for i, gold in enumerate(GOLD)})
        assert outputs.scores == {name: plain[name] for name in ("exact_match", "f1")}
        assert set(outputs.other_metrics) == {"loss"}


def all_answers(n_best: dict[str, list[spans.Answer]]) -> list[spans.Answer]:
    return [answer for answers in n_best.values() for answer in answers]


def test_with_a_few_candidates_a_window_the_best_answer_is_still_the_best(tmp_path: Path) -> None:
    """Spans of the 20 likeliest starts and ends (BERT's code); where trying all finds a better one, it has neither."""
    datamodule = data(tmp_path, validation=table(CONTEXTS, GOLD))
    rows, ours = datamodule.tables["validation"][""], module()
    start, end = fix_logits(ours, len(rows))
    n_best = ours.n_best_answers(
        eval_outputs(ours, datamodule.val_dataloader()[0]), datamodule.references("validation", "")
    )
    expected = brute_force_answers(rows, CONTEXTS, start, end, 10**6, 10**6, null=False)
    for name, answers in n_best.items():
        scores = dict(expected[name])
        assert len(answers) <= 20
        assert answers[0].text == expected[name][0][0]
        assert len({a.text for a in answers}) == len(answers)
        for answer in answers:
            assert answer.score <= scores[answer.text] + 1e-5


def test_each_answer_keeps_the_logits_of_its_start_and_end(tmp_path: Path) -> None:
    """What the file holds of an answer is what the model said of two places in one window; no answer's are of position 0."""
    datamodule = data(tmp_path, validation=table(CONTEXTS, GOLD))
    ours = module(unanswerable=True, null_threshold=0.0)
    rows, references = datamodule.tables["validation"][""], datamodule.references("validation", "")
    start, end = fix_logits(ours, len(rows))
    window_answers: dict[str, set[tuple[str, float, float]]] = {}
    for window, (first, tokens) in enumerate(zip(rows.context_start, rows.context_tokens, strict=True)):
        texts = window_answers.setdefault(f"q{rows.example[window]}", set())
        texts.add(("", *both(start, end, window, 0, 0)))
        inside = range(first, first + tokens)
        texts |= {
            (references.text(window, s, e), *both(start, end, window, s, e)) for s in inside for e in inside if s <= e
        }
    ours.references = {"val": {"": references}}
    written = ours.evaluate("val", "", eval_outputs(ours, datamodule.val_dataloader()[0])).files()[
        "nbest_predictions.json"
    ]
    assert list(written) == list(window_answers)
    for name, answers in written.items():
        assert len(answers) > 1
        assert {(a["text"], a["start_logit"], a["end_logit"]) for a in answers} <= window_answers[name]


def both(start: Tensor, end: Tensor, window: int, first: int, last: int) -> tuple[float, float]:
    return float(start[window, first]), float(end[window, last])


@pytest.mark.parametrize("name", ["n_best", "max_answer"])
@pytest.mark.parametrize("value", [0, -1])
def test_no_candidates_and_no_tokens_are_refused(name: str, value: int) -> None:
    with pytest.raises(ConfigurationError, match=rf"task\.module\.{name}={value}: at least 1"):
        module(**{name: value})
    module(**{name: 1}).eval_step(random_batch())


# --- questions without an answer


def unanswerable(cache: Path, count: int = 24, hidden: bool = True) -> tuple[SpanDataModule, list[list[str]]]:
    contexts = [random_words(10 + 2 * i, i) for i in range(count)]
    gold = [[] if i % 3 == 0 else [" ".join(c.split()[2:4])] for i, c in enumerate(contexts)]
    datamodule = data(
        cache, True, validation=table(contexts, gold), test=table(contexts[:9], None if hidden else gold[:9])
    )  # fmt: skip
    return datamodule, gold


def evaluated(
    datamodule: SpanDataModule, logits_seed: int = 3, **settings: Any
) -> tuple[SpanModule, SpanEvaluation, EvalOutputs]:
    ours = module(unanswerable=True, **settings)
    start, end = fix_logits(ours, len(datamodule.tables["validation"][""]), logits_seed)
    rows = datamodule.tables["validation"][""]
    for window in range(len(rows)):  # make some answers right
        if window % 2:
            start[window, rows.start_position[window]] += 9
            end[window, rows.end_position[window]] += 9
    ours.references = {
        "val": {"": datamodule.references("validation", "")},
        "test": {"": datamodule.references("test", "")},
    }
    columns = eval_outputs(ours, datamodule.val_dataloader()[0])
    return ours, ours.evaluate("val", "", columns), columns


def test_the_threshold_is_the_best_of_all(tmp_path: Path) -> None:
    datamodule, answers = unanswerable(tmp_path)
    gold = {f"q{i}": texts for i, texts in enumerate(answers)}
    _, evaluation, _ = evaluated(datamodule)
    odds = {}
    for name, n_best in evaluation.n_best.items():
        scores = {a.text: a.score for a in n_best}
        odds[name] = scores.pop("") - max(scores.values())
    assert evaluation.null_odds == pytest.approx(odds)
    best = {name: next(a.text for a in n_best if a.text) for name, n_best in evaluation.n_best.items()}
    tried = {
        threshold: squad.score({name: text if odds[name] <= threshold else "" for name, text in best.items()}, gold)
        for threshold in sorted([min(odds.values()) - 1, *odds.values()])
    }
    numbers = evaluation.other_metrics
    for metric in ("exact_match", "f1"):
        most = max(scores[metric] for scores in tried.values())
        threshold = min(t for t, scores in tried.items() if scores[metric] == pytest.approx(most))
        assert numbers[f"best_{metric}"] == pytest.approx(most)
        assert numbers[f"best_{metric}_threshold"] == pytest.approx(threshold)
    assert numbers["null_threshold"] == numbers["best_f1_threshold"]
    assert min(odds.values()) - 1 < numbers["null_threshold"] < max(odds.values())  # some have an answer, some none
    assert evaluation.scores["f1"] == pytest.approx(numbers["best_f1"])
    assert 0.3 < evaluation.scores["f1"] < 1
    parts = squad.score(evaluation.predictions, gold)
    assert {name: numbers[name] for name in parts if "/" in name} == {k: v for k, v in parts.items() if "/" in k}
    assert set(numbers) == {
        "loss", "null_threshold", "best_f1", "best_f1_threshold", "best_exact_match", "best_exact_match_threshold",
        "HasAns/exact_match", "HasAns/f1", "NoAns/exact_match", "NoAns/f1",
    }  # fmt: skip


def test_a_given_threshold_is_taken_as_it_is(tmp_path: Path) -> None:
    datamodule, answers = unanswerable(tmp_path)
    for threshold in (-1e9, 0.0, 1e9):
        _, evaluation, _ = evaluated(datamodule, null_threshold=threshold)
        assert evaluation.other_metrics["null_threshold"] == threshold
        assert evaluation.predictions == {
            name: best(n_best) if evaluation.null_odds[name] <= threshold else ""
            for name, n_best in evaluation.n_best.items()
        }
    assert all(evaluation.predictions.values())
    assert evaluation.scores["f1"] < evaluation.other_metrics["best_f1"]
    assert len(answers) == len(evaluation.predictions)


def best(answers: Sequence[spans.Answer]) -> str:
    return next(answer.text for answer in answers if answer.text)


def test_hidden_answers_take_the_threshold_of_dev(tmp_path: Path) -> None:
    datamodule, _ = unanswerable(tmp_path)
    ours, dev, _ = evaluated(datamodule)
    outputs = ours.evaluate("test", "", eval_outputs(ours, datamodule.test_dataloader()[0]))
    assert outputs.gold is None
    assert outputs.scores == {}
    assert outputs.other_metrics == {"null_threshold": dev.other_metrics["best_f1_threshold"]}
    threshold = dev.other_metrics["best_f1_threshold"]
    assert outputs.predictions == {
        name: best(answers) if outputs.null_odds[name] <= threshold else "" for name, answers in outputs.n_best.items()
    }
    assert len(outputs.predictions) == 9
    assert [row["label"] for row in outputs.rows()] == [None] * 9
    assert outputs.misclassified([""] * 9) == []


def test_known_test_answers_are_judged_by_the_threshold_of_dev(tmp_path: Path) -> None:
    datamodule, _ = unanswerable(tmp_path, hidden=False)
    ours, dev, _ = evaluated(datamodule)
    outputs = ours.evaluate("test", "", eval_outputs(ours, datamodule.test_dataloader()[0]))
    assert outputs.other_metrics["null_threshold"] == dev.other_metrics["best_f1_threshold"]
    assert outputs.other_metrics["best_f1"] >= outputs.scores["f1"]


def test_without_a_development_split_a_threshold_must_be_given(tmp_path: Path) -> None:
    nothing = {"val": [], "test": [""]}
    with pytest.raises(ConfigurationError, match=r"no development split .* add task\.module\.null_threshold=<number>"):
        module(unanswerable=True, splits=nothing)
    assert module(unanswerable=True, splits=nothing, null_threshold=1.5).null_threshold == 1.5
    module(splits=nothing)
    contexts = [random_words(10, 0)]
    datamodule = data(tmp_path, True, validation=table(contexts, [[]]), test=table(contexts, None))
    ours = module(unanswerable=True)
    fix_logits(ours, 1)
    ours.references = {"test": {"": datamodule.references("test", "")}}
    with pytest.raises(ConfigurationError, match=r"hides its answers"):
        ours.evaluate("test", "", eval_outputs(ours, datamodule.test_dataloader()[0]))


def test_questions_of_which_every_candidate_is_nothing(tmp_path: Path) -> None:
    datamodule, _ = unanswerable(tmp_path)
    for settings in ({}, {"null_threshold": 0.0}):
        ours, _, columns = evaluated(datamodule, **settings)
        none = torch.full_like(columns[3], spans.NEG_INF)
        nothing = (*columns[:3], none, none, *columns[5:])
        evaluation = ours.evaluate("val", "", nothing)
        assert set(evaluation.predictions.values()) == {""}
        assert evaluation.scores["f1"] == pytest.approx(1 / 3)
        json.dumps(evaluation.files(), allow_nan=False)
        some = columns[3].clone()
        some[::2] = spans.NEG_INF
        evaluation = ours.evaluate("val", "", (*columns[:3], some, some, *columns[5:]))
        json.dumps([evaluation.files(), dict(evaluation.other_metrics)], allow_nan=False)
        assert "" in evaluation.predictions.values()
    plain = module()
    plain.references = ours.references
    assert set(plain.evaluate("val", "", nothing).predictions.values()) == {""}


# --- what is kept and written


def test_what_is_kept_does_not_grow_with_the_sequence() -> None:
    held = {}
    for seq in (15, 60, 380):
        columns = module().eval_step(random_batch(seq))
        assert all(column.untyped_storage().nbytes() == column.nbytes for column in columns)
        held[seq] = sum(column.nbytes for column in columns) / 3
    assert held[15] == held[60] == held[380] <= 20 * (8 + 8 + 4 + 4) + 8 + 4 + 4 + 4


def test_the_official_files(tmp_path: Path) -> None:
    datamodule, _ = unanswerable(tmp_path)
    ours, evaluation, columns = evaluated(datamodule)
    nothing = columns[3].clone()
    nothing[0] = spans.NEG_INF
    evaluation = ours.evaluate("val", "", (*columns[:3], nothing, nothing, *columns[5:]))
    assert math.inf in evaluation.null_odds.values()
    predictions.write(tmp_path / "predictions", "val", evaluation.rows(), evaluation.files())
    folder = tmp_path / "predictions" / "val"
    assert sorted(path.name for path in folder.iterdir()) == [
        "nbest_predictions.json", "null_odds.json", "predictions.json"
    ]  # fmt: skip

    def never(word: str) -> None:
        raise AssertionError(f"{word} is no JSON")

    predicted, n_best, odds = (
        json.loads((folder / name).read_text(), parse_constant=never)
        for name in ("predictions.json", "nbest_predictions.json", "null_odds.json")
    )
    names = [f"q{i}" for i in range(24)]
    assert list(predicted) == list(n_best) == list(odds) == names
    assert predicted == evaluation.predictions
    assert all(isinstance(value, float) and math.isfinite(value) for value in odds.values())
    for answers in n_best.values():
        assert sum(answer["probability"] for answer in answers) == pytest.approx(1)
        sums = [answer["start_logit"] + answer["end_logit"] for answer in answers]
        assert sums == sorted(sums, reverse=True)
        assert all(list(answer) == ["text", "probability", "start_logit", "end_logit"] for answer in answers)
        assert sum(not answer["text"] for answer in answers) == 1
    lines = [json.loads(line) for line in (tmp_path / "predictions" / "val.jsonl").read_text().splitlines()]
    assert [line["question"] for line in lines] == names
    assert [line["prediction"] for line in lines] == list(predicted.values())
    wrong = [row for row in lines if not squad.exact_match(row["prediction"], row["label"])]
    misclassified = evaluation.misclassified([f"text {i}" for i in range(24)])
    assert sorted(row[0] for row in misclassified) == sorted(f"text {row['id']}" for row in wrong)
    assert [row[3] for row in misclassified] == sorted((row[3] for row in misclassified), reverse=True)
    plain = module()
    plain.references = ours.references
    assert set(plain.evaluate("val", "", columns).files()) == {"predictions.json", "nbest_predictions.json"}


QUESTIONS, TWICE, TOKENS = 10_570, 230, 120


@pytest.mark.slow
def test_the_answers_of_a_whole_dev_set_take_seconds() -> None:
    """SQuAD's dev set: 10,570 questions in about 10,800 windows of 20 candidates; processor time of this one thread."""
    random = np.random.default_rng(0)
    example = np.sort(np.concatenate([np.arange(QUESTIONS), np.arange(TWICE)]))
    lengths = random.integers(3, 9, size=TOKENS)
    ends = np.cumsum(lengths + 1) - 1
    context = " ".join("x" * n for n in lengths)
    ones = np.ones(len(example), dtype=np.int64)
    span_table = SpanTable(
        ids=np.zeros(1, np.int32), segment_ids=np.zeros(1, np.uint8), offsets=np.arange(len(example) + 1),
        null_position=0 * ones, example=example, context_start=12 * ones, first_token=0 * ones,
        context_tokens=TOKENS * ones, max_context_start=0 * ones, max_context_end=TOKENS * ones, start_position=ones,
        end_position=ones, row=np.arange(QUESTIONS), context_offsets=TOKENS * np.arange(QUESTIONS + 1),
        char_start=np.tile(ends - lengths, QUESTIONS), char_end=np.tile(ends, QUESTIONS),
    )  # fmt: skip
    answers = [[] if i % 3 == 0 else [context[:20], context[4:30], context[-12:]] for i in range(QUESTIONS)]
    examples = QuestionExamples(
        ids=[f"q{i}" for i in range(QUESTIONS)], questions=["?"] * QUESTIONS, contexts=[context] * QUESTIONS,
        answers=answers, starts=[[]] * QUESTIONS, row=np.arange(QUESTIONS), skipped=0,
    )  # fmt: skip
    ours = module(unanswerable=True)
    ours.references = {"val": {"": SpanReferences(span_table, examples)}}
    start = torch.from_numpy(random.integers(12, 12 + TOKENS - 30, size=(len(example), 20)))
    columns = (
        torch.arange(len(example)),
        start,
        start + torch.from_numpy(random.integers(0, 30, size=start.shape)),
        torch.randn(start.shape).sort(dim=1, descending=True).values,
        torch.zeros(start.shape),
        torch.randn(len(example)),
        torch.zeros(len(example)),
        torch.rand(len(example)),
    )
    started = time.process_time()
    evaluation = ours.evaluate("val", "", columns)
    spent = time.process_time() - started
    print(f"{QUESTIONS} questions: {spent:.1f} s")
    assert len(evaluation.predictions) == QUESTIONS
    assert len(evaluation.n_best["q5000"]) > 15
    assert spent < 30
