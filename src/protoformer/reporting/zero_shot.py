"""`protoformer report lm`: runs of GPT-2's zero-shot tasks beside the paper's four sizes and the known reproductions.

A number stands in the row of its metric, whose name says the unit and the stride. What was not run reads "not run".
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from protoformer.atomic import write_text
from protoformer.errors import UserError
from protoformer.reporting import paper_results
from protoformer.reporting.paper_results import Row, format_metric, is_percent
from protoformer.reporting.report import collect
from protoformer.reporting.tables import make_console, markdown_table, print_line, print_table

PAPER, TABLE = "GPT-2, Radford et al. 2019", "Table 3"
COLUMNS = ("prior best", "117M", "345M", "762M", "1542M")
HEAD = ("task", "metric", "ours", *COLUMNS, "reproductions")
NOT_RUN = "not run"
SHOWN = ("perplexity", "accuracy", "bits")  # beginnings of the metrics' names


@dataclass(frozen=True)
class ZeroShotRun:
    """A finished run: its model, its printed metrics (of the test set, of CBT of the validation set as in the paper), what
    differs from the paper's experiment."""

    model: str
    run_id: str
    task: str
    metrics: Mapping[str, str]
    notes: Mapping[str, str]
    caveats: Sequence[str]


def main(folders: Sequence[str], markdown: str | None = None) -> None:
    """Print the table, the protocols of its numbers and the caveats of the runs; also as Markdown into a file."""
    runs, problems = [], []
    try:
        runs = list(read_runs(folders or ["outputs"]))
    except UserError as error:
        if folders and not all(Path(folder).is_dir() for folder in folders):
            raise
        problems = [str(error)]  # the table says that nothing was run
    rows, lines = table(runs), [*protocols(), *notes(runs), *problems]
    console = make_console()
    print_table(HEAD, rows, "GPT-2's zero-shot tasks", console=console, right=HEAD[2:])
    for line in lines:
        print_line(console, line)
    if markdown:
        text = markdown_table(HEAD, rows, HEAD[2:]) + "\n\n" + "\n".join(f"- {line}" for line in lines) + "\n"
        write_text(Path(markdown), text)


def read_runs(folders: Sequence[str]) -> Iterator[ZeroShotRun]:
    """The finished runs of the tasks `lm/...` in these folders."""
    for run in collect(folders).runs:
        result = run.result
        if not str(result["task"]).startswith("lm/"):
            continue
        stage = "test" if any(key.startswith("test/") for key in result["metrics"]) else "val"
        metrics = {
            key.removeprefix(f"{stage}/"): format_metric(value, is_percent(key, result))
            for key, value in result["metrics"].items()
            if key.startswith(tuple(f"{stage}/{name}" for name in SHOWN)) and not key.endswith("_stderr")
        }
        caveats = paper_results.caveats(run.record.config, result)
        yield ZeroShotRun(
            result["model"], result["run_id"], result["task"], metrics, result.get("notes", {}).get(stage, {}), caveats
        )


def published() -> list[Row]:
    """The numbers of the tasks `lm/...`, those of the paper first."""
    return [row for row in paper_results.rows() if row.task.startswith("lm/")]


def table(runs: Sequence[ZeroShotRun]) -> list[tuple[str, ...]]:
    """A row for each metric of each task: those of the paper and its reproductions, then those of the runs alone."""
    rows, names = published(), _names(runs)
    lines = []
    tasks = dict.fromkeys([*(row.task for row in rows), *(run.task for run in runs)])
    for task in tasks:
        own = [run for run in runs if run.task == task]
        of_paper = [row.metric for row in rows if row.task == task]
        for metric in dict.fromkeys([*of_paper, *(name for run in own for name in run.metrics)]):
            ours = [f"{names[id(run)]} {run.metrics[metric]}" for run in own if metric in run.metrics]
            of_metric = [row for row in rows if (row.task, row.metric) == (task, metric)]
            by_row = {row.row: f"{row.value:g}" for row in of_metric if row.paper == PAPER}
            others = [f"{row.model} {row.value:g}" for row in of_metric if row.paper != PAPER]
            cells = [by_row.get(name, "") for name in COLUMNS]
            lines.append((task, metric, "\n".join(ours) or NOT_RUN, *cells, "\n".join(others)))
    return lines


def protocols() -> list[str]:
    """Which protocol each published number has."""
    lines: dict[str, None] = {}
    for row in published():
        if row.row != "prior best":
            source = f"{row.paper.partition(',')[0]}, {row.table}"
            lines[f"{row.task} {row.metric}, {source}: {row.protocol}"] = None
    return list(lines)


def _names(runs: Sequence[ZeroShotRun]) -> dict[int, str]:
    """What each run is called: its model, and where that has several runs of the task its run too."""
    counts = Counter((run.model, run.task) for run in runs)
    return {id(run): f"{run.model} ({run.run_id})" if counts[run.model, run.task] > 1 else run.model for run in runs}


def notes(runs: Sequence[ZeroShotRun]) -> list[str]:
    """How the runs' numbers were computed, and why they are not the paper's."""
    lines, names = [], _names(runs)
    for run in runs:
        how = "; ".join(f"{name} {text}" for name, text in run.notes.items())
        lines.append(f"{names[id(run)]} on {run.task}: {how}" + "".join(f"; {each}" for each in run.caveats))
    return lines
