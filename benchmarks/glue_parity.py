"""BERT fine-tuning compared with `transformers`: the same first losses, and the speed of both in one run.

    python benchmarks/glue_parity.py                                      # random weights, the built-in sample
    python benchmarks/glue_parity.py --weights DIR --data DIR --task mrpc # real ones, as in results/glue-minilm.md

Losses: dropout 0, one order of batches, AdamW, clip and schedule of the recipe on either side; the largest difference over
the first steps is printed, and one above the tolerance ends in exit code 1. Speed: fp32, dropout as published, dynamic
padding; our side is the whole Lightning run, the other side a bare loop without a trainer around it. The two take turns
in short turns, so that a machine that slows down slows both.
"""

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
from torch import Tensor, nn

from protoformer.assembly.build import Parts, build
from protoformer.config.compose import compose
from protoformer.optim.schedules import lr_factor, warmup_steps
from protoformer.training import log_setup
from protoformer.training.callbacks.throughput import Throughput

TOLERANCE = 1e-4


def main() -> int:
    options = _options()
    log_setup.configure_logging(None, 0)
    torch.set_num_threads(options.threads)
    with tempfile.TemporaryDirectory() as tmp:
        overrides = overrides_of(options, Path(tmp))
        difference, losses = compare_losses(overrides, options.steps)
        speeds = compare_speed(overrides, options.turns, options.turn_steps) if options.turns else {}
    report = {
        "task": options.task,
        "weights": options.weights or "random",
        "steps": len(losses),
        "first_loss": losses[0],
        "last_loss": losses[-1],
        "largest_difference": difference,
        **speeds,
        "threads": options.threads,
        "torch": torch.__version__,
    }
    print(json.dumps(report, indent=2))
    return 0 if difference <= TOLERANCE else 1


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights", help="a Hugging Face BERT folder (default: a small random model)")
    parser.add_argument("--data", help="a folder in the hub's layout (default: the built-in sample)")
    parser.add_argument("--task", default="mrpc", help="a GLUE task (default: mrpc)")
    parser.add_argument("--steps", type=int, default=50, help="losses to compare (default: 50)")
    parser.add_argument("--turns", type=int, default=3, help="turns of the speed comparison; 0 leaves it out")
    parser.add_argument("--turn-steps", type=int, default=20, help="steps a turn")
    parser.add_argument("--threads", type=int, default=2)
    return parser.parse_args()


def overrides_of(options: argparse.Namespace, folder: Path) -> list[str]:
    source = ["source=local", f"source.root={options.data}"] if options.data else ["source=sample"]
    weights = options.weights or str(random_weights(folder / "weights"))
    return [
        "model=bert",
        f"task=glue/{options.task}",
        f"init_from={weights}",
        "recipe.eps=1e-8",
        "hardware=cpu",
        "tracking=none",
        f"paths.cache={folder / 'cache'}",
        *source,
    ]


def random_weights(folder: Path) -> Path:
    """A BERT of four layers with random weights and the sample's vocabulary, as the other library writes it."""
    from transformers import BertConfig, BertModel

    from protoformer.sample import corpus
    from protoformer.text.tokenizers import whole_word_tokenizer

    tokenizer = whole_word_tokenizer(corpus(), "the sample")
    sizes = {"hidden_size": 256, "num_hidden_layers": 4, "num_attention_heads": 4, "intermediate_size": 1024}
    torch.manual_seed(0)
    BertModel(BertConfig(vocab_size=tokenizer.vocab_size, **sizes)).save_pretrained(folder)
    tokenizer.save(folder)
    return folder


class HFTrainer:
    """The other library's model under the same optimizer, schedule and clip, in a bare loop."""

    def __init__(self, config: dict[str, Any], labels: int, total: int, *, dropout: bool) -> None:
        from transformers import AutoModelForSequenceClassification

        rates = {} if dropout else {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
        self.model = AutoModelForSequenceClassification.from_pretrained(config["init_from"], num_labels=labels, **rates)
        self.model.train()
        recipe = config["recipe"]
        decayed = [p for p in self.model.parameters() if p.ndim > 1]
        others = [p for p in self.model.parameters() if p.ndim < 2]
        groups = [
            {"params": decayed, "weight_decay": recipe["weight_decay"]},
            {"params": others, "weight_decay": 0.0},
        ]
        self.optimizer = torch.optim.AdamW(groups, lr=recipe["lr"], betas=tuple(recipe["betas"]), eps=recipe["eps"])
        rate = lr_factor(recipe["schedule"], warmup_steps(recipe["warmup"], total), total)
        self.schedule = torch.optim.lr_scheduler.LambdaLR(self.optimizer, rate)
        self.clip = recipe["clip"]

    def step(self, batch: Any) -> float:
        loss: Tensor = self.model(
            input_ids=batch["ids"][:, 0],  # (batch, sequences, seq), of one sequence each
            attention_mask=batch["padding_mask"][:, 0].long(),
            token_type_ids=batch["segment_ids"][:, 0],
            labels=batch["labels"],
        ).loss
        loss.backward()
        nn.utils.clip_grad_norm_(self.model.parameters(), self.clip)
        self.optimizer.step()
        self.schedule.step()
        self.optimizer.zero_grad()
        return float(loss.detach())


class Losses(pl.Callback):
    def __init__(self) -> None:
        self.seen: list[float] = []

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: Any, *rest: Any) -> None:
        self.seen.append(pl_module.step_metrics.loss)


def prepared(overrides: list[str], steps: int) -> tuple[dict[str, Any], Parts]:
    config = compose(overrides)
    pl.seed_everything(config["seed"], verbose=False)
    parts = build(config)
    parts.data.setup("fit")
    parts.module.connect(total_steps=steps)
    return config, parts


def _fit(parts: Parts, steps: int, *callbacks: pl.Callback) -> None:
    trainer = pl.Trainer(
        accelerator="cpu",
        max_steps=steps,
        limit_val_batches=0,
        logger=False,
        callbacks=list(callbacks),
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
    )
    trainer.fit(parts.module, datamodule=parts.data)


def _labels(parts: Parts) -> int:
    module: Any = parts.module
    return len(module.labels) if module.labels else 1


def compare_losses(overrides: list[str], steps: int) -> tuple[float, list[float]]:
    """The largest difference between the two sides' losses, and ours."""
    config, parts = prepared([*overrides, "model.dropout=0"], steps)
    data: Any = parts.data
    batches = list(_endless(data, steps))
    theirs = HFTrainer(config, _labels(parts), steps, dropout=False)
    module: Any = parts.module
    module.head.linear.load_state_dict(theirs.model.classifier.state_dict())
    pooler = theirs.model.bert.pooler.dense.state_dict()  # random where the weights have none
    module.backbone.pooler.dense.load_state_dict(pooler)
    seen = Losses()
    _fit(parts, steps, seen)
    expected = [theirs.step(batch) for batch in batches]
    return max(abs(a - b) for a, b in zip(seen.seen, expected, strict=True)), seen.seen


def _endless(data: Any, steps: int) -> Iterator[Any]:
    loader, served = data.train_dataloader(), 0
    while True:
        for batch in loader:
            if served == steps:
                return
            served += 1
            yield batch


def compare_speed(overrides: list[str], turns: int, turn_steps: int) -> dict[str, Any]:
    """Examples a second of either side over all turns, and their ratio; the first steps of each only warm up."""
    config, parts = prepared(overrides, turns * turn_steps * 2)
    theirs = HFTrainer(config, _labels(parts), turns * turn_steps * 2, dropout=True)
    data: Any = parts.data
    batches = list(_endless(data, turn_steps))
    rows, padded = sum(len(b["ids"]) for b in batches), sum(b["ids"].numel() for b in batches)
    real = sum(int(b["padding_mask"].sum()) for b in batches)
    for batch in batches[:3]:
        theirs.step(batch)
    _fit(parts, 3)
    seconds = {"ours": [], "theirs": []}
    for _ in range(turns):
        speed = Throughput(log_every=1)
        _fit(parts, turn_steps, speed)
        seconds["ours"].append(speed.seconds)
        start = time.perf_counter()
        for batch in batches:
            theirs.step(batch)
        seconds["theirs"].append(time.perf_counter() - start)
    rates = {side: rows * turns / sum(taken) for side, taken in seconds.items()}
    return {
        "examples_per_s": {side: round(rate, 2) for side, rate in rates.items()},
        "ratio": round(rates["ours"] / rates["theirs"], 3),
        "seconds_a_turn": {side: [round(s, 2) for s in taken] for side, taken in seconds.items()},
        "padded_tokens_per_real_one": round(padded / real, 3),
    }


if __name__ == "__main__":
    sys.exit(main())
