"""Summary of a finished run for the terminal: scores beside the paper's, speed, and paths of its files."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from rich.console import Console

from protoformer.reporting import diagnostics, paper_results
from protoformer.reporting.paper_results import format_metric, is_percent
from protoformer.reporting.tables import counted, format_duration, print_line, print_table
from protoformer.runs import reader
from protoformer.runs.tracked import offline_folders, upload_command

FILES = {
    "card": "card.md",
    "curves": "curves.svg",
    "predictions": "predictions",
    "best checkpoint": "checkpoints/best.ckpt",
    "averaged checkpoint": "checkpoints/averaged.ckpt",
}
SPIKES = {"loss": "losses", "grad_norm": "gradient norms"}


class Score(NamedTuple):
    """One line of a table of results, as text; `row` is the published number, if there is one."""

    key: str
    ours: str
    row: paper_results.Row | None

    @property
    def theirs(self) -> str:
        return "-" if self.row is None else f"{self.row.value:g}"


def scores(result: Mapping[str, Any], config: Mapping[str, Any]) -> list[Score]:
    """A run's scores with the published number of the same metric and split, then published numbers without a counterpart."""
    model, task, metrics = result["model"], result["task"], result["metrics"]
    lines = [
        Score(
            key,
            format_metric(metrics[key], is_percent(key, result)),
            paper_results.published_value(model, task, key, config),
        )
        for key in paper_results.score_keys(metrics)
    ]
    for row in paper_results.published(model, task):
        if row.key not in {line.key for line in lines}:
            lines.append(Score(row.key, "-", row))
    return lines


def is_trained(result: Mapping[str, Any]) -> bool:
    """Whether a run took steps of training; one that only evaluates took none."""
    return (result.get("training") or {}).get("steps") != 0


def summary(result: Mapping[str, Any]) -> dict[str, str]:
    """Duration, speed, size and hardware of a run, as text. Entries that the result lacks are left out."""
    training, best, hardware = (result.get(key) or {} for key in ("training", "best", "hardware"))
    metrics = result["metrics"]
    entries: dict[str, str | None] = {
        **_main_score(result),
        "averaged": f"{counted(len(steps), 'checkpoint')}, to step {steps[-1]:,}"
        if (steps := result.get("averaged"))
        else None,
        "best checkpoint at": _joined(
            _counted(best, "step", "step {}"), f"epoch {best['epoch'] + 1}" if best.get("epoch") is not None else None
        ),
        "dev loss": format_metric(metrics["val/loss"], percent=False) if "val/loss" in metrics else None,
        **{f"probe {name}": _probe(probe) for name, probe in (result.get("probes") or {}).items()},
        "training": None
        if not is_trained(result)
        else _joined(
            counted(training["steps"], "step") if training.get("steps") is not None else None,
            counted(training["epochs"], "epoch") if training.get("epochs") is not None else None,
            format_duration(training["seconds"]) if training.get("seconds") is not None else None,
            _ended_by(training),
        ),
        "speed": _joined(
            _counted(training, "examples_per_s", "{} examples/s"),
            _counted(training, "tokens_per_s", "{} tokens/s"),
            f"{_percent(mfu)} % of the device's peak (estimated)" if (mfu := training.get("mfu")) else None,
            f"{100 * wait:.1f} % of the time waiting for data" if (wait := training.get("data_wait")) else None,
        ),
        "packing efficiency": f"{100 * packed:.1f} % of computed positions hold a token"
        if (packed := training.get("packing_efficiency"))
        else None,
        "spikes": _joined(
            *(f"{percent:g} % of {SPIKES[name]}" for name, percent in (training.get("spike_score") or {}).items())
        ),
        "parameters": _joined(
            _counted(result, "parameters", "{}"),
            f"{trained:,} of them trained"
            if (trained := result.get("trained_parameters")) not in (None, result.get("parameters"))
            else None,
        ),
        "hardware": _joined(
            hardware.get("device"),
            counted(hardware["ranks"], "process", "processes") if hardware.get("ranks") else None,
            hardware.get("precision"),
        ),
        "peak memory": f"{gib:.2f} GiB" if (gib := result.get("peak_memory_gib")) is not None else None,
        **{title: _by_split(result.get("data"), key) for key, title in result["task_type"]["incomplete_data"].items()},
    }
    notes = [f"{name} {text}" for each in (result.get("notes") or {}).values() for name, text in each.items()]
    entries["metric signatures"] = "; ".join(dict.fromkeys(notes))
    return {name: text for name, text in entries.items() if text}


def _ended_by(training: Mapping[str, Any]) -> str | None:
    """What ended a training before its last step."""
    if training.get("stopped_early"):
        return f"stopped early at step {training['steps']:,}" if training.get("steps") else "stopped early"
    spent = training.get("max_time_seconds")
    return (
        f"ended by its time of {format_duration(spent)}" if training.get("ended_by") == "max_time" and spent else None
    )


def _main_score(result: Mapping[str, Any]) -> dict[str, str | None]:
    """What a run is known by: its dev score; of a language model the perplexity; of a run that only tests the test score."""
    metrics, headline = result["metrics"], result["task_type"].get("headline")
    for stage, name in (("val", "dev"), ("test", "test")):
        keys = [key for key in metrics if headline and key.startswith(f"{stage}/") and key.endswith(f"/{headline}")]
        if keys:
            return {f"{name} {headline}": ", ".join(f"{metrics[key]:.2f}" for key in keys)}
        score = result.get("score") if stage == "val" else metrics.get("test/score")
        if score is not None:
            return {f"{name} score": format_metric(score, percent=True)}
    return {}


def _probe(probe: Mapping[str, Any]) -> str:
    """The last score of a probe, and the first one, before training."""
    first, last = ((probe["steps"][i], format_metric(probe["values"][i], percent=True)) for i in (0, -1))
    metric = probe["metric"].rpartition("/")[2]
    return f"{metric} {last[1]}" + (f" ({first[1]} at step {first[0]:,})" if first[0] != last[0] else "")


def score_text(result: Mapping[str, object]) -> str:
    """`80.31`, or `perplexity 20.31` of a language model; "" where all labels are hidden."""
    for name, text in _main_score(result).items():
        return str(text) if name == "dev score" else f"{name.removeprefix('dev ')} {text}"
    return ""


def average_warning(result: Mapping[str, Any]) -> str | None:
    """That the average of the last checkpoints, which the run is known by, is worse than its best one."""
    best, score = (result.get("best") or {}).get("score"), result.get("score")
    if not result.get("averaged") or best is None or score is None or score >= best:
        return None
    return (
        f"the average of {counted(len(result['averaged']), 'checkpoint')} is worse than the best checkpoint "
        f"({100 * score:.2f} against {100 * best:.2f} on the dev set): recipe.average=1 keeps the best"
    )


def warnings(record: reader.Record) -> list[str]:
    """What a reader of the scores must know: signs that the run learnt nothing, and an average that did harm."""
    if record.result is None:
        return []
    average = average_warning(record.result)
    return [f"degenerate: {text}" for text in diagnostics.find_problems(record)] + ([average] if average else [])


def print_results(result: Mapping[str, object], folder: Path, console: Console | None = None) -> None:
    """Print a finished run, with scores times 100 as in papers. Readable without colour and in a pipe."""
    console = console or Console()
    record = reader.read(folder)
    config, lines = record.config, scores(result, record.config)
    if lines:
        published = any(line.row for line in lines)
        print_table(
            ("metric", "this run", *(("published", "printed in") if published else ())),
            [
                (line.key, line.ours, *((line.theirs, line.row.source if line.row else "") if published else ()))
                for line in lines
            ],
            f"{result['model']} x {result['task']}  {result['run_id']}",
            console=console,
            framed=True,
            right=("this run", "published"),
            bold=("this run",),
        )
    for warning in warnings(record):
        print_line(console, f"Warning: {warning}.")
    notes = paper_results.caveats(config, result) if any(line.row for line in lines) else []
    if notes:
        print_line(console, f"Not the paper's experiment: {'; '.join(notes)}.")
    paths = {"run folder": str(folder)} | {
        name: str(folder / file) for name, file in FILES.items() if (folder / file).exists()
    }
    command = {"run again": result["command"]} if result.get("command") else {}
    lines_by_name = summary(result) | command | paths | tracked_offline(folder)
    width = max(map(len, lines_by_name))
    for name, text in lines_by_name.items():
        print_line(console, f"{name:{width}}  {text}")


def tracked_offline(folder: Path) -> dict[str, str]:
    """Folders of a run that W&B has not uploaded yet, and the command that does it; empty where there are none."""
    folders = offline_folders(folder)
    if not folders:
        return {}
    names = ", ".join(str(each.relative_to(folder)) for each in folders)
    return {"tracked offline": names, "upload": upload_command([folder])}


def _counted(values: Mapping[str, Any], key: str, text: str) -> str | None:
    value = values.get(key)
    if value is None:
        return None
    return text.format(f"{value:,}" if isinstance(value, int) else f"{value:,.1f}".removesuffix(".0"))


def _by_split(data: Mapping[str, Mapping[str, Any]] | None, key: str) -> str | None:
    return _joined(*(f"{counts[key]:,} of {split}" for split, counts in (data or {}).items() if counts.get(key)))


def _percent(fraction: float) -> str:
    return f"{100 * fraction:.0f}" if fraction >= 0.01 else f"{100 * fraction:.2g}"


def _joined(*parts: str | None) -> str | None:
    return ", ".join(str(part) for part in parts if part) or None
