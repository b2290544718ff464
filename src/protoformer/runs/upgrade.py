"""Run folders of earlier versions, brought to today's form as they are read; nothing on the disk is changed."""

from collections.abc import Mapping

from protoformer.config.old_keys import upgraded

# what results did not say before they held `task_type`
PERCENT_METRICS = [
    "accuracy", "best_exact_match", "best_f1", "bleu", "compound_bleu", "exact_match", "f1", "matthews_correlation",
    "mlm_accuracy", "nsp_accuracy", "pearson", "spearman",
]  # fmt: skip
INCOMPLETE_DATA = {
    "truncated": "truncated rows",
    "questions_truncated": "truncated questions",
    "unseen": "answers that no window shows",
    "skipped": "rows left out",
    "too_long": "pairs left out as too long",
}


def upgrade_config(config: Mapping[str, object]) -> dict[str, object]:
    """A run's config with today's keys."""
    return upgraded(config)


def upgrade_result(result: Mapping[str, object]) -> dict[str, object]:
    """A run's result with today's keys."""
    if "task_type" in result:
        return dict(result)
    task_type = {
        "main_metrics": ["token_probability"] if result.get("kind") == "causal_lm" else [],
        "percent_metrics": PERCENT_METRICS,
        "free_text": result.get("kind") in ("translation", "causal_lm"),
        "incomplete_data": INCOMPLETE_DATA,
    }
    return {**result, "task_type": task_type}
