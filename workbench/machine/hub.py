"""What is in a repository of the Hugging Face hub, and which of it is loaded. Asks through huggingface_hub.

Its environment holds: HF_ENDPOINT, HF_TOKEN (or `hf auth login`), HF_HOME, HF_HUB_OFFLINE.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path, PurePosixPath

from workbench.errors import NeedsToken, PullFailed

from .fetching import Download
from .registry import Weight, WeightFile

HF_TOKEN = "HF_TOKEN (or log in with hf auth login)"
COMPONENTS = ("unet", "vae", "text_encoder", "text_encoder_2")
CONFIG_FOLDERS = ("scheduler", "tokenizer", "tokenizer_2")
FP16 = re.compile(r"\.fp16[.-]")
WEIGHTS = ".safetensors"


def files_of(repo: str, revision: str) -> tuple[str, dict[str, WeightFile]]:
    """(commit, {path: file}) of a repository at a revision, with sizes and digests. Raises `PullFailed`, `NeedsToken`."""
    from huggingface_hub import HfApi
    from huggingface_hub.errors import (
        GatedRepoError,
        HFValidationError,
        HTTPError,
        OfflineModeIsEnabled,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    try:
        found = HfApi().model_info(repo, revision=revision, files_metadata=True)
    except GatedRepoError as error:
        raise NeedsToken(f"{repo} is gated: accept its terms on its page, and set {HF_TOKEN}.") from error
    except RepositoryNotFoundError as error:
        raise PullFailed(
            f"the hub has no repository {repo}, or shows it only to some: check its id, or set {HF_TOKEN}."
        ) from error
    except RevisionNotFoundError as error:
        raise PullFailed(f"{repo} has no revision '{revision}'; name a branch, tag or commit of it.") from error
    except OfflineModeIsEnabled as error:
        raise PullFailed(f"{repo} is not fetched, since HF_HUB_OFFLINE is set; unset it.") from error
    except HFValidationError as error:
        raise PullFailed(f"'{repo}' is no id of the hub ({error}); one is like stabilityai/sdxl-vae.") from error
    except (HTTPError, OSError) as error:
        first = str(error).strip().partition("\n")[0] or type(error).__name__
        raise PullFailed(f"the hub does not answer about {repo} ({first[:200]}); try again later.") from error
    files = {
        one.rfilename: WeightFile(one.rfilename, one.size, (one.lfs.sha256 if one.lfs else one.blob_id) or "")
        for one in found.siblings or ()
    }
    return found.sha or revision, files


def remote_of(repo: str, commit: str, file: WeightFile) -> Download:
    """Where a file of a repository is fetched."""
    from huggingface_hub import get_token, hf_hub_url
    from huggingface_hub.utils import build_hf_headers

    headers = {name: value for name, value in build_hf_headers(token=get_token()).items() if isinstance(value, str)}
    return Download(hf_hub_url(repo, file.name, revision=commit), file.bytes, file.digest, headers, HF_TOKEN)


def in_hub_cache(weight: Weight, file: WeightFile) -> Path | None:
    """The file in the local Hugging Face cache; None where it is not there."""
    from huggingface_hub import try_to_load_from_cache

    found = try_to_load_from_cache(weight.repo, file.name, revision=weight.revision) if weight.repo else None
    return Path(found) if isinstance(found, str) else None


def loaded_of(repo: str, files: Iterable[str], inside: str = "") -> list[str]:
    """The files of a repository that are loaded: of a pipeline its networks in fp16 where it has these, and its configs; else
    its one `.safetensors`.

    Args:
        inside: the one file of it that is meant.

    Raises:
        PullFailed: there is nothing to load, or several to choose from.
    """
    names = sorted(files)
    if inside:
        if inside not in names:
            raise PullFailed(f"{repo} has no file {inside}; it has {', '.join(_one_files(names)) or 'none to load'}.")
        return [inside]
    if "model_index.json" in names:
        return _pipeline(repo, names)
    single = _one_files(names)
    if len(single) == 1:
        return single + [name for name in ("config.json",) if name in names]
    if not single:
        raise PullFailed(f"{repo} has neither model_index.json nor a {WEIGHTS} file, so there is nothing to load.")
    raise PullFailed(f"{repo} has several files; name one: {', '.join(f'{repo}/{name}' for name in single[:8])}.")


def _one_files(names: Iterable[str]) -> list[str]:
    return [name for name in names if "/" not in name and name.endswith(WEIGHTS)]


def _pipeline(repo: str, names: list[str]) -> list[str]:
    chosen = [name for name in ("model_index.json", "README.md") if name in names]
    for folder in CONFIG_FOLDERS:
        chosen += [name for name in names if name.startswith(f"{folder}/") and name.endswith((".json", ".txt"))]
    chosen += [
        name for name in names if name.startswith("restorer/") and name.endswith(WEIGHTS)
    ]  # a CodeFormer of its own
    for folder in COMPONENTS:
        here = [name for name in names if PurePosixPath(name).parent.as_posix() == folder]
        weights = [name for name in here if name.endswith((WEIGHTS, f"{WEIGHTS}.index.json"))]
        half = [name for name in weights if FP16.search(name)]
        plain = [name for name in weights if not FP16.search(name) and ".non_ema." not in name]
        if here and not (half or plain):
            raise PullFailed(f"{repo} has its {folder} in pickles only; take another repository, with {WEIGHTS} files.")
        chosen += [name for name in here if name.endswith("config.json")] + (half or plain)
    return chosen
