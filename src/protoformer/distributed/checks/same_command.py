"""Ranks that others started (torchrun, srun, several machines) are those of one command: compared before anything is shared."""

import json
from collections.abc import Iterator, Mapping

from torch.distributed import Store

from protoformer.errors import ConfigurationError

OWN = ("paths.cache",)  # keys that may differ from machine to machine
MAX_SHOWN = 3  # keys in the message


def check_same_command(store: Store, config: Mapping[str, object], rank: int, ranks: int) -> None:
    """Compare the configs of all ranks over the store by which they meet, before a process group needs them to agree.

    Raises ConfigurationError on rank 0, naming a rank and the keys in which it differs; the other ranks end with its exit code
    and print nothing.
    """
    own = dict(flattened(config))
    store.set(f"config/{rank}", json.dumps(own, default=str))
    if rank > 0:
        refusal = store.get("refusal").decode()
        store.set(f"read/{rank}", "")
        if refusal:
            raise SystemExit(ConfigurationError.exit_code)
        return
    own = json.loads(json.dumps(own, default=str))
    others = {other: json.loads(store.get(f"config/{other}")) for other in range(1, ranks)}
    refusal = next((difference(own, theirs, other) for other, theirs in others.items() if theirs != own), "")
    store.set("refusal", refusal)
    for other in others:
        store.get(f"read/{other}")  # the store may end with this process
    if refusal:
        raise ConfigurationError(refusal)


def difference(own: Mapping[str, object], theirs: Mapping[str, object], rank: int) -> str:
    """The message for a rank that was started with another config than rank 0."""
    keys = [key for key in sorted({*own, *theirs}) if own.get(key) != theirs.get(key)]
    keys.sort(key=lambda key: key.startswith("choices."))
    shown = ", ".join(f"{key}={theirs.get(key)} instead of {own.get(key)}" for key in keys[:MAX_SHOWN])
    more = f" and {len(keys) - MAX_SHOWN} more keys" if len(keys) > MAX_SHOWN else ""
    return (
        f"rank {rank} was started with another command than rank 0: {shown}{more}. All processes of a launch are the ranks of "
        "one run; start other runs by launches of their own (srun --ntasks=1 for each)"
    )


def flattened(config: Mapping[str, object], prefix: str = "") -> Iterator[tuple[str, object]]:
    """Each key of a nested config with its dots, and its value."""
    for key, value in config.items():
        if isinstance(value, Mapping):
            yield from flattened(value, f"{prefix}{key}.")
        elif f"{prefix}{key}" not in OWN:
            yield f"{prefix}{key}", value
