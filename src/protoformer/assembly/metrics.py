"""Metrics of torchmetrics that a task's yaml names by `_target_`: completed before they are built."""

from collections.abc import Mapping, Sequence
from typing import Any

from protoformer.config.annotations.signatures import signature
from protoformer.errors import ConfigurationError


def with_complete_metrics(module: Mapping[str, Any]) -> dict[str, Any]:
    """A node `task.module` whose metrics by `_target_` have the number of the task's labels as `num_classes`.

    Raises ConfigurationError for a metric that lacks another argument.
    """
    metrics = module.get("metrics")
    if not isinstance(metrics, Sequence) or isinstance(metrics, str):
        return dict(module)
    labels = module.get("labels") or module.get("choices")
    complete = [_complete(f"task.module.metrics[{i}]", each, labels) for i, each in enumerate(metrics)]
    return {**module, "metrics": complete}


def _complete(key: str, metric: Any, labels: Sequence[str] | None) -> Any:
    if not isinstance(metric, Mapping) or "_target_" not in metric:
        return metric
    parameters = signature(metric["_target_"]).parameters
    complete = dict(metric)
    if labels is not None and "num_classes" in parameters and complete.get("num_classes") is None:
        complete["num_classes"] = len(labels)
    missing = [name for name, each in parameters.items() if each.required and name not in complete]
    if missing:
        raise ConfigurationError(f"{key}: {metric['_target_']} needs {', '.join(missing)}")
    return complete
