"""Every key of a run's config: type, default and meaning, read from the schema, from the yamls and from what they name.

The meaning of a key stands where the key is declared: in the comment beside or above it, or in a sentence of its class's
docstring that names it. Nothing is imported.
"""

import ast
import re
import types
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import is_dataclass
from functools import cache
from pathlib import Path
from typing import Annotated, Literal, NamedTuple, Union, get_args, get_origin, get_type_hints

from protoformer.config import schema
from protoformer.config.annotations.coerce import as_yaml, described
from protoformer.config.annotations.signatures import Opaque, definition, signature
from protoformer.config.groups import groups, option, options
from protoformer.config.validate import keys_of

COMMON = {  # arguments that several builders and readers have in one meaning
    "vocab_size": "tokens of the vocabulary; as the tokenizer has where weights are drawn",
    "d_model": "width of the hidden states",
    "n_layers": "number of layers",
    "n_heads": "attention heads of a layer",
    "d_ff": "width of the feed-forward network's inner layer",
    "max_seq_len": "longest sequence that the model has positions for",
    "positions": "how positions are encoded",
    "n_segments": "segment embeddings (BERT's sentence A and B); 0: none",
    "dropout": "dropout rate",
    "attention_dropout": "dropout rate of attention weights; null: as dropout",
    "embedding_dropout": "dropout rate of embeddings; null: as dropout",
    "activation": "of the feed-forward network",
    "norm": "layer normalisation before or after each sublayer",
    "norm_eps": "epsilon of layer normalisation",
    "init_std": "standard deviation of freshly drawn weights",
    "attention": "which positions a position attends to, or the recurrent decoder's kind of attention",
    "architecture": "encoder, decoder or both",
    "kernel_size": "width of a convolution",
    "dataset": "the data set's name on the hub, or `.` for the folder or file of source.root",
    "subset": "the data set's subset; null: its only one",
    "revision": "a commit; null: the newest, which is recorded",
    "label": "the label's column",
    "text_a": "the column of the text, of a pair the first",
    "text_b": "the column of a pair's second text",
    "metrics": "val/score is their mean; it selects the best checkpoint",
    "on_bad_row": "what happens to a row that cannot be used",
    "encoding": "of text files; null: UTF-8, or what a byte order mark says",
    "repo": "the hub id that init_from=auto means; null: no published weights",
    "pooled_token": "the token whose hidden state a classifier reads",
    "aux_lm_weight": "of the auxiliary language model's loss; yaml takes it from recipe.aux_lm_weight",
    "held_out": "fraction of the documents to validate on where the source has no validation text",
    "shard_tokens": "tokens of a shard of the cache",
    "choices": "names of the choices",
    "root": "the folder (or, of one's own data, the file) of the data",
    "masking": "how tokens are masked: a node with a _target_",
    "size": "tokens of a vocabulary, at most",
    "kind": "type of a learned vocabulary",
    "top": "what stands on the encoder: nothing, or BERT's BiLSTM",
    "kernel": "width of the convolutions",
    "scaled_residuals": "initial weights of residual layers divided by the root of their number (GPT-2)",
    "cell": "type of the recurrent cell",
    "residual": "whether layers are added to what they read",
    "sinusoid": "whether sines and cosines alternate, or stand in two halves (Marian's, which export needs)",
    "d_head": "width of an attention head; null: d_model / n_heads",
    "d_key": "width of queries and keys of a head; null: as d_head",
    "both_orders": "whether pairs that a task calls symmetric are read in both orders",
    "seed": "of the sample's sentences",
    "rows": "rows of the sample's training split; null: each data set's own number",
    "across_documents": "whether tokens attend to other documents of their block",
    "nsp": "next-sentence prediction besides the masked tokens",
    "duplicates": "how often a corpus is cut into instances, with other masks and pairs",
    "short_share": "fraction of the instances that are shorter than the longest",
    "beams": "beams of the final evaluation's search",
    "dev_beams": "beams while training; 1: greedy",
    "id": "the column of an example's name",
    "question": "the column of the question",
    "context": "the column of the context, or several that are joined",
    "answers": "the column of the answers, SQuAD's lists or one text",
    "cased": "whether a learned vocabulary keeps upper case",
}


class Setting(NamedTuple):
    """One key: its dotted path, what it takes, its default and its meaning."""

    key: str
    type: str
    default: str
    meaning: str


class Section(NamedTuple):
    """The keys of a node under one target (empty: those of the schema)."""

    node: str
    target: str
    note: str
    settings: list[Setting]


def sections(folders: Sequence[Path]) -> list[Section]:
    """All keys, node by node: first the schema's, then those of each `_target_` that a yaml names."""
    return [*_of_schema("", schema.Run), *_of_targets(tuple(folders))]


def matching(pattern: str, folders: Sequence[Path]) -> list[Section]:
    """The sections with the settings whose key or meaning has `pattern` in it, in any case; none without settings."""
    word = pattern.lower()
    kept = [
        section._replace(settings=[each for each in section.settings if word in f"{each.key} {each.meaning}".lower()])
        for section in sections(folders)
    ]
    return [section for section in kept if section.settings]


def meaning(key: str, folders: Sequence[Path]) -> str:
    """The meaning of a key, without what follows its first comma or semicolon; "" of an unknown one."""
    of_node = [*_of_schema("", schema.Run), *_of_targets(tuple(folders), key.rpartition(".")[0])]
    meanings = [each.meaning for section in of_node for each in section.settings if each.key == key]
    return re.split("[,;]", next(filter(None, meanings), ""))[0]


def _of_schema(path: str, kind: type) -> Iterator[Section]:
    hints, keys = get_type_hints(kind, include_extras=True), keys_of(kind)
    nodes = [name for name in keys if isinstance(hints[name], type) and is_dataclass(hints[name])]
    comments = _comments_of(Path(str(schema.__file__)), kind.__name__)
    for base in kind.__mro__[1:-1]:  # Recipe's Optimization
        file = Path(str(schema.__file__)).parents[1] / "optim" / "optimization.py"
        comments = {**_comments_of(file, base.__name__), **comments}
    rows = []
    for name, (_, annotation, required, default) in keys.items():
        if name not in nodes:
            shown = "" if required else as_yaml(default)
            key = f"{path}.{name}" if path else name
            rows.append(Setting(key, type_text(annotation), shown, comments.get(name, "") or COMMON.get(name, "")))
    yield Section(path, "", _first_sentence(kind.__doc__ or ""), rows)
    for name in nodes:
        yield from _of_schema(f"{path}.{name}" if path else name, hints[name])


def _of_targets(folders: tuple[Path, ...], only: str | None = None) -> Iterator[Section]:
    """The keys of each target that a yaml names, or of those of one node."""
    for node, target in _targets(folders):
        if only not in (None, node):
            continue
        module, definition_node = definition(target)
        comments = _comments_of(module.path, definition_node.name)  # type: ignore[attr-defined]  # a def or a class
        text = ast.get_docstring(definition_node) or ""  # type: ignore[arg-type]  # as above
        supplied = schema.SUPPLIED.get(node, {})
        rows = [
            Setting(
                f"{node}.{name}",
                type_text(annotation),
                "" if required else as_yaml(list(default) if isinstance(default, tuple) else default),
                comments.get(name) or _sentence(text, name) or COMMON.get(name, ""),
            )
            for name, (_, annotation, required, default) in signature(target).parameters.items()
            if name not in supplied and (annotation is not Opaque or name in COMMON)
        ]
        if rows:
            yield Section(node, target, _first_sentence(text), rows)


def _targets(folders: tuple[Path, ...]) -> list[tuple[str, str]]:
    """Each node of the config with each of its targets, in the order of the groups."""
    pairs: dict[tuple[str, str], None] = {}
    for group in ("model", "task", "source", "recipe"):
        if group in groups(folders):
            for name in options(group, folders):
                content = option(group, name, folders)
                packaged = group == "recipe" or (group == "model" and "model" in content)
                pairs |= dict.fromkeys(_nodes("" if packaged else group, content))
    return sorted(pairs, key=lambda pair: (pair[0].split("."), pair[1]))


def _nodes(path: str, node: object) -> Iterator[tuple[str, str]]:
    if isinstance(node, Mapping):
        if isinstance(node.get("_target_"), str):
            yield path, node["_target_"]
        for name, inner in node.items():
            yield from _nodes(f"{path}.{name}" if path else str(name), inner)


def type_text(annotation: object) -> str:
    """What a key takes: its type in words, and its range."""
    origin, args = get_origin(annotation) or annotation, get_args(annotation)
    if origin is Annotated:
        plain = type_text(args[0])
        return str(args[1]) if plain == "text" else f"{plain} ({args[1].replace(' (', '; ').replace(')', '')})"
    if origin in (Union, types.UnionType):
        return " or ".join(dict.fromkeys(type_text(each) for each in args))
    return "text" if origin is Literal and not args else described(annotation)


@cache
def _comments_of(file: Path, name: str) -> dict[str, str]:
    """The comment of each field or argument of a class or function: beside it, or on the lines above it."""
    lines = file.read_text(encoding="utf-8").splitlines()
    tree = ast.parse("\n".join(lines))
    definition = next(
        (node for node in tree.body if isinstance(node, ast.ClassDef | ast.FunctionDef) and node.name == name), None
    )
    comments: dict[str, str] = {}
    for item, first, last in _declarations(definition):
        beside = " ".join(filter(None, (_comment(lines[number]) for number in range(first - 1, last))))
        above: list[str] = []
        number = first - 2
        while number >= 0 and lines[number].strip().startswith("#"):
            above.insert(0, lines[number].strip().lstrip("# "))
            number -= 1
        if text := beside or " ".join(above):
            comments[item] = text
    return comments


def _declarations(node: ast.stmt | None) -> Iterator[tuple[str, int, int]]:
    """Fields or arguments with their first and last line."""
    if isinstance(node, ast.ClassDef):
        for item in node.body:
            if isinstance(item, ast.AnnAssign) and isinstance(item.target, ast.Name):
                yield item.target.id, item.lineno, item.end_lineno or item.lineno
            elif isinstance(item, ast.FunctionDef) and item.name == "__init__":
                yield from _declarations(item)
    elif isinstance(node, ast.FunctionDef):
        for arg in (*node.args.args, *node.args.kwonlyargs):
            yield arg.arg, arg.lineno, arg.end_lineno or arg.lineno


def _comment(line: str) -> str:
    match = re.search(r"\s#\s(.*)$", line)
    return "" if match is None or "noqa" in match[1] else match[1].strip()


def _sentence(docstring: str, name: str) -> str:
    """The clause of a docstring that names an argument in code style."""
    flat = " ".join(docstring.split())
    clauses = re.split(r"(?<=[.;])\s+(?=[A-Z`a-z])", flat)
    return next((clause.strip().rstrip(";.") for clause in clauses if f"`{name}`" in clause), "")


def _first_sentence(docstring: str) -> str:
    return re.split(r"(?<=\.)\s", " ".join(docstring.split()), maxsplit=1)[0]


def with_defaults(config: Mapping[str, object], path: str = "") -> dict[str, object]:
    """A checked config with the defaults of its targets filled in, for reading."""
    whole = {
        key: with_defaults(value, f"{path}.{key}" if path else str(key)) if isinstance(value, Mapping) else value
        for key, value in config.items()
    }
    if not isinstance(config.get("_target_"), str):
        return whole
    supplied = schema.SUPPLIED.get(path, {})
    for name, (_, annotation, required, default) in signature(config["_target_"]).parameters.items():
        if not required and annotation is not Opaque and name not in supplied:
            whole.setdefault(name, list(default) if isinstance(default, tuple) else default)
    return whole
