"""The papers' own numbers, and what keeps a run from being held against them.

`published.csv` beside this file is a row a number: paper, table, the row's name there, our model, the settings in which an
ablation's row differs from it (`model.n_heads=1`; of the row `base` all that the others vary), our task, the split in the
words of our metric keys (`val`, `test/matched`), the metric (`score`: the mean over what we hold apart), the value as printed,
and how it was come by. The rows of a model's own paper stand before those of later code, and a table of results before an
ablation.
"""

import csv
import functools
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from importlib import resources
from typing import Any

BASE = "base"  # the name of the row that an ablation's others differ from


@dataclass(frozen=True, eq=False)
class Row:
    """A published number; `value` in the paper's units (accuracies, F1, correlations and BLEU times 100)."""

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
        """Where it is printed, in a few words."""
        return f"{self.paper.split(',')[0]}, {self.table}"

    @functools.cached_property
    def differs(self) -> dict[str, Any]:
        """The settings of an ablation's row, by dotted key."""
        import yaml

        pairs = (setting.split("=", 1) for setting in self.settings.split())
        return {key: yaml.safe_load(value) for key, value in pairs}

    @property
    def is_base(self) -> bool:
        """Whether this is what an ablation's rows differ from."""
        return self.row == BASE

    def fits(self, config: Mapping[str, Any], base: Mapping[str, Any]) -> bool:
        """Whether a run's config has these settings, and else those of the base."""
        return not _deviations(config, base, self.differs)


@functools.cache
def rows() -> tuple[Row, ...]:
    """Every published number."""
    text = resources.files("protoformer.reporting").joinpath("paper_results.csv").read_text(encoding="utf-8")
    lines = csv.DictReader(text.splitlines())
    return tuple(Row(value=float(line.pop("value")), **line) for line in lines)


def published(model: str, task: str, split: str | None = None) -> list[Row]:
    """The numbers printed for a model on a task, the paper's own first; `split` is `val`, `test`, `val/matched` ...

    Those of the model as it is; an ablation's rows are found by what they change (`ablation_variants`).
    """
    own = (row for row in _of(model, task) if not row.settings or row.is_base)
    return [row for row in own if split in (None, row.split)]


def ablation_variants(model: str, task: str, config: Mapping[str, Any]) -> list[Row]:
    """The numbers of the ablation's row that a run's config is, if it is one: it has what the row changes, and nothing else
    that other rows change."""
    base = _base(model, task)
    rows = (row for row in _of(model, task) if row.settings and not row.is_base)
    found = [row for row in rows if row.fits(config, base)]
    return found if len({row.settings for row in found}) == 1 else []


def _base(model: str, task: str) -> dict[str, Any]:
    """The settings of the base that a model's ablation on a task has."""
    return next((row.differs for row in _of(model, task) if row.is_base), {})


def _deviations(
    config: Mapping[str, Any], base: Mapping[str, Any], differs: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """Settings of a config that differ from an ablation's base with the changes `differs`. A setting that the config does not
    state is the builder's default, which is the base's value."""
    expected = {**base, **(differs or {})}
    settings = {key: _setting(config, key) for key in expected}
    settings = {key: base.get(key) if value is None else value for key, value in settings.items()}
    return {key: value for key, value in settings.items() if value != expected[key]}


def published_value(model: str, task: str, key: str, config: Mapping[str, Any] | None = None) -> Row | None:
    """The published number of the very metric and split, or None."""
    rows = [*ablation_variants(model, task, config or {}), *published(model, task)]
    return next((row for row in rows if row.key == key), None)


def _of(model: str, task: str) -> list[Row]:
    return [row for row in rows() if (row.model, row.task) == (model, task)]


def _setting(config: Any, key: str) -> Any:
    for name in key.split("."):
        config = config.get(name) if isinstance(config, Mapping) else None
    return config


def is_percent(key: str, result: Mapping[str, Any]) -> bool:
    """Whether papers print the metric `key` of this run times 100, as they do accuracy; the mean of the main metrics is."""
    name = key.rpartition("/")[2]
    return name == "score" or name in result["task_type"]["percent_metrics"]


def format_metric(value: float | None, percent: bool, digits: int = 2) -> str:
    """A number as the papers print it: accuracy 0.8407 as 84.07; what is no percentage with two digits more."""
    if value is None:
        return "-"
    if math.isnan(value):
        return "nan"
    return f"{100 * value:.{digits}f}" if percent else f"{value:.{digits + 2}f}"


def score_keys(metrics: Iterable[str]) -> list[str]:
    """The keys of a run's metrics that are scores on a dev or test set: no loss, no mean of several."""
    return [
        key
        for key in metrics
        if key.startswith(("val/", "test/")) and key.rsplit("/", 1)[-1] not in ("score",) and not key.endswith("loss")
    ]


def caveats(config: Mapping[str, Any]) -> list[str]:
    """Why this run's numbers are not those of the paper's experiment: other initial weights, other data or a part of it, or
    settings that are no row of the paper's ablation."""
    notes = []
    named = [str((config.get("choices") or {}).get(key)) for key in ("model", "task")]
    base = _base(named[0], named[1])
    if not ablation_variants(named[0], named[1], config) and (other := _deviations(config, base)):
        deviations = ", ".join(f"{key}={value} ({base[key]})" for key, value in other.items())
        notes.append(f"it is none of the paper's variations: {deviations}")
    if (config.get("choices") or {}).get("source") == "sample":
        notes.append("its rows are those of the built-in sample, not the data set's")
    start, weights = config.get("init_from", "auto"), (config.get("model") or {}).get("hf") or {}
    if start == "scratch":
        notes.append("it was trained from scratch")
    elif start not in ("auto", weights.get("repo")):
        notes.append(f"it started from {start}, not from the model's published weights")
    trainer = config.get("trainer") or {}
    limits = [f"trainer.{key}={trainer[key]}" for key in sorted(trainer) if key.startswith("limit_") and trainer[key]]
    if limits:
        notes.append(f"it saw a part of the data ({', '.join(limits)})")
    return notes
