"""A report as files: CSV, a row per run, and the printed tables in Markdown."""

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from protoformer.atomic import replace_atomically, write_text
from protoformer.reporting import paper_results
from protoformer.reporting.groups.runs import CollectedRuns, TaskRuns, attempt_of, seed_of
from protoformer.reporting.groups.table import group_notes, omitted_runs, published_rows, table_of
from protoformer.reporting.paper_results import is_percent
from protoformer.reporting.recipes import differing
from protoformer.reporting.tables import escape_markdown, markdown_table


def write_csv(file: Path, groups: Sequence[TaskRuns], collected: CollectedRuns) -> None:
    """Write one row per run and one per published number, with accuracies and correlations times 100.

    After the metrics come the config keys in which the runs differ; a cell is blank where the key is missing or null.
    """
    differing_keys = differing([run.settings for group in groups for run in group.runs])
    keys = list(dict.fromkeys(key for group in groups for run in group.runs for key in run.result["metrics"]))
    head = ["state", "model", "task", "recipe", "seed", "run_id", "attempt", "score", *keys]
    rows: list[dict[str, Any]] = []
    for group in groups:
        for recipe, runs in group.recipes.items():
            for run in runs:
                state = "best on dev" if run is group.best else "degenerate" if run.problems else "finished"
                values = {
                    key: _number(value, is_percent(key, run.result)) for key, value in run.result["metrics"].items()
                }
                rows.append({"state": state, "model": group.model, "task": group.task, "recipe": recipe} | values)
                rows[-1] |= {"seed": seed_of(run), "run_id": run.result["run_id"], "attempt": attempt_of(run)}
                rows[-1] |= {"score": _number(run.score, percent=True), "notes": "; ".join(run.problems)}
                rows[-1] |= {"folder": str(run.record.folder)}
                rows[-1] |= {
                    key: paper_results.as_yaml(run.settings[key]) for key in differing_keys if key in run.settings
                }
        for row in published_rows(group):
            rows.append(
                {"state": "published", "model": row.model, "task": row.task, "recipe": f"{row.source}: {row.row}"}
            )
            rows[-1] |= {row.key: row.value, "notes": row.protocol}
            head += [row.key] if row.key not in head else []
    rows += [{"state": "unfinished", "folder": text} for text in (*collected.unfinished, *collected.never_began)]
    rows += [{"state": "unreadable", "notes": text} for text in collected.skipped]
    with replace_atomically(file) as tmp, tmp.open("w", encoding="utf-8", newline="") as lines:
        writer = csv.DictWriter(lines, [*head, *differing_keys, "notes", "folder"], lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def write_markdown(file: Path, groups: Sequence[TaskRuns], collected: CollectedRuns) -> None:
    """The printed tables, as Markdown."""
    parts = ["# Runs beside the papers"]
    for group in groups:
        head, lines = table_of(group)
        table = markdown_table(head, lines, right=head[1:-1])
        parts += [f"## {escape_markdown(group.model)} on {escape_markdown(group.task)}", table]
        parts.append("\n".join(f"- {escape_markdown(line)}" for line in group_notes(group)))
    if omitted := omitted_runs(collected):
        parts += ["## Not in the tables", "\n".join(f"- {escape_markdown(line)}" for line in omitted)]
    write_text(file, "\n\n".join(parts) + "\n")


def _number(value: float, percent: bool) -> float:
    return round(100 * value, 4) if percent else value
