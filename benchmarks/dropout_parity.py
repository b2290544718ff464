"""Dropout of BERT fine-tuning compared with `transformers`: how logits and gradients of one batch spread over its draws.

    python benchmarks/dropout_parity.py                                                 # random weights, the built-in sample
    python benchmarks/dropout_parity.py --weights DIR --data DIR --task rte --draws 100 # as in results/glue-minilm.md

Both sides read the first training batch with the same weights, dropout as published, and a classifier of large weights, so that
logits vary. Ours runs on packed rows, as in training. Printed are the standard deviation over draws of the difference of an
example's two logits (its root mean square over examples), and the mean norm of the gradient of each layer's matrices, with
standard errors. A difference above four of these ends in exit code 1.
"""

import argparse
import json
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from glue_parity import HFTrainer, overrides_of, prepared
from protoformer.training import log_setup

SCALE = 0.5  # standard deviation of the classifier's weights
RESAMPLES = 1000


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights", help="a Hugging Face BERT folder (default: a small random model)")
    parser.add_argument("--data", help="a folder in the hub's layout (default: the built-in sample)")
    parser.add_argument("--task", default="mrpc", help="a GLUE task of two labels (default: mrpc)")
    parser.add_argument("--draws", type=int, default=20, help="forward and backward passes of each side (default: 20)")
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    log_setup.configure_logging(None, 0)
    torch.set_num_threads(options.threads)
    with tempfile.TemporaryDirectory() as tmp:
        config, parts = prepared(overrides_of(options, Path(tmp)), steps=1)
        theirs = HFTrainer(config, 2, 1, dropout=True).model
        classifier = theirs.classifier
        nn.init.normal_(classifier.weight, std=SCALE)
        parts.module.head.linear.load_state_dict(classifier.state_dict())
        batch: Any = next(iter(parts.data.train_dataloader()))
    inputs = {
        "input_ids": batch["ids"][:, 0],  # (batch, sequences, seq), of one sequence each
        "attention_mask": batch["padding_mask"][:, 0].long(),
        "token_type_ids": batch["segment_ids"][:, 0],
    }
    module = parts.module.train()
    n_layers = len(theirs.bert.encoder.layer)
    ours = _measured(lambda: module(batch), module, batch["labels"], "layers", n_layers, options.draws)
    other = _measured(lambda: theirs(**inputs).logits, theirs, batch["labels"], "layer", n_layers, options.draws)
    standard_errors = {
        name: abs(ours[name][0] - other[name][0]) / (ours[name][1] ** 2 + other[name][1] ** 2) ** 0.5 for name in ours
    }
    sides = {"ours": ours, "transformers": other}
    report = {side: {name: [round(x, 4) for x in pair] for name, pair in each.items()} for side, each in sides.items()}
    largest = max(standard_errors.values())
    print(
        json.dumps(
            {**report, "draws": options.draws, "largest_difference_in_standard_errors": round(largest, 2)}, indent=2
        )
    )
    return 0 if largest < 4 else 1


def _measured(
    logits: Callable[[], Float[Tensor, "batch 2"]],
    model: nn.Module,
    labels: Tensor,
    stack: str,
    n_layers: int,
    draws: int,
) -> Mapping[str, tuple[float, float]]:
    """Spread of logits and norms of gradients over draws, each with its standard error."""
    differences, norms = [], []
    matrices = [
        [p for name, p in model.named_parameters() if p.ndim == 2 and f"{stack}.{layer}." in name]
        for layer in range(n_layers)
    ]
    for _ in range(draws):
        model.zero_grad()
        output = logits()
        functional.cross_entropy(output, labels).backward()
        differences.append((output[:, 1] - output[:, 0]).detach())
        norms.append(
            [float(torch.stack([p.grad.norm() for p in layer if p.grad is not None]).norm()) for layer in matrices]
        )
    drawn, of_layers = torch.stack(differences), torch.tensor(norms)  # (draws, batch), (draws, layers)
    chosen = torch.randint(draws, (RESAMPLES, draws), generator=torch.Generator().manual_seed(0))
    spreads = torch.stack([_spread(drawn[rows]) for rows in chosen])
    errors = of_layers.std(0) / draws**0.5
    return {
        "spread of logits": (float(_spread(drawn)), float(spreads.std())),
        **{f"gradient of layer {n + 1}": (float(of_layers[:, n].mean()), float(errors[n])) for n in range(n_layers)},
    }


def _spread(drawn: Float[Tensor, "draws batch"]) -> Float[Tensor, ""]:
    return drawn.var(0).mean().sqrt()


if __name__ == "__main__":
    raise SystemExit(main())
