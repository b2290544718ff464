"""Card of a run (`card.md`): settings, scores beside the paper's, curves, and the command that repeats it."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from protoformer.atomic import write_text
from protoformer.errors import RunFolderError
from protoformer.reporting import calibration, paper_results, results
from protoformer.reporting.error_analysis import data_map, slice_section
from protoformer.reporting.tables import escape_markdown, fenced, markdown_table
from protoformer.runs import reader
from protoformer.views import curves


def write_card(folder: Path) -> Path:
    """Write card.md and curves.svg from the files of a finished run; returns the path of the card."""
    record = reader.read(folder)
    if record.result is None:
        raise RunFolderError(f"{folder} is not finished: it has no result.json")
    has_curves = (folder / "metrics.jsonl").exists()
    if has_curves:
        task_type = record.result["task_type"]
        curves.draw(
            folder / "metrics.jsonl",
            {*task_type["main_metrics"], *task_type["percent_metrics"]},
            task_type.get("headline"),
            {name: probe["metric"] for name, probe in (record.result.get("probes") or {}).items()},
        )
    result, config = record.result, record.config
    sections = [
        f"# {escape_markdown(record.model)} on {escape_markdown(record.task)}",
        _introduction(result, config),
        "\n".join(f"> **Warning**: {escape_markdown(text)}." for text in results.warnings(record)),
        _scores(result, config),
        *(_class_scores(name, scores) for name, scores in (result.get("class_scores") or {}).items()),
        slice_section.section(record),
        calibration.section(folder, result.get("calibration") or {}),
        f"## {'Training' if results.is_trained(result) else 'Evaluation'}\n\n"
        + markdown_table(("", ""), results.summary(result).items()),
        "![Training loss and dev scores over optimizer steps](curves.svg)" if has_curves else "",
        data_map.section(folder),
        "## Settings\n\n" + markdown_table(("key", "value"), _settings(config, with_recipe=results.is_trained(result))),
        _origin(result),
        "## Run it again\n\n" + fenced(result["command"], "sh") if result.get("command") else "",
    ]
    card = folder / "card.md"
    write_text(card, "\n\n".join(section for section in sections if section) + "\n")
    return card


def _introduction(result: Mapping[str, object], config: Mapping[str, object]) -> str:
    attempt = f", attempt {result['attempt']}" if result.get("attempt", 1) != 1 else ""
    finished = f", finished {escape_markdown(result['finished'])}" if result.get("finished") else ""
    start = escape_markdown(result.get("init_from") or config.get("init_from", "auto"))
    seed = escape_markdown(result.get("seed", config.get("seed")))
    return f"Run {escape_markdown(result['run_id'])}{attempt}{finished}, from seed {seed}. It started from {start}."


def _scores(result: Mapping[str, Any], config: Mapping[str, Any]) -> str:
    lines = results.scores(result, config)
    if not lines:
        return "## Scores\n\nThis run has no scores."
    rows = [(line.key, line.ours, line.theirs, line.row.source if line.row else "") for line in lines]
    parts = ["## Scores", markdown_table(("metric", "this run", "published", "printed in"), rows)]
    parts.append("Accuracy, F1, BLEU and correlations are times 100, as the papers print them.")
    parts += _published(result["model"], result["task"], config, lines)
    notes = paper_results.caveats(config, result)
    if notes and any(line.row for line in lines):
        parts.append(f"**This is not the paper's experiment**: {escape_markdown('; '.join(notes))}.")
    return "\n\n".join(parts)


def _published(model: str, task: str, config: Mapping[str, Any], lines: Sequence[results.Score]) -> list[str]:
    """The protocol of each published number, and which scores have no published counterpart."""
    rows = [*paper_results.ablation_variants(model, task, config), *paper_results.published(model, task)]
    if not rows:
        return [f"No published results of {escape_markdown(model)} on {escape_markdown(task)} are recorded."]
    parts = []
    ours = [line for line in lines if line.ours != "-"]
    unpublished = [line.key for line in ours if line.row is None]
    if unpublished:
        parts.append(f"No published number for {escape_markdown(', '.join(unpublished))} of this model and task.")
    if ours and len(unpublished) == len(ours):
        splits = dict.fromkeys(row.split for row in rows)
        parts.append(
            f"The published results are on another split ({escape_markdown(', '.join(splits))}): **not directly comparable**."
        )
    protocols = [(row.source, row.row, row.key, f"{row.value:g}", row.protocol) for row in rows]
    parts.append("How the published numbers were obtained:")
    parts.append(markdown_table(("source", "row", "metric", "value", "protocol"), protocols))
    return parts


def _class_scores(name: str, scores: Mapping[str, Any]) -> str:
    """A table of precision, recall and F1 of each class, and the confusion matrix, of one split."""
    labels = scores["labels"]
    rows = [
        (
            label,
            *(f"{100 * scores[metric][i]:.2f}" for metric in ("precision", "recall", "f1")),
            scores["references"][i],
        )
        for i, label in enumerate(labels)
    ]
    matrix = [(label, *counts) for label, counts in zip(labels, scores["confusion_matrix"], strict=True)]
    numbers = ("precision", "recall", "F1", "rows")
    return "\n\n".join(
        (
            f"## Classes of {escape_markdown(name)}",
            markdown_table(("label", *numbers), rows, right=numbers),
            "Rows by their label (down) and the predicted one (across):",
            markdown_table(("", *labels), matrix, right=labels),
        )
    )


def _settings(config: Mapping[str, Any], *, with_recipe: bool) -> list[tuple[str, Any]]:
    """Every key that was typed; options of the config groups, the recipe, and hardware settings."""
    choices, recipe = config.get("choices") or {}, (config.get("recipe") or {}) if with_recipe else {}
    typed = paper_results.typed_settings(config)
    rows = [(f"{key} (set)", paper_results.as_yaml(value)) for key, value in typed.items()]
    rows += [
        (key, value) for key, value in choices.items() if isinstance(value, str) and value not in ("none", "default")
    ]
    limited = recipe.get("max_steps", -1) > 0
    left_out = ("epochs",) if limited and recipe.get("epochs") is None else () if limited else ("max_steps",)
    rows += [
        (f"recipe.{key}", paper_results.as_yaml(value))
        for key, value in recipe.items()
        if value is not None and key not in left_out and f"recipe.{key}" not in typed and not isinstance(value, Mapping)
    ]
    hardware = config.get("hardware") or {}
    return rows + [(f"hardware.{key}", hardware[key]) for key in ("precision", "packing", "devices") if key in hardware]


def _origin(result: Mapping[str, Any]) -> str:
    """Digests of code, data and weights, and library versions."""
    digests = dict(result.get("digests") or {})
    data = digests.pop("data", None) or {}
    rows = [(f"{name} digest", digest) for name, digest in digests.items() if digest is not None]
    rows += [(f"data digest, {split}", digest) for split, digest in data.items()]
    rows += list((result.get("versions") or {}).items())
    return "## Code, data, weights, versions\n\n" + markdown_table(("", ""), rows) if rows else ""
