"""Files of models on the Hugging Face hub, by repository and commit. Nothing that is fetched is ever run or unpickled."""

from pathlib import Path

from protoformer.errors import WeightsError

WEIGHTS = ("model.safetensors", "model.safetensors.index.json", "pytorch_model.bin")
TOKENIZER = ("tokenizer.json", "tokenizer_config.json", "vocab.txt")


def fetch(repo: str, revision: str | None, *, weights: bool = True) -> tuple[Path, str]:
    """A local folder with config, tokenizer and (if asked) weights of a repository, and the commit that it is of.

    Raises WeightsError when the repository or a needed file is not to be had, in the cache or over the network.
    """
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError, HfHubHTTPError, LocalEntryNotFoundError, OfflineModeIsEnabled

    def get(name: str) -> Path | None:
        try:
            return Path(hf_hub_download(repo, name, revision=revision))
        except (EntryNotFoundError, OfflineModeIsEnabled) as error:
            if isinstance(error, LocalEntryNotFoundError) and name == "config.json":
                raise
            return None

    try:
        config = get("config.json")
        if config is None:
            raise WeightsError(f"hub model {repo}: it has no config.json")
        for name in TOKENIZER:
            get(name)
        found = next((name for name in WEIGHTS if get(name)), None) if weights else None
        if found == "model.safetensors.index.json":
            import json

            shards = json.loads((config.parent / found).read_text(encoding="utf-8"))["weight_map"].values()
            for shard in sorted(set(shards)):
                get(shard)
    except (HfHubHTTPError, OSError, ValueError) as error:
        first = str(error).strip().splitlines()[0][:200] if str(error).strip() else type(error).__name__
        raise WeightsError(
            f"hub model {repo} is not to be had: {first}; with a network `protoformer prepare` fetches it, "
            "without one use init_from=<folder> or init_from=scratch"
        ) from error
    if weights and found is None:
        raise WeightsError(f"hub model {repo}: none of {', '.join(WEIGHTS)} is there")
    return config.parent, config.parent.name
