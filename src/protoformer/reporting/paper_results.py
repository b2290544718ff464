"""Results printed in papers, and the reasons why a run is not comparable with them.

`paper_results.csv` has one row per number. Columns: paper; table; row of that table; model; settings (the overrides of an
ablation's row, such as `model.n_heads=1`; for the row `base`, the values of all settings that the other rows vary); task; split
as in metric keys (`val`, `test/matched`); metric (`score`: the mean of the main metrics); value as printed; protocol. The rows
of a model's own paper come before those of later code, and result tables before ablations.
"""

import csv
import functools
import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from importlib import resources
from typing import Any

import yaml

from protoformer.config.schema import IGNORED_IN_RUN_ID

BASE = "base"  # name of an ablation's reference row
ROWS = {  # of the published dev and test splits, as the hub has them
    "glue/cola": {"validation": 1043},
    "glue/sst2": {"validation": 872},
    "glue/mrpc": {"validation": 408},
    "glue/stsb": {"validation": 1500},
    "glue/qqp": {"validation": 40430},
    "glue/mnli": {"validation/matched": 9815, "validation/mismatched": 9832},
    "glue/qnli": {"validation": 5463},
    "glue/rte": {"validation": 277},
    "squad/v1": {"validation": 10570},
    "squad/v2": {"validation": 11873},
    "swag": {"validation": 20006},
    "translate/wmt14_en_de": {"validation": 3000, "test": 3003},
    "translate/wmt14_en_fr": {"validation": 3000, "test": 3003},
    "lm/wikitext2": {"test": 4358},
    "lm/wikitext103": {"test": 4358},
}
TOO_LARGE = 1e6  # for four digits behind the point
BYTES = {"lm/enwik8": {"test": 5_000_000}, "lm/text8": {"test": 5_000_000}}  # of test sets that are cut by bytes


@dataclass(frozen=True, eq=False)
class Row:
    """A published number; `value` is in the paper's units (accuracy, F1, correlations and BLEU times 100)."""

    paper: str
    table: str
    row: str
    model: str
    settings: str
    task: str
    split: str
    metric: str
    value: float
    protocol: str

    @property
    def key(self) -> str:
        """The key that the same number has in a run's metrics (`val/matched/accuracy`)."""
        return f"{self.split}/{self.metric}"

    @property
    def source(self) -> str:
        """Short citation: paper and table."""
        return f"{self.paper.split(',')[0]}, {self.table}"

    @functools.cached_property
    def overrides(self) -> dict[str, Any]:
        """The settings of an ablation's row, by dotted key."""
        pairs = (setting.split("=", 1) for setting in self.settings.split())
        return {key: yaml.safe_load(value) for key, value in pairs}

    @property
    def is_base(self) -> bool:
        """Whether this is the reference row of an ablation."""
        return self.row == BASE

    def matches(self, config: Mapping[str, object], base: Mapping[str, object]) -> bool:
        """Whether a run's config has the settings of this row, and those of the base otherwise."""
        return not _differences(config, base, self.overrides)


@functools.cache
def _paper_grids() -> dict[str, dict[str, list[object]]]:
    """Family -> key -> the values among which its paper chose (`paper_grids.yaml`)."""
    text = resources.files("protoformer.reporting").joinpath("paper_grids.yaml").read_text(encoding="utf-8")
    grids: dict[str, dict[str, list[object]]] = yaml.safe_load(text)
    return grids


@functools.cache
def rows() -> tuple[Row, ...]:
    """Every published number."""
    text = resources.files("protoformer.reporting").joinpath("paper_results.csv").read_text(encoding="utf-8")
    lines = csv.DictReader(text.splitlines())
    return tuple(Row(value=float(line.pop("value")), **line) for line in lines)


def published(model: str, task: str, split: str | None = None) -> list[Row]:
    """The published numbers of a model on a task, those of its own paper first; `split` is `val`, `test`, `val/matched` ...

    Only the unmodified model; `ablation_variants` finds the rows of ablations.
    """
    rows = (row for row in _rows_of(model, task) if not row.settings or row.is_base)
    return [row for row in rows if split in (None, row.split)]


def ablation_variants(model: str, task: str, config: Mapping[str, object]) -> list[Row]:
    """The published numbers of the ablation row with the settings of `config`, if there is one.

    A row matches if the config has the row's overrides, and the base's value of every other setting that the ablation varies.
    """
    base = _base(model, task)
    rows = (row for row in _rows_of(model, task) if row.settings and not row.is_base)
    matches = [row for row in rows if row.matches(config, base)]
    return matches if len({row.settings for row in matches}) == 1 else []


def _base(model: str, task: str) -> dict[str, object]:
    """The settings of the reference row of a model's ablation on a task."""
    return next((row.overrides for row in _rows_of(model, task) if row.is_base), {})


def _differences(
    config: Mapping[str, object], base: Mapping[str, object], overrides: Mapping[str, object] | None = None
) -> dict[str, object]:
    """The settings of a config that differ from the base with `overrides`.

    A setting that the config does not state has the builder's default, which is the value of the base.
    """
    expected = {**base, **(overrides or {})}
    stated = {key: _setting(config, key) for key in expected}
    actual = {key: base.get(key) if value is None else value for key, value in stated.items()}
    return {key: value for key, value in actual.items() if value != expected[key]}


def published_value(model: str, task: str, key: str, config: Mapping[str, Any] | None = None) -> Row | None:
    """The published number of the same metric and split, or None."""
    rows = [*ablation_variants(model, task, config or {}), *published(model, task)]
    return next((row for row in rows if row.key == key), None)


def _rows_of(model: str, task: str) -> list[Row]:
    return [row for row in rows() if (row.model, row.task) == (model, task)]


def _setting(config: object, key: str) -> Any:
    for name in key.split("."):
        config = config.get(name) if isinstance(config, Mapping) else None
    return config


def is_percent(key: str, result: Mapping[str, Any]) -> bool:
    """Whether papers print the metric `key` of this run times 100, as accuracy; true for the mean `score`."""
    name = key.rpartition("/")[2]
    return name == "score" or name in result["task_type"]["percent_metrics"]


def format_metric(value: float | None, percent: bool, digits: int = 2) -> str:
    """A number as the papers print it: accuracy 0.8407 as 84.07; other metrics unscaled, with two more digits. What is too
    large for them, such as a perplexity of words, has four digits and an exponent."""
    if value is None:
        return "-"
    if math.isnan(value):
        return "nan"
    if percent:
        return f"{100 * value:.{digits}f}"
    return f"{value:.{digits + 2}f}" if abs(value) < TOO_LARGE else f"{value:.3e}"


def score_keys(metrics: Iterable[str]) -> list[str]:
    """The keys of scores on dev and test sets, without losses and without the mean `score`."""
    return [
        key
        for key in metrics
        if key.startswith(("val/", "test/")) and key.rsplit("/", 1)[-1] not in ("score",) and not key.endswith("loss")
    ]


def caveats(config: Mapping[str, Any], result: Mapping[str, Any] | None = None) -> list[str]:
    """Reasons why a run is not the paper's experiment: other weights, sample data, a part of the data or another number of
    rows, settings that are neither those of an ablation's base nor of one of its rows, and every other key that was typed."""
    reasons = []
    model, task = (str((config.get("choices") or {}).get(key)) for key in ("model", "task"))
    base = _base(model, task)
    if not ablation_variants(model, task, config) and (differences := _differences(config, base)):
        text = ", ".join(f"{key}={value} ({base[key]})" for key, value in differences.items())
        reasons.append(f"it is none of the paper's variations: {text}")
    if (config.get("choices") or {}).get("source") == "sample":
        reasons.append("it uses the built-in sample data, not the data set")
    else:
        reasons += _other_rows(task, config, (result or {}).get("data") or {})
    start, weights = config.get("init_from", "auto"), (config.get("model") or {}).get("hf") or {}
    if start == "scratch":
        untrained = ((result or {}).get("training") or {}).get("steps") == 0
        reasons.append("its weights are random" if untrained else "it was trained from scratch")
    elif start not in ("auto", weights.get("repo")):
        reasons.append(f"it started from {start}, not from the model's published weights")
    trainer = config.get("trainer") or {}
    limits = [f"trainer.{key}={trainer[key]}" for key in sorted(trainer) if key.startswith("limit_") and trainer[key]]
    if limits:
        reasons.append(f"it used a part of the data ({', '.join(limits)})")
    named = {*base, "init_from", *(limit.partition("=")[0] for limit in limits)}
    typed = [f"{key}={as_yaml(value)}" for key, value in typed_settings(config).items() if _departs(key, named, config)]
    if typed:
        reasons.append(f"it was run with {', '.join(typed)}")
    return reasons


def _other_rows(task: str, config: Mapping[str, Any], data: Mapping[str, Any]) -> list[str]:
    """Splits whose numbers of rows are not those of the published data set, whatever files they came from."""
    expected = {"train": _setting(config, "task.train_examples"), **ROWS.get(task, {})}
    reasons = []
    for split, stats in data.items():
        count, published_count = stats.get("bytes"), BYTES.get(task, {}).get(split)
        if count is not None and published_count not in (None, count):
            reasons.append(f"its {split} split has {count:,} bytes, that of the data set {published_count:,}")
        rows, published_rows = stats.get("rows"), expected.get(split)
        if None in (rows, published_rows) or published_rows in (rows, rows - stats.get("skipped", 0)):
            continue
        reasons.append(f"its {split} split has {rows:,} rows, that of the data set {published_rows:,}")
    return reasons


def typed_settings(config: Mapping[str, Any]) -> dict[str, Any]:
    """The keys that were typed and can change a result, the seed aside, with their values."""
    typed = (config.get("choices") or {}).get("set") or ()
    ignored = ("seed", *IGNORED_IN_RUN_ID)
    return {
        key: _setting(config, key)
        for key in typed
        if key and not any(key == each or key.startswith(f"{each}.") for each in ignored)
    }


def as_yaml(value: object) -> str:
    """A value as it is typed: `true`, `[0.9, 0.98]`, `{patience: 3}`, `2e-05`."""
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{key}: {as_yaml(inner)}" for key, inner in value.items()) + "}"
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(as_yaml, value))}]"
    if isinstance(value, float):
        return f"{value:g}"
    return value if isinstance(value, str) else json.dumps(value)


def _departs(key: str, named: Iterable[str], config: Mapping[str, Any]) -> bool:
    """Whether a typed key is a departure from the paper of which nothing else is said."""
    if key in named or key.startswith("source."):  # where the same data lie
        return False
    grid = _paper_grids().get(str((config.get("choices") or {}).get("family")), {})
    return _setting(config, key) not in grid.get(key, ())
