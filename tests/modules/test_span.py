"""Spans against `transformers` and against trying every one: logits, loss, answers over windows, speed."""

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from torch import Tensor, nn

from protoformer.batches import SpanBatch
from protoformer.data.datamodules.span import SpanReferences, SpanTable
from protoformer.data.examples.extractive_qa import QuestionExamples
from protoformer.errors import ConfigurationError
from protoformer.models import weights
from protoformer.models.bert import bert
from protoformer.models.hf.bert import BertWeights
from protoformer.modules.kinds.span import SpanModule
from protoformer.scoring import spans, squad

from .span_cases import CONTEXTS, GOLD, LONGEST, NAMES, data, eval_outputs, fix_logits, module, table


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


Logits = dict[int, tuple[Tensor, Tensor]]


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


# --- what is kept and written


def test_what_is_kept_does_not_grow_with_the_sequence() -> None:
    held = {}
    for seq in (15, 60, 380):
        columns = module().eval_step(random_batch(seq))
        assert all(column.untyped_storage().nbytes() == column.nbytes for column in columns)
        held[seq] = sum(column.nbytes for column in columns) / 3
    assert held[15] == held[60] == held[380] <= 20 * (8 + 8 + 4 + 4) + 8 + 4 + 4 + 4


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
