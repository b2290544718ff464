"""The command: reads features of all layers, of the model and of random ones, fits probes, prints and writes their scores."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, cast

import torch

from protoformer.assembly.build import Parts, build, check_tables
from protoformer.assembly.model import build_module
from protoformer.distributed.strategy import resolve_accelerator
from protoformer.errors import ConfigurationError
from protoformer.inference.files.progress import Progress
from protoformer.inference.layers import output
from protoformer.inference.layers.features import LayerFeatures, Pooling, joined, read_layers
from protoformer.inference.layers.figure import draw_layers
from protoformer.inference.layers.probes import LayerProbe, LayerProbes, Mix, baseline
from protoformer.inference.layers.results import MetricResult, evaluated, metric_results
from protoformer.inference.layers.source_encoder import encoder_parts, encodes_texts, is_encoder_decoder
from protoformer.inference.syntax.output import writable_folder
from protoformer.models.poolers import MeanPooler
from protoformer.modules.evaluation import EvalOutputs
from protoformer.modules.linear_probe import LinearlyProbed, is_linearly_probed

MAX_FEATURES = 2**27  # numbers of 32 bits that training features may take: 512 MiB


@dataclass(frozen=True)
class LayerProbeRequest:
    """`rows` None: as many training rows as 512 MiB of features hold."""

    pooling: Pooling = "head"
    random: int = 1
    rows: int | None = None
    out: str | None = None


@dataclass(frozen=True)
class Predicted:
    """Probes of one model, and what they say of each dev split."""

    probes: list[LayerProbe]
    mix: Mix
    outputs: Mapping[str, list[EvalOutputs]]


class LayerProbing:
    """The data of a task, and a pass of a model over them."""

    device: str
    rows: list[int]
    progress: Progress
    done: int

    def __init__(self, config: dict[str, Any], options: LayerProbeRequest) -> None:
        torch.manual_seed(config["seed"])
        self.config, self.options = config, options
        self.of_encoder = is_encoder_decoder(config["init_from"])
        if self.of_encoder and not encodes_texts(config):
            raise _no_linear_head(config)
        self.parts: Parts = encoder_parts(config) if self.of_encoder else build(config)
        self.module: Any = self.parts.module
        if not is_linearly_probed(self.module):
            raise _no_linear_head(config)
        data = self.parts.data
        if not data.splits["train"] or not data.splits["validation"]:
            raise ConfigurationError(
                f"task={config['choices']['task']}: probes are fitted on its training split and scored on dev; "
                "give task.splits.train and task.splits.validation"
            )
        data.splits["test"] = {}  # not read
        data.setup()
        check_tables(self.parts)
        self.train: Any = data.tables["train"][""]
        self.dev: dict[str, Any] = data.tables["validation"]
        self.device = "cuda" if resolve_accelerator(config["hardware"]) == "gpu" else "cpu"
        self.layers: int = len(self.module.backbone.stack.layers) + 1
        self.rows = self._rows()
        total = (1 + options.random) * (len(self.rows) + sum(map(len, self.dev.values())))
        self.progress, self.done = Progress("example", total), 0

    def model(self, seed: int | None) -> Any:
        """The task's module with its weights, or with random ones."""
        if seed is None:
            module: Any = self.module
        else:
            config = self.parts.model.in_config(self.parts.config)
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(seed)
                module = build_module(config, self.parts.model.arguments)
        module.prepare_training(self.train)
        return module.to(self.device).eval()

    def predicted(self, module: Any) -> Predicted:
        """Fit the probes of a model, and apply them to the dev splits."""
        probes = LayerProbes(module, self.layers)
        fitted, mix = probes.fit(
            joined(self._read(module, self.train, self.rows), len(self.rows)), seed=self.config["seed"]
        )
        outputs = {
            name: probes.predict(fitted, self._read(module, table, range(len(table))))
            for name, table in self.dev.items()
        }
        return Predicted(fitted, mix, outputs)

    def _read(self, module: Any, table: Any, rows: Sequence[int]) -> Iterator[LayerFeatures]:
        yield from read_layers(
            cast(LinearlyProbed, module), self.parts.data, table, rows, self.options.pooling, self.progress, self.done
        )
        self.done += len(rows)

    def _rows(self) -> list[int]:
        """The training rows, or a part of them that is drawn."""
        table, module = self.train, self.module
        numbers = self.layers * module.backbone.d_model * table.sequences
        limit = self.options.rows or max(1, MAX_FEATURES // numbers)
        if len(table) <= limit:
            return list(range(len(table)))
        generator = torch.Generator().manual_seed(self.config["seed"])
        return sorted(torch.randperm(len(table), generator=generator)[:limit].tolist())


def _no_linear_head(config: dict[str, Any]) -> ConfigurationError:
    return ConfigurationError(
        f"task={config['choices']['task']}: no task with a linear head on pooled features, which probes are of: "
        "classification, regression, multiple choice; give task=TASK"
    )


def main(config: dict[str, Any], source: str, options: LayerProbeRequest) -> None:
    """Print the scores of probes of all layers, and write them where `options.out` says."""
    folder = None if options.out is None else writable_folder(options.out)
    probing = LayerProbing(config, options)
    module = probing.model(None)
    print("\n".join(_description(probing, source)))
    ours = probing.predicted(module)
    random = [probing.predicted(probing.model(seed)) for seed in range(options.random)]
    probing.progress.close()
    name = "majority" if module.labels is not None else "mean"
    results = _results(probing, ours, random)
    if not results:
        raise ConfigurationError("the dev data have no labels: there is no score")
    output.print_results(results, ours.mix, name)
    if folder is not None:
        files = output.write_tables(folder, results, ours.mix, [each.mix for each in random])
        title = f"{source}, {config['choices']['task']}"
        files.append(draw_layers(title, results, name, folder / "layers.svg"))
        print("\n".join(map(str, files)))


def _results(probing: LayerProbing, ours: Predicted, random: Sequence[Predicted]) -> list[MetricResult]:
    module = probing.module
    labels = torch.as_tensor(probing.train.labels[probing.rows])
    results: list[MetricResult] = []
    for split, outputs in ours.outputs.items():
        if not len(outputs[0][0]):
            continue
        evaluate = partial(evaluated, module, split)
        results += metric_results(
            split,
            [probe.name for probe in ours.probes],
            [probe.strength for probe in ours.probes],
            list(map(evaluate, outputs)),
            [list(map(evaluate, model.outputs[split])) for model in random],
            evaluate(baseline(module, labels, outputs[0])),
        )
    return results


def _description(probing: LayerProbing, source: str) -> list[str]:
    """What is measured, in a few lines."""
    module, options, table = probing.module, probing.options, probing.train
    averages = options.pooling == "mean" or isinstance(module.backbone.pooler, MeanPooler)
    read = "the mean of the tokens" if averages else "the token that the task's head reads"
    of = f" of {len(table):,}, drawn at random" if len(probing.rows) < len(table) else ""
    dev = ", ".join(f"{len(each):,} of {each.stats['origin']}" for each in probing.dev.values())
    layers = f"{'the encoder, ' if probing.of_encoder else ''}{probing.layers - 1} layers"
    return [
        f"{source}: {layers}, {module.backbone.d_model} wide; features are {read}.",
        f"Probes are fitted on {len(probing.rows):,} training examples{of}, and scored on {dev}.",
    ]
