"""Files of models on the Hugging Face hub, by repository and commit. Nothing that is fetched is ever run or unpickled.

What lies in the cache at a pinned commit is taken from there without a word over the network. Before anything else the
hub is knocked at once, for at most HF_HUB_ETAG_TIMEOUT seconds (10 when unset): its library would try each single file
for half a minute where nobody answers, and for minutes where packets are dropped.
"""

import json
import os
import re
import sys
from dataclasses import dataclass, field
from functools import cache
from http import HTTPStatus
from pathlib import Path

from protoformer.errors import WeightsError

WEIGHTS = ("model.safetensors", "model.safetensors.index.json", "pytorch_model.bin")
TOKENIZER = ("tokenizer.json", "tokenizer_config.json", "vocab.txt")
PAIRS = ("vocab.json", "merges.txt")  # GPT's, asked for where there is none of those
SIDES = ("source.spm", "target.spm")  # Marian's, with its vocab.json, where there are no merges
COMMIT = re.compile(r"[0-9a-f]{40}")
INSTEAD = "init_from=<folder> or init_from=scratch"
LATER = f"with a network `protoformer prepare` fetches it, without one use {INSTEAD}"
OTHERWISE = f"put that right, or use {INSTEAD}"


def is_commit(revision: str | None) -> bool:
    """Whether a revision is a whole commit hash, which always names the same files (branches and tags move)."""
    return revision is not None and COMMIT.fullmatch(revision) is not None


@cache
def unreachable() -> str:
    """Why the hub cannot be asked, or nothing where it answers; found out once a process."""
    from huggingface_hub import constants, get_session

    if constants.HF_HUB_OFFLINE:
        return "HF_HUB_OFFLINE is set"
    try:
        get_session().head(constants.ENDPOINT, timeout=constants.HF_HUB_ETAG_TIMEOUT, follow_redirects=False)
    except Exception as error:
        if type(error).__module__.split(".")[0] not in ("httpx", "httpx2"):  # its own name differs between versions
            raise
        return f"no answer from {constants.ENDPOINT} ({first_line(error)})"
    return ""


def quiet() -> None:
    """The library's bars and hints are for a terminal; files and pipes get our own lines alone."""
    from huggingface_hub.utils import disable_progress_bars

    if not watched() and "HF_HUB_DISABLE_PROGRESS_BARS" not in os.environ:
        disable_progress_bars()


def watched() -> bool:
    """Whether a person sees this process's bars: a terminal, and the first rank."""
    return sys.stderr.isatty() and os.environ.get("RANK", "0") == "0"


def first_line(error: BaseException) -> str:
    """The first line of an error's text, or its kind where it has none."""
    text = str(error).strip()
    return text.splitlines()[0][:200] if text else type(error).__name__


@dataclass
class _Repository:
    """One model's files at one revision; the first file that is had fixes the commit of all."""

    repo: str
    revision: str | None
    lacking: list[str] = field(default_factory=list)  # neither in the cache nor to be asked for

    def get(self, name: str) -> Path | None:
        """The file's place in the cache; None when the repository has none, or (see `lacking`) nobody can be asked."""
        from huggingface_hub import hf_hub_download, try_to_load_from_cache
        from huggingface_hub.errors import RemoteEntryNotFoundError

        if is_commit(self.revision) or unreachable():
            found = try_to_load_from_cache(self.repo, name, revision=self.revision)
            if isinstance(found, str):
                return Path(found)
            if found is not None:  # the hub has said before that there is no such file
                return None
            if unreachable():
                self.lacking.append(name)
                return None
        try:
            return Path(hf_hub_download(self.repo, name, revision=self.revision))
        except RemoteEntryNotFoundError:
            return None


def fetch(repo: str, revision: str | None, *, weights: bool = True) -> tuple[Path, str]:
    """A local folder with config, tokenizer and (if asked) weights of a repository, and the commit that it is of.

    Raises WeightsError when the repository or a needed file is not to be had, in the cache or over the network.
    """
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError

    quiet()
    files = _Repository(repo, revision)
    try:
        config = files.get("config.json")
        if config is None:
            raise _lacks(files, "config.json")
        files.revision = commit = config.parent.name
        tokenizer = [name for name in TOKENIZER if files.get(name)]
        if not {"tokenizer.json", "vocab.txt"} & set(tokenizer):
            tokenizer += [name for name in PAIRS if files.get(name)]
            if "merges.txt" not in tokenizer:
                tokenizer += [name for name in SIDES if files.get(name)]
        if "tokenizer.json" not in tokenizer and files.lacking:  # a vocab.txt alone does not say its casing
            raise _lacks(files, "its tokenizer")
        if weights:
            _weights(files)
    except (HfHubHTTPError, HFValidationError, OSError, ValueError) as error:
        advice = LATER if _may_pass(error) else OTHERWISE
        raise WeightsError(f"hub model {named(repo, revision)} is not available: {_told(error)}; {advice}") from error
    return config.parent, commit


def is_path(source: str) -> bool:
    """Whether a name that is no folder here can only be meant as one: a hub id has one slash."""
    return source.count("/") > 1 or source.startswith((".", "/", "~"))


def folder_of(source: str) -> Path:
    """Where the weights lie that a command's own argument names: a folder, or a repository, which is fetched.

    Raises WeightsError where there is neither.
    """
    folder = Path(source).expanduser()
    if folder.is_dir():
        return folder
    if is_path(source):
        raise WeightsError(f"{source}: no such folder")
    try:
        return fetch(source, None)[0]
    except WeightsError as error:  # whose advice is train.py's
        told = str(error).split("; ")[0]
        raise WeightsError(f"{told}; name a run folder, a folder of weights or a hub id") from None


def _weights(files: _Repository) -> None:
    found = next((path for name in WEIGHTS if (path := files.get(name))), None)
    if found is None:
        raise _lacks(files, f"any of {', '.join(WEIGHTS)}")
    if found.name == "model.safetensors.index.json":
        for shard in sorted(set(json.loads(found.read_text(encoding="utf-8"))["weight_map"].values())):
            if files.get(shard) is None:
                raise _lacks(files, shard)


def _lacks(files: _Repository, what: str) -> WeightsError:
    model = f"hub model {named(files.repo, files.revision)}"
    if files.lacking:
        return WeightsError(f"{model}: the cache lacks {what}, and the hub cannot be asked: {unreachable()}; {LATER}")
    return WeightsError(f"{model}: it lacks {what}; use {INSTEAD}")


def named(repo: str, revision: str | None) -> str:
    """A repository in a message."""
    return f"{repo} at revision {revision}" if revision else repo


def _may_pass(error: BaseException) -> bool:
    """Whether the same call may go well later: the hub, or the library before it, has not said no."""
    from huggingface_hub.errors import HFValidationError, RepositoryNotFoundError, RevisionNotFoundError

    return not (
        _refused(error) or isinstance(error, HFValidationError | RepositoryNotFoundError | RevisionNotFoundError)
    )


def _refused(error: BaseException) -> bool:
    """Whether the hub takes the token for nobody's, which it says of public repositories too."""
    from huggingface_hub.errors import HfHubHTTPError, RepositoryNotFoundError

    if isinstance(error, RepositoryNotFoundError) or not isinstance(error, HfHubHTTPError):
        return False
    return error.response.status_code == HTTPStatus.UNAUTHORIZED


def _told(error: BaseException) -> str:
    """What went wrong, without the library's advice on logging in."""
    from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError, RevisionNotFoundError

    if _refused(error):
        return "the hub does not accept the token of HF_TOKEN or of `hf auth login`; correct or remove it"

    if isinstance(error, GatedRepoError):
        return "its owner gives access on request; ask there, then log in (HF_TOKEN)"
    if isinstance(error, RepositoryNotFoundError):
        return "there is no such repository (or it is private and HF_TOKEN does not open it)"
    if isinstance(error, RevisionNotFoundError):
        return "it has no such revision"
    return first_line(error)
