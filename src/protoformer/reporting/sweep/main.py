"""`protoformer report sweep`: table, best, spread and importance on the terminal; a CSV file and a figure."""

import csv as csv_files
from pathlib import Path

from rich.console import Console

from protoformer.atomic import replace_atomically
from protoformer.errors import UserError
from protoformer.reporting.sweep.rows import (
    REPEATING,
    SweepResults,
    TrialRow,
    configurations,
    importances,
    read_results,
)
from protoformer.reporting.tables import counted, format_duration, make_console, print_line, print_table
from protoformer.views.sweep import FORMATS, draw_sweep

ORDER = ("finished", "pruned", "failed", "running", "stopped", "queued")


def main(folder: str, *, csv: str | None = None, figure: str | None = None) -> SweepResults:
    """Print a sweep's report; files go into its folder where no other name is given."""
    path = Path(folder)
    if figure is not None and Path(figure).suffix not in FORMATS:
        raise UserError(f"--figure {figure}: the file must end in {' or '.join(FORMATS)}")
    results = read_results(path)
    console = make_console()
    print_trials(console, results)
    print_best(console, results)
    _print_spread(console, results)
    weights = importances(results, [key for key in results.keys if key not in REPEATING])
    if weights:
        print_line(console, f"importance of the parameters for {results.objective} (PED-ANOVA):")
        lines = [[key, f"{weight:.3f}"] for key, weight in weights.items()]
        print_table(("parameter", "importance"), lines, console=console, right=("importance",))
    files = [Path(csv) if csv else path / "trials.csv"]
    _write_csv(files[0], results)
    if results.finished:
        files.append(Path(figure) if figure else path / "trials.svg")
        draw_sweep(results.objective, results.maximize, _points(results), files[1])
    print_line(console, f"written: {', '.join(map(str, files))}")
    return results


def print_trials(console: Console, results: SweepResults) -> None:
    """A line for each trial, the best first, then those without a score."""
    rows = sorted(results.rows, key=lambda row: _order(results, row))
    has_errors, has_devices = (any(getattr(row, name) for row in rows) for name in ("error", "device"))
    lines = [
        [
            str(row.number),
            *(_short(row.params.get(key, "")) for key in results.keys),
            *([row.device] if has_devices else []),
            row.state + (f" ({counted(row.attempt, 'attempt')})" if row.attempt > 1 else ""),
            "" if row.score is None else f"{row.score:.4f}",
            "" if row.seconds is None else f"{row.seconds:.1f}",
            *([row.error] if has_errors else []),
        ]
        for row in rows
    ]
    device, error = (["device"] if has_devices else []), (["error"] if has_errors else [])
    head = ("trial", *results.keys, *device, "state", results.objective, "seconds", *error)
    states = [f"{n} {state}" for state in ORDER if (n := sum(row.state == state for row in rows))]
    print_table(head, lines, f"sweep {results.name}: {', '.join(states) or 'no trials'}", console=console)


def print_best(console: Console, results: SweepResults) -> None:
    best = results.best
    if best is not None:
        params = " ".join(f"{key}={_short(value)}" for key, value in best.params.items())
        print_line(console, f"best: trial {best.number} ({params}), {results.objective} {best.score:.4f}, {best.run}")


def _print_spread(console: Console, results: SweepResults) -> None:
    groups = configurations(results)
    if not groups:
        return
    keys = list(groups[0].params)
    rows = [
        [
            *(_short(each.params[key]) for key in keys),
            str(len(each.scores)),
            f"{each.mean:.4f}",
            "-" if each.deviation is None else f"{each.deviation:.4f}",
            f"{min(each.scores):.4f}",
            f"{max(each.scores):.4f}",
        ]
        for each in groups
    ]
    repeated = " and ".join(key for key in results.keys if key in REPEATING)
    head = (*keys, "n", "mean", "std", "lowest", "highest")
    print_table(head, rows, f"spread of {results.objective} over {repeated}", console=console, right=head[-5:])


def _order(results: SweepResults, row: TrialRow) -> tuple[int, float, int]:
    score = 0.0 if row.score is None else row.score
    return (ORDER.index(row.state), -score if results.maximize else score, row.number)


def _short(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _points(results: SweepResults) -> list[tuple[int, dict[str, object], float, bool]]:
    """For the figure: number, parameters, score and whether the trial was pruned."""
    return [
        (row.number, row.params, row.score, row.state == "pruned")
        for row in results.rows
        if row.score is not None and row.state in ("finished", "pruned")
    ]


def _write_csv(file: Path, results: SweepResults) -> None:
    head = ("trial", *results.keys, "state", results.objective, "seconds", "attempt", "run", "error")
    with replace_atomically(file) as tmp, tmp.open("w", encoding="utf-8", newline="") as lines:
        writer = csv_files.writer(lines, lineterminator="\n")
        writer.writerow(head)
        for row in results.rows:
            params = [row.params.get(key, "") for key in results.keys]
            score, seconds = ("" if each is None else each for each in (row.score, row.seconds))
            writer.writerow([row.number, *params, row.state, score, seconds, row.attempt, row.run, row.error])


def print_outcome(folder: Path) -> int:
    """What a finished command prints at its end; returns the number of failed trials."""
    results, console = read_results(folder), make_console()
    print_trials(console, results)
    print_best(console, results)
    if elsewhere := sum(row.state == "running" for row in results.rows):
        print_line(console, f"{counted(elsewhere, 'trial')} still running in other workers")
    seconds = sum(row.seconds or 0.0 for row in results.rows)
    print_line(
        console, f"{format_duration(seconds)} of trials; `protoformer report sweep {folder}` has the whole report"
    )
    return sum(row.state == "failed" for row in results.rows)
