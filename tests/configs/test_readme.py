"""Every command and every yaml that the README and the how-to pages show is one that works."""

import importlib
import re
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.plugins import Plugins
from hydra.core.utils import JobReturn
from hydra.plugins.sweeper import Sweeper

from protoformer import cli
from protoformer.commands import train
from protoformer.commands.parser import Parser
from protoformer.config.compose import compose
from protoformer.config.groups import search_path
from protoformer.sweeps.specification import read_sweep

ELSEWHERE = ("hardware.pool=", "hardware=slurm", "hydra/launcher=", "hydra.launcher.")
ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


class NoLauncher:
    """Stands in for Hydra's launcher: each job of a sweep was composed when it was checked, and none runs."""

    def launch(self, jobs: Sequence[Sequence[str]], initial_job_idx: int) -> list[JobReturn]:
        assert jobs
        return []


def covering(jobs: Sequence[Sequence[str]]) -> list[list[str]]:
    """As few of a sweep's jobs, in their order, as have each of its overrides once."""
    chosen, seen = [], set[str]()
    for job in jobs:
        if not seen.issuperset(job):
            chosen.append(list(job))
            seen.update(job)
    return chosen


def few_jobs(
    words: list[Any], batch_size: int | None, split: Any = BasicSweeper.split_arguments
) -> list[list[list[str]]]:
    """Stands in for the product of all values."""
    return [covering([job for batch in split(words, batch_size) for job in batch])]


def no_launcher(plugins: Plugins, **parts: Any) -> NoLauncher:
    return NoLauncher()


def blocks(language: str) -> list[tuple[Path, str]]:
    results = []
    for page in PAGES:
        for text in re.findall(rf"^```{language}\n(.*?)^```", page.read_text(encoding="utf-8"), re.M | re.S):
            results.append((page, text))
    return results


def commands() -> list[list[str]]:
    texts = [text.replace("\\\n", " ") for _, text in blocks("bash")]  # a line that ends in a backslash goes on
    shown = [line for text in texts for line in text.splitlines() if line.strip()]
    inline = [
        text
        for page in PAGES
        for text in re.findall(r"`((?:python train\.py|protoformer|make) [^`]*)`", page.read_text(encoding="utf-8"))
    ]
    results = [shlex.split(line, comments=True) for line in shown + inline]
    return [list(words) for words in dict.fromkeys(map(tuple, results))]


def complete(words: list[str]) -> bool:
    """Not an outline such as `model=... task=...`."""
    return not any("..." in word or "<" in word for word in words)


COMMANDS = [words for words in commands() if complete(words)]


def test_there_are_as_many_as_a_reader_sees() -> None:
    assert len(PAGES) >= 7
    assert len(COMMANDS) >= 40


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_a_command_composes(words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if words[0] == "pip":
        assert words in (["pip", "install", "-e", "."], ["pip", "install", "hydra-submitit-launcher"])
        return
    if words[0] == "export":
        words = words[1:]
    while words and "=" in words[0]:  # environment variables
        words = words[1:]
    if not words:
        return
    if words[0] == "wandb":
        assert words[1] in ("sync", "sweep", "agent")
        return
    if words[0] == "make":
        targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.M)
        assert words[1] in targets
        return
    if words[:2] == ["python", "train.py"] or words[:2] == ["protoformer", "train"]:
        flags = train.train_parser().parse_intermixed_args(words[2:])
        if flags.help:
            return
        overrides = [text.replace("path/to/data", str(tmp_path)) for text in flags.overrides]
        if flags.config_dir:
            monkeypatch.setenv("PROTOFORMER_CONF", str(ROOT / flags.config_dir))
            monkeypatch.chdir(ROOT)
        if elsewhere := [word for word in overrides if word.startswith(ELSEWHERE)]:
            # on other devices than this machine may have: the jobs compose, and none is launched
            here = OverridesParser.create().parse_overrides([word for word in overrides if word not in elsewhere])
            (jobs,) = few_jobs(here, None)
            for job in jobs:
                compose([*job, *(word for word in elsewhere if word.startswith("hardware.pool="))])
        elif flags.multirun:
            monkeypatch.setattr(Plugins, "instantiate_launcher", no_launcher)
            monkeypatch.setattr(Sweeper, "validate_batch_is_legal", lambda *_: None)  # it would compose each job again
            monkeypatch.setattr(BasicSweeper, "split_arguments", staticmethod(few_jobs))
            assert train.main([*words[2:]]) == 0  # Hydra composes a sweep once more, without what is swept
        else:
            compose(overrides)
        return
    assert words[0] == "protoformer"
    name, arguments = cli.split_verb(words[1:])
    verb = importlib.import_module(f"protoformer.commands.{cli.VERBS[name]}")
    if not arguments:  # named, not called
        return
    parser = Parser(prog=name)
    verb.add_arguments(parser)
    options = parser.parse_intermixed_args(arguments)
    if name == "sweep":
        monkeypatch.setenv("PROTOFORMER_CONF", str((ROOT / options.file).parent))
        assert read_sweep(ROOT / options.file, options.words, search_path()).trials > 1
    if hasattr(options, "overrides") and name not in (
        "evaluate",
        "probe ablate",
        "probe layers",
    ):  # these take their model from the run
        compose(options.overrides)


def test_a_yaml_that_is_shown_composes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shown = [text for _, text in blocks("yaml")]
    tasks = [text for text in shown if "paws" in text]
    sizes = [text for text in shown if "n_layers: 3" in text]
    assert len(tasks) == len(sizes) == 2
    assert all(len(text.splitlines()) <= 10 for text in shown if "_target_" not in text)
    (tmp_path / "model").mkdir()
    (tmp_path / "task").mkdir()
    monkeypatch.setenv("PROTOFORMER_CONF", str(tmp_path))
    for task in tasks:
        (tmp_path / "task" / "paws.yaml").write_text(task)
        config = compose(["model=bert", "task=paws"])
        assert config["choices"]["task"] == "paws"
        assert config["task"]["rows"]["labels"] == ["different", "paraphrase"]
        assert config["recipe"]["lr"] == 5e-5
    for size in sizes:
        (tmp_path / "model" / "bert_l3_h384.yaml").write_text(size)
        assert compose(["model=bert_l3_h384", "task=glue/rte"])["model"]["d_ff"] == 1536
    for text in shown:
        assert isinstance(yaml.safe_load(text), dict)


def test_the_recipes_of_the_readme_are_short() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8").split("## Extending")[1].split("\n## ")[0]
    results = re.findall(r"^```\w+\n(.*?)^```", text, re.M | re.S)
    assert len(results) == 3
    assert all(len(block.splitlines()) <= 10 for block in results)
