"""Model files of the Hugging Face hub, by repository and commit. Nothing that is fetched is ever executed or unpickled.

Files that are cached at a pinned commit are taken from the cache without a request. Otherwise one request, of at most
HF_HUB_ETAG_TIMEOUT seconds (10 when unset), finds out whether the hub answers, and the answer is kept for the process: the
library itself would try each file for half a minute where nobody answers, and for minutes where packets are dropped.
"""

import os
import re
import sys
from dataclasses import dataclass, field
from functools import cache
from http import HTTPStatus
from pathlib import Path

from huggingface_hub import constants, get_session, hf_hub_download, try_to_load_from_cache, utils
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    HTTPError,
    RemoteEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from protoformer.errors import WeightsError
from protoformer.json_files import read_weight_map

WEIGHTS_FILES = (  # the first that exists
    "model.safetensors",
    "model.safetensors.index.json",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
)
TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json", "vocab.txt")
BPE_FILES = ("vocab.json", "merges.txt")  # GPT's, where there is no tokenizer.json and no vocab.txt
SENTENCEPIECE_FILES = ("source.spm", "target.spm")  # Marian's, with its vocab.json, where there is no merges.txt
COMMIT = re.compile(r"[0-9a-f]{40}")
OR_SCRATCH = " or init_from=scratch"  # no advice where nothing is trained
ALTERNATIVE = f"init_from=<folder>{OR_SCRATCH}"
# of the hub library's HTTP client; its package is httpx or httpx2, by the library's version
HTTP_ERRORS: tuple[type[Exception], ...] = (HTTPError, sys.modules[HTTPError.__module__].InvalidURL)
ADVICE_LATER = f"with a network `protoformer prepare` fetches it, without one use {ALTERNATIVE}"
ADVICE_CORRECT = f"put that right, or use {ALTERNATIVE}"


def is_commit(revision: str | None) -> bool:
    """Whether a revision is a whole commit hash, which always names the same files (branches and tags move)."""
    return revision is not None and COMMIT.fullmatch(revision) is not None


@cache
def unreachable() -> str:
    """The reason why the hub cannot be reached, or "" where it answers. One request a process."""
    if constants.HF_HUB_OFFLINE:
        return "HF_HUB_OFFLINE is set"
    try:
        get_session().head(constants.ENDPOINT, timeout=constants.HF_HUB_ETAG_TIMEOUT, follow_redirects=False)
    except HTTP_ERRORS as error:
        return f"no answer from {constants.ENDPOINT} ({first_line(error)})"
    return ""


def disable_progress_bars() -> None:
    """Turn the library's progress bars off where no person sees them, unless the environment says otherwise."""
    if not is_interactive() and "HF_HUB_DISABLE_PROGRESS_BARS" not in os.environ:
        utils.disable_progress_bars()


def is_interactive() -> bool:
    """Whether a person sees this process's progress bars: a terminal, and rank 0."""
    return sys.stderr.isatty() and os.environ.get("RANK", "0") == "0"


def first_line(error: BaseException) -> str:
    """The first line of an error's text, or its class where it has none."""
    text = str(error).strip()
    return text.splitlines()[0][:200] if text else type(error).__name__


def describe(repo: str, revision: str | None) -> str:
    """A repository in a message."""
    return f"{repo} at revision {revision}" if revision else repo


@dataclass
class _Repository:
    """One model's files at one revision; the first file that is fetched fixes the commit of all.

    `missing` lists files that are not cached and cannot be downloaded.
    """

    repo: str
    revision: str | None
    missing: list[str] = field(default_factory=list)

    def get(self, name: str) -> Path | None:
        """The cached file; None where the repository has none, or (see `missing`) the hub cannot be reached."""
        if is_commit(self.revision) or unreachable():
            cached = try_to_load_from_cache(self.repo, name, revision=self.revision)
            if isinstance(cached, str):
                return Path(cached)
            if cached is not None:  # the hub said earlier that there is no such file
                return None
            if unreachable():
                self.missing.append(name)
                return None
        try:
            return Path(hf_hub_download(self.repo, name, revision=self.revision))
        except RemoteEntryNotFoundError:
            return None


def fetch(repo: str, revision: str | None, *, weights: bool = True) -> tuple[Path, str]:
    """A local folder with config, tokenizer and (if asked) weights of a repository, and the commit.

    Raises WeightsError when the repository or a needed file is neither cached nor on the hub.
    """
    disable_progress_bars()
    repository = _Repository(repo, revision)
    try:
        config = repository.get("config.json")
        if config is None:
            raise _missing(repository, "config.json")
        repository.revision = commit = config.parent.name
        _fetch_tokenizer(repository)
        if weights:
            _fetch_weights(repository)
    except (HfHubHTTPError, HFValidationError, OSError, ValueError) as error:
        advice = ADVICE_LATER if _may_pass(error) else ADVICE_CORRECT
        raise WeightsError(
            f"hub model {describe(repo, revision)} is not available: {_explain(error)}; {advice}"
        ) from error
    return config.parent, commit


def is_path(source: str) -> bool:
    """Whether a name that is no folder here can only be meant as one: a hub id has one slash."""
    return source.count("/") > 1 or source.startswith((".", "/", "~"))


def resolve_folder(source: str) -> Path:
    """The folder of weights that a command's argument names: a local folder, or a repository, which is fetched.

    Raises WeightsError where there is neither.
    """
    folder = Path(source).expanduser()
    if folder.is_dir():
        return folder
    if is_path(source):
        raise WeightsError(f"{source}: no such folder")
    try:
        return fetch(source, None)[0]
    except WeightsError as error:  # its advice is for train.py
        problem = str(error).split("; ")[0]
        raise WeightsError(f"{problem}; name a run folder, a folder of weights or a hub id") from None


def _fetch_tokenizer(repository: _Repository) -> None:
    names = [name for name in TOKENIZER_FILES if repository.get(name)]
    if not {"tokenizer.json", "vocab.txt"} & set(names):
        names += [name for name in BPE_FILES if repository.get(name)]
        if "merges.txt" not in names:
            names += [name for name in SENTENCEPIECE_FILES if repository.get(name)]
    if "tokenizer.json" not in names and repository.missing:  # a vocab.txt alone does not say its casing
        raise _missing(repository, "its tokenizer")


def _fetch_weights(repository: _Repository) -> None:
    path = next((path for name in WEIGHTS_FILES if (path := repository.get(name))), None)
    if path is None:
        raise _missing(repository, f"any of {', '.join(WEIGHTS_FILES)}")
    if path.name.endswith(".index.json"):
        for shard in sorted(set(read_weight_map(path).values())):
            if repository.get(shard) is None:
                raise _missing(repository, shard)


def _missing(repository: _Repository, what: str) -> WeightsError:
    model = f"hub model {describe(repository.repo, repository.revision)}"
    if repository.missing:
        return WeightsError(
            f"{model}: the cache lacks {what}, and the hub cannot be reached: {unreachable()}; {ADVICE_LATER}"
        )
    return WeightsError(f"{model}: it lacks {what}; use {ALTERNATIVE}")


def _may_pass(error: BaseException) -> bool:
    """Whether the same call may succeed later: the hub, or the library before it, has not refused."""
    refusals = HFValidationError | RepositoryNotFoundError | RevisionNotFoundError
    return not (_is_bad_token(error) or isinstance(error, refusals))


def _is_bad_token(error: BaseException) -> bool:
    """Whether the hub does not know the token; then it refuses public repositories too."""
    if isinstance(error, RepositoryNotFoundError) or not isinstance(error, HfHubHTTPError):
        return False
    return error.response.status_code == HTTPStatus.UNAUTHORIZED


def _explain(error: BaseException) -> str:
    """What went wrong, without the library's advice on logging in."""
    if _is_bad_token(error):
        return "the hub does not accept the token of HF_TOKEN or of `hf auth login`; correct or remove it"
    if isinstance(error, GatedRepoError):
        return "its owner gives access on request; ask there, then log in (HF_TOKEN)"
    if isinstance(error, RepositoryNotFoundError):
        return "there is no such repository (or it is private and HF_TOKEN does not open it)"
    if isinstance(error, RevisionNotFoundError):
        return "it has no such revision"
    return first_line(error)
