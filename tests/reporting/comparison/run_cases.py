"""Runs of every kind of metric that a file of predictions gives, as they leave their folders."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from scipy import stats
from sklearn.metrics import f1_score, matthews_corrcoef, roc_auc_score

from protoformer.scoring import squad
from protoformer.scoring.bleu import bleu

LABELS = ("no", "yes")


def write_scores(folder: Path, lines: list[dict[str, Any]], split: str = "val") -> None:
    file = folder / "example_scores" / f"{split}.jsonl"
    file.parent.mkdir(exist_ok=True)
    file.write_text("".join(json.dumps({"id": place, **line}) + "\n" for place, line in enumerate(lines)))


def change_result(folder: Path, **changes: Any) -> None:
    file = folder / "result.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **changes}))


def classified(write_run: Callable[..., Path], name: str, seed: int, split: str = "val") -> Path:
    """A run of 40 examples with every metric of two labels."""
    draw = np.random.default_rng(seed)
    gold = np.arange(40) % 3 % 2
    second = np.clip(0.5 + 0.3 * (2 * gold - 1) * draw.normal(0.7, 1, size=40), 0, 1).round(5)
    predicted = (second > 0.5).astype(int)
    lines = [
        {"prediction": LABELS[p], "label": LABELS[g], "probabilities": {"no": round(1 - s, 5), "yes": s}}
        | {"texts": {"premise": f"passage {number // 4}"}}
        for number, (p, g, s) in enumerate(zip(predicted, gold, second.tolist(), strict=True))
    ]
    metrics = {
        "accuracy": float((predicted == gold).mean()),
        "f1": f1_score(gold, predicted),
        "f1_macro": f1_score(gold, predicted, average="macro"),
        "matthews_correlation": matthews_corrcoef(gold, predicted),
        "auroc": roc_auc_score(gold, second),
    }
    stage = split.replace("_", "/", 1)
    folder = write_run(
        name, predictions={split: lines}, metrics={f"{stage}/{key}": float(value) for key, value in metrics.items()}
    )
    write_scores(folder, [{"accuracy": float(p == g)} for p, g in zip(predicted, gold, strict=True)], split)
    return folder


def regressed(write_run: Callable[..., Path], name: str, seed: int) -> Path:
    """A run of 30 numbers; those of `example_scores/` are unrounded."""
    draw = np.random.default_rng(seed)
    gold = np.linspace(0, 5, 30)
    guesses = gold + draw.normal(size=30)
    lines = [
        {"prediction": round(float(p), 4), "label": round(float(g), 4)} for p, g in zip(guesses, gold, strict=True)
    ]
    metrics = {"val/pearson": stats.pearsonr(guesses, gold)[0], "val/spearman": stats.spearmanr(guesses, gold)[0]}
    folder = write_run(name, task="glue/stsb", predictions={"val": lines}, metrics=metrics)
    write_scores(
        folder,
        [{"sums": {"prediction": float(p), "reference": float(g)}} for p, g in zip(guesses, gold, strict=True)],
    )
    return folder


def answered(write_run: Callable[..., Path], name: str, seed: int) -> Path:
    """A run of questions, two a passage."""
    draw = np.random.default_rng(seed)
    answers = [["the red cat", "red cat"], ["a dog"], [], ["on the hill"], [], ["two men"]]
    texts = ["red cat", "dog", "", "the hill", "men", "on"]
    lines = [
        {"question": str(number), "prediction": str(draw.choice(texts)), "label": label}
        | {"texts": {"question": f"q{number}", "context": f"passage {number // 2}"}}
        for number, label in enumerate(answers)
    ]
    folder = write_run(name, task="squad/v2", predictions={"val": lines}, metrics={})
    write_scores(
        folder,
        [
            {name: score(line["prediction"], line["label"]) for name, score in
             (("exact_match", squad.exact_match), ("f1", squad.f1))} | {"cluster": number // 2}
            for number, line in enumerate(lines)
        ],
    )  # fmt: skip
    return folder


def translated(write_run: Callable[..., Path], name: str, seed: int) -> Path:
    """A run of sentences with BLEU and the perplexity of its references."""
    draw = np.random.default_rng(seed)
    targets = ["the cat sat on the mat", "a dog ran over the road", "two men are talking", "she reads an old book"]
    texts = [" ".join(word for word in target.split() if draw.random() < 0.9) for target in targets]
    lines = [{"prediction": text, "label": target} for text, target in zip(texts, targets, strict=True)]
    score = bleu(texts, targets)
    folder = write_run(name, task="translation/x", predictions={"val": lines}, metrics={"val/bleu": score.score / 100})
    change_result(folder, notes={"val": {"bleu": score.signature}})
    write_scores(folder, [{"sums": {"log_likelihood": -draw.random(), "tokens": 5.0}} for _ in lines])
    return folder


def chosen(write_run: Callable[..., Path], name: str, seed: int) -> Path:
    """A run of choices in context by log P per token; each example has choices of its own."""
    draw = np.random.default_rng(seed)
    lines, scores = [], []
    for number in range(24):
        choices = [f" choice {number}{letter}" for letter in "ab"]
        best, plain = draw.integers(2, size=2).tolist()
        lines.append(
            {"prediction": choices[best].strip(), "label": choices[0].strip(), "log_probs": [-1.0, -2.0]}
            | {"prompt": "d19e57", "texts": {"context": "c", "completions": choices}}
        )
        scores.append({"accuracy": float(plain == 0), "accuracy_per_token": float(best == 0)})
    metrics = {f"val/{key}": float(np.mean([row[key] for row in scores])) for key in ("accuracy_per_token", "accuracy")}
    folder = write_run(name, task="incontext/copa", predictions={"val": lines}, metrics=metrics)
    write_scores(folder, scores)
    return folder
