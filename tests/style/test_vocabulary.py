"""Names are the field's: words that this project once used for logits, tokenizers, indices and the like stay out.

The permitted terms of the project's own stand in docs/glossary.md; what a banned word is called instead stands here.
"""

import ast
import re
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SOURCES = sorted([*(ROOT / "src").rglob("*.py"), *(ROOT / "benchmarks").rglob("*.py"), ROOT / "train.py"])

# a part of an identifier (between underscores or capitals) -> what to say instead
BANNED = {
    "told": "logits, targets, log lines: what it is",
    "tell": "predict, report",
    "foretold": "precomputed",
    "foretells": "precomputes",
    "share": "probs, fraction, rate",
    "shares": "probs, fractions",
    "place": "index, position, path",
    "places": "indices, positions, paths",
    "rust": "hf_tokenizer",
    "way": "hypothesis, option",
    "ways": "hypotheses, options",
    "living": "alive",
    "blind": "fully_masked",
    "worth": "scale, confidence",
    "slope": "grad_logits",
    "room": "capacity, buffer, max_tokens",
    "fillers": "dummy rows",
    "harvest": "collected runs",
    "essence": "identity_config",
    "rectangle": "padded",
    "rectangles": "padded",
    "stepping": "fast_decode",
    "foretell": "precompute",
    "leave": "write, log",
    "mistakes": "misclassified",
    "complain": "print_error",
    "letters": "characters, alphabet",
    "letter": "character",
    "tallies": "running_metrics",
    "tally": "running_metric",
    "likeliest": "top_k, argmax",
    "penalized": "apply_repetition_penalty",
    "choosing": "sampling",
    "growing": "incremental, builder",
    "surrounded": "residual, norm",
    "looking": "request",
    "harvested": "collected",
    "passing": "temporary",
    "stretches": "spans",
    "borders": "boundaries",
    "written": "encoded, generated",
    "asked": "requested, query",
    "wanted": "requested, expected",
    "rivals": "baselines",
    "varied": "ablation_variants",
    "remarks": "notes",
    "remark": "note",
    "lacking": "missing",
    "lacks": "missing",
    "learnt": "learned",
    "standing": "existing",
    "begun": "started",
    "knocked": "requested",
    "found": "errors, rows, matches: what it is",
    "made": "trainer, table: what it is",
    "harvests": "collected runs",
    "departures": "deviations",
    "subject": "inspected_model",
    "sequenced": "tokenized_text",
    "judged": "targets",
    "firsts": "offsets",
    "standings": "existing",
}
# folder -> names that hold such a word in its plain English sense
ALLOWED: dict[str, set[str]] = {
    # keys of conf/task/pretrain: fractions of a run, of the examples and of the tokens
    "src/protoformer/data": {"share", "shares", "short_share"},
    # the grammar of the built-in sample: where an event happens, and what a story says of it
    "src/protoformer/sample": {"place", "places", "PLACES", "remark", "Remark", "REMARKS"},
}


def identifiers(tree: ast.AST) -> Iterator[tuple[str, int]]:
    """Every name that a file binds: functions, classes, arguments, variables, attributes, fields."""
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield node.name, node.lineno
        elif (isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)) or isinstance(node, ast.alias):
            name = node.id if isinstance(node, ast.Name) else node.asname
            if name:
                yield name, node.lineno
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            yield node.attr, node.lineno
        elif isinstance(node, ast.arg):
            yield node.arg, node.lineno


def nodes_outside_of_class_bodies(tree: ast.AST) -> Iterator[ast.AST]:
    """All nodes but the fields that a class declares; those of its methods are included."""
    fields = {
        id(statement)
        for node in ast.walk(tree)
        if isinstance(node, ast.ClassDef)
        for statement in node.body
        if isinstance(statement, ast.AnnAssign | ast.Assign)
    }
    pending = [tree]
    while pending:
        node = pending.pop()
        yield node
        pending += [child for child in ast.iter_child_nodes(node) if id(child) not in fields]


def parts(name: str) -> list[str]:
    """`AttnWeights`, `attn_weights` and `ATTN_WEIGHTS` are all `attn` and `weights`."""
    return [part.lower() for part in re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+", name)]


def is_allowed(path: Path, name: str) -> bool:
    return any((ROOT / folder) in path.parents and name in names for folder, names in ALLOWED.items())


@pytest.mark.parametrize("name", ["told", "_told_in", "ToldLines", "by_share", "nPlaces", "TALLIES"])
def test_a_banned_word_is_seen_in_every_spelling(name: str) -> None:
    assert any(part in BANNED for part in parts(name))


def test_identifiers_use_the_words_of_the_field() -> None:
    banned = [
        f"{path.relative_to(ROOT)}:{line}: {name} ({part}: {BANNED[part]})"
        for path in SOURCES
        for name, line in identifiers(ast.parse(path.read_text(encoding="utf-8")))
        for part in parts(name)
        if part in BANNED and not is_allowed(path, name)
    ]
    assert not banned, "\n".join(banned)


def test_a_class_name_is_used_once() -> None:
    homes: dict[str, list[str]] = defaultdict(list)
    for path in sorted((ROOT / "src").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ClassDef):
                homes[node.name].append(str(path.relative_to(ROOT)))
    assert not {name: files for name, files in homes.items() if len(files) > 1}


def test_no_builtin_is_shadowed() -> None:
    """`format`, `id`, `type` and their like mean what Python means by them.

    Fields that a class declares are exempt: they are read through its objects."""
    builtins = {
        "format",
        "id",
        "type",
        "list",
        "dict",
        "set",
        "map",
        "filter",
        "input",
        "max",
        "min",
        "sum",
        "next",
        "iter",
    }
    shadowed = [
        f"{path.relative_to(ROOT)}:{node.lineno}: {node.id if isinstance(node, ast.Name) else node.arg}"
        for path in SOURCES
        for node in nodes_outside_of_class_bodies(ast.parse(path.read_text(encoding="utf-8")))
        if (isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store) and node.id in builtins)
        or (isinstance(node, ast.arg) and node.arg in builtins)
    ]
    assert not shadowed, "\n".join(shadowed)


def test_the_glossary_names_what_the_code_has() -> None:
    """Every identifier in backticks on docs/glossary.md occurs in the package or its configuration."""
    files = [*(ROOT / "src").rglob("*.py"), *(ROOT / "conf").rglob("*.yaml")]
    words = {word for file in files for word in re.findall(r"\w+", file.read_text(encoding="utf-8"))}
    quoted = re.findall(r"`([A-Za-z_]\w*(?:\.\w+)*)`", (ROOT / "docs" / "glossary.md").read_text(encoding="utf-8"))
    assert len(quoted) > 20
    assert not [term for term in quoted if not set(term.split(".")) <= words]


# a phrase of a message, a docstring, a comment or a page -> what to say instead
BANNED_PHRASES = {
    r"\bwas asked for\b": "is set",
    r"\bwants\b": "needs, reads, has",
    r"\bcannot be asked\b": "cannot be reached",
}


def test_messages_and_pages_say_what_is_set_and_needed() -> None:
    pages = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")), *sorted((ROOT / "conf").rglob("*.yaml"))]
    banned = [
        f"{path.relative_to(ROOT)}:{number}: {line.strip()} ({instead})"
        for path in [*sorted((ROOT / "src").rglob("*.py")), *pages]
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1)
        for phrase, instead in BANNED_PHRASES.items()
        if re.search(phrase, line)
    ]
    assert not banned, "\n".join(banned)
