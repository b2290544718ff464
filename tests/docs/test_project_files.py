"""Files that a repository is expected to have: they agree with each other and with the Makefile."""

import re
import tomllib
from pathlib import Path

import yaml

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
TARGETS = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.M))


def test_licence_and_citation_agree_with_the_package() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert PROJECT["license"] == citation["license"] == "MIT"
    assert str(citation["version"]) == PROJECT["version"]
    author = PROJECT["authors"][0]["name"]
    assert [one["name"] for one in citation["authors"]] == [author]
    (licence,) = PROJECT["license-files"]
    text = (ROOT / licence).read_text(encoding="utf-8")
    assert text.startswith("MIT License")
    assert author in text


def test_the_version_is_in_the_changelog() -> None:
    assert f"## [{PROJECT['version']}]" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")


def test_the_package_is_marked_as_typed() -> None:
    assert (ROOT / "src" / "protoformer" / "py.typed").exists()
    assert "Typing :: Typed" in PROJECT["classifiers"]


def test_hosted_checks_and_hooks_run_what_the_makefile_runs() -> None:
    workflow = yaml.safe_load((ROOT / ".github" / "workflows" / "ci.yml").read_text(encoding="utf-8"))
    runs = [step["run"] for job in workflow["jobs"].values() for step in job["steps"] if "run" in step]
    assert ".ci/run" in runs
    assert "make test" in (ROOT / ".ci" / "run").read_text(encoding="utf-8").splitlines()
    hooks = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8"))["repos"]
    entries = [hook["entry"] for repo in hooks for hook in repo["hooks"]]
    assert all(hook["language"] == "system" for repo in hooks for hook in repo["hooks"])
    called = [text for text in runs + entries if text != ".ci/run"]
    assert {"make lint", "make test"} <= set(called)
    assert all(text.startswith("make ") and text.split()[1] in TARGETS for text in called)


def test_make_clean_keeps_runs() -> None:
    rules = (ROOT / "Makefile").read_text(encoding="utf-8")
    recipe = re.search(r"^clean:.*\n((?:\t.*\n)+)", rules, re.M)
    assert recipe
    assert "outputs" not in recipe[1]
    assert "clean-outputs" in TARGETS


def test_documentation_tools_are_pinned() -> None:
    pins = (ROOT / "constraints.txt").read_text(encoding="utf-8")
    for requirement in PROJECT["optional-dependencies"]["docs"]:
        name = re.split(r"[\[><=!~]", requirement)[0]
        assert re.search(rf"^{name}==", pins, re.M), name
