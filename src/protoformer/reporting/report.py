"""Comparison of runs with each other and with the papers: tables for the terminal, CSV and Markdown.

Runs of one model on one task are grouped by recipe (all settings that can change a result, except the seed), with mean and
standard deviation (n - 1) over seeds. The best single run on dev, which papers submit, is marked. Degenerate runs are named;
they count in the means.
"""

from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from protoformer.errors import RunFolderError, UserError
from protoformer.reporting import diagnostics, paper_results
from protoformer.reporting.groups.files import write_csv, write_markdown
from protoformer.reporting.groups.runs import CollectedRuns, ReportedRun, TaskRuns, arrange, attempt_of
from protoformer.reporting.groups.table import group_notes, omitted_runs, paper_lines, table_of
from protoformer.reporting.recipes import settings
from protoformer.reporting.tables import counted, make_console, print_line, print_table
from protoformer.runs import reader
from protoformer.runs.metrics import read_curves
from protoformer.runs.tracked import offline_folders, upload_command


def main(folders: Sequence[str], csv: str | None = None, markdown: str | None = None) -> None:
    """Print the runs in `folders`. `csv` names a file with one row per run, `markdown` a file with the printed tables.

    A run that cannot be read is reported and left out. Raises UserError for a folder that does not exist or has no runs, and
    where none can be read.
    """
    console = make_console()
    collected = collect(folders)
    if collected.skipped and not (collected.runs or collected.unfinished or collected.never_began):
        more = f" (and {len(collected.skipped) - 1} more)" if collected.skipped[1:] else ""
        raise UserError(f"no run can be read: {collected.skipped[0]}{more}")
    groups = arrange(collected.runs)
    for group in groups:
        _print(group, console)
    for line in omitted_runs(collected):
        print_line(console, line)
    offline = [folder for folder in reader.find_runs(folders) if offline_folders(folder)]
    if offline:
        print_line(console, f"Tracked offline: {counted(len(offline), 'run')}. Upload: {upload_command(offline)}")
    if csv is not None:
        write_csv(Path(csv), groups, collected)
    if markdown is not None:
        write_markdown(Path(markdown), groups, collected)


def collect(folders: Sequence[str]) -> CollectedRuns:
    """Read every run; of several attempts of one run, take the last finished one."""
    collected = CollectedRuns()
    attempts: dict[tuple[Path, str], ReportedRun] = {}
    for folder in reader.find_runs(folders):
        try:
            record = reader.read(folder)
            if record.result is None:
                step = _last_step(folder)
                if step is None:
                    collected.never_began.append(str(folder))
                else:
                    collected.unfinished.append(f"{folder} (at step {step:,})")
                continue
            run = ReportedRun(record, record.result, settings(record.config), diagnostics.find_problems(record))
            for group in arrange(
                [run]
            ):  # a result of another program, or of a later version, may lack or change anything
                table_of(group), group_notes(group)
        except RunFolderError as error:
            collected.skipped.append(str(error))
            continue
        except Exception as error:  # of any kind: one run does not hide the others
            message = " ".join(str(error).split())[:200]
            collected.skipped.append(
                f"{folder}: cannot be read as a run of this version ({type(error).__name__}: {message})"
            )
            continue
        same = (folder.parent, str(run.result["run_id"]))
        if same in attempts:
            collected.replaced += 1
        if same not in attempts or attempt_of(run) > attempt_of(attempts[same]):
            attempts[same] = run
    collected.runs = list(attempts.values())
    return collected


def _print(group: TaskRuns, console: Console) -> None:
    head, lines = table_of(group)
    n_runs = len(lines) - len(paper_lines(paper_results.published(group.model, group.task), group.columns))
    print_table(
        head,
        lines,
        f"{group.model} x {group.task}",
        console=console,
        framed=True,
        right=head[1:-1],
        section_after=n_runs,
    )
    for line in group_notes(group):
        print_line(console, line)
    console.print()


def _last_step(folder: Path) -> int | None:
    """The last step that an unfinished run logged or saved a checkpoint at; None: it reached none."""
    file = folder / "metrics.jsonl"
    steps = [steps[-1] for steps, _ in read_curves(file).values()] if file.exists() else []
    if steps:
        return max(steps)
    return 0 if (folder / "checkpoints" / "last.ckpt").exists() else None
