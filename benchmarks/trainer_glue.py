"""Fine-tuning on a GLUE task with Hugging Face's `Trainer`: the other side of results/glue-minilm.md.

    python benchmarks/trainer_glue.py mrpc --weights DIR --data DIR --seeds 42 43 --out trainer

`--data` is a folder in the hub's layout. Recipe: batch 32, 3 epochs, AdamW with learning rate 5e-5 and eps 1e-8, weight decay
0.01 on matrices, linear decay after 10 % warm-up, clip 1.0, length 128, dynamic padding, fp32. Needs the packages `accelerate`
and `scikit-learn`. Writes the predictions of the last epoch, and of the one with the best dev score (the mean of the task's
metrics), to `OUT/TASK/seedS/{last,best}/val.jsonl`, which `protoformer compare --with` reads. Seeds with files are left out.
"""

import argparse
import json
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sklearn.metrics import accuracy_score, f1_score

LABELS = {"mrpc": ("not_equivalent", "equivalent"), "rte": ("entailment", "not_entailment")}
WARM_UP, EPOCHS, BATCH = 0.1, 3, 32


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("task", choices=tuple(LABELS))
    parser.add_argument("--weights", required=True, help="a Hugging Face BERT folder")
    parser.add_argument("--data", required=True, type=Path, help="a folder in the hub's layout")
    parser.add_argument("--seeds", type=int, nargs="+", default=[42])
    parser.add_argument("--out", type=Path, default=Path("trainer"))
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    for seed in options.seeds:
        folder = options.out / options.task / f"seed{seed}"
        if not (folder / "last" / "val.jsonl").exists():
            with tempfile.TemporaryDirectory() as scratch:
                logits, references = fine_tune(options.task, seed, options.weights, options.data, scratch)
            write(folder, options.task, logits, references)


def fine_tune(task: str, seed: int, weights: str, data: Path, scratch: str) -> tuple[list[np.ndarray], np.ndarray]:
    """Logits on the development set after each epoch, (rows, labels) each, and its labels, (rows,)."""
    from datasets import load_dataset
    from transformers import (
        AutoModelForSequenceClassification,
        AutoTokenizer,
        DataCollatorWithPadding,
        EvalPrediction,
        Trainer,
        TrainingArguments,
        set_seed,
    )

    set_seed(seed)
    tokenizer = AutoTokenizer.from_pretrained(weights)
    model = AutoModelForSequenceClassification.from_pretrained(weights, num_labels=len(LABELS[task]))
    folder = data / "nyu-mll" / "glue" / task
    files = {split: str(folder / f"{split}-00000-of-00001.parquet") for split in ("train", "validation")}
    splits = load_dataset("parquet", data_files=files).rename_column("label", "labels")
    encoded = splits.map(
        lambda rows: tokenizer(rows["sentence1"], rows["sentence2"], truncation=True, max_length=128),
        batched=True, remove_columns=["sentence1", "sentence2", "idx"],
    )  # fmt: skip
    logits: list[np.ndarray] = []

    def keep(evaluated: EvalPrediction) -> Mapping[str, float]:
        logits.append(np.asarray(evaluated.predictions))
        return _metrics(task, logits[-1], np.asarray(evaluated.label_ids))

    arguments = TrainingArguments(
        output_dir=scratch, save_strategy="no", eval_strategy="epoch", report_to=[], disable_tqdm=True, use_cpu=True,
        per_device_train_batch_size=BATCH, per_device_eval_batch_size=64, learning_rate=5e-5, num_train_epochs=EPOCHS,
        warmup_steps=WARM_UP, lr_scheduler_type="linear", weight_decay=0.01, seed=seed,
    )  # fmt: skip
    trainer = Trainer(
        model=model, args=arguments, train_dataset=encoded["train"], eval_dataset=encoded["validation"],
        data_collator=DataCollatorWithPadding(tokenizer), compute_metrics=keep,
    )  # fmt: skip
    trainer.train()
    return logits, np.asarray(encoded["validation"]["labels"])


def write(folder: Path, task: str, logits: Sequence[np.ndarray], references: np.ndarray) -> None:
    """Predictions of the last epoch and of the best one (the first of equals), with the metrics of all epochs."""
    epochs = [_metrics(task, each, references) for each in logits]
    best = int(np.argmax([np.mean(list(each.values())) for each in epochs]))
    for name, epoch in {"best": best, "last": len(logits) - 1}.items():
        (folder / name).mkdir(parents=True, exist_ok=True)
        (folder / name / "metrics.json").write_text(json.dumps({"epoch": epoch + 1, "epochs": epochs}, indent=2) + "\n")
        lines = (
            json.dumps(_row(task, *row)) for row in zip(range(len(references)), logits[epoch], references, strict=True)
        )
        (folder / name / "val.jsonl").write_text("".join(f"{line}\n" for line in lines))
    print(
        json.dumps(
            {"task": task, "seed": folder.name, "best epoch": best + 1, "last": epochs[-1], "best": epochs[best]}
        )
    )


def _row(task: str, number: int, logits: np.ndarray, reference: int) -> dict[str, Any]:
    probabilities = np.exp(logits - logits.max())
    probabilities /= probabilities.sum()
    names = LABELS[task]
    return {
        "id": number,
        "prediction": names[int(logits.argmax())],
        "label": names[int(reference)],
        "probabilities": {name: round(float(each), 5) for name, each in zip(names, probabilities, strict=True)},
    }


def _metrics(task: str, logits: np.ndarray, references: np.ndarray) -> dict[str, float]:
    guesses = logits.argmax(-1)
    metrics = {"accuracy": float(accuracy_score(references, guesses))}
    if task == "mrpc":
        metrics["f1"] = float(f1_score(references, guesses))
    return metrics


if __name__ == "__main__":
    main()
