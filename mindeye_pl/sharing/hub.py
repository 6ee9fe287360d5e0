"""Downloads from and uploads to the hub, with one-line errors."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mindeye_pl.errors import UserError
from mindeye_pl.sharing.folder import CARD, CONFIG, WEIGHTS, read_config

LOG_IN = "hf auth login, or the environment variable HF_TOKEN"


def fetch_folder(
    source: str | Path, *, revision: str | None = None, local_files_only: bool = False, subfolder: str = ""
) -> Path:
    """Return a folder, or the folder of a repository's files in the hub's cache, downloaded if necessary.

    Args:
        source: a folder, or `owner/name` of a model repository.
        revision: branch, tag or commit of the repository.
        local_files_only: use the cache only, without the network.
        subfolder: of the folder or the repository.

    Raises a UserError if there is no such folder or repository, or the hub does not answer.
    """
    folder = Path(source).expanduser()
    if not folder.is_dir():
        _check_name(str(source), expected="a folder, or owner/name of a repository on the hub")
        from huggingface_hub import snapshot_download

        prefix = f"{subfolder}/" if subfolder else ""
        files = [f"{prefix}{name}" for name in (WEIGHTS, CONFIG, CARD, "*.safetensors")]
        options: Any = {"revision": revision, "local_files_only": local_files_only, "allow_patterns": files}
        with _one_line_errors(str(source)):
            folder = Path(str(snapshot_download(str(source), **options)))
    return folder / subfolder


def push_to_hub(folder: str | Path, repository: str, *, private: bool = True) -> str:
    """Upload a folder of `save_pretrained` to a model repository `owner/name` and return the commit's URL.

    A missing repository is created, private by default. The commit also removes safetensors that are not in the folder,
    as they would be taken for a part of this export. Raises a UserError without a token, a network or the right to
    write, or for an invalid name or folder.
    """
    from huggingface_hub import HfApi

    check_repository(repository)
    read_config(Path(folder))
    api = HfApi()
    with _one_line_errors(repository):
        api.create_repo(repository, private=private, exist_ok=True)
        commit = api.upload_folder(
            repo_id=repository,
            folder_path=str(folder),
            commit_message="Upload from mindeye_pl",
            delete_patterns="*.safetensors",
        )
        return str(commit)


def check_repository(repository: str) -> None:
    """Check the repository's name and that there is a token, without the network; raises a UserError otherwise."""
    from huggingface_hub import get_token

    _check_name(repository, expected="owner/name")
    if get_token() is None:
        raise UserError(f"there is no token to write to {repository}", expected="a token of the hub", fix=LOG_IN)


def _check_name(repository: str, *, expected: str) -> None:
    if not re.fullmatch(r"\w[\w.-]*/\w[\w.-]*", repository):
        raise UserError("no such folder, and no name of a repository", got=repository, expected=expected)


@contextmanager
def _one_line_errors(repository: str) -> Iterator[None]:
    from huggingface_hub import errors

    off = "the network is switched off (HF_HUB_OFFLINE or local_files_only)"
    try:
        yield
    except errors.HFValidationError as error:
        raise UserError(f"{repository} is no name of a repository", got=error, expected="owner/name") from error
    except errors.GatedRepoError as error:
        fix = "give it on the hub's page"
        raise UserError(f"{repository} asks for consent", expected="consent", fix=fix) from error
    except errors.RepositoryNotFoundError as error:
        got = f"{error.response.status_code} from the hub"
        expected = "an existing repository that your token may see"
        raise UserError(f"{repository} was not found", got=got, expected=expected, fix=LOG_IN) from error
    except errors.RevisionNotFoundError as error:
        raise UserError(f"{repository} has no such revision", expected="a branch, a tag or a commit") from error
    except errors.LocalTokenNotFoundError as error:
        raise UserError(f"there is no token for {repository}", expected="a token of the hub", fix=LOG_IN) from error
    except errors.HfHubHTTPError as error:
        denied = error.response.status_code in (401, 403)
        got = f"{error.response.status_code} {error.server_message or ''}".strip()
        raise UserError(f"the hub refused {repository}", got=got, fix=LOG_IN if denied else None) from error
    except errors.OfflineModeIsEnabled as error:
        raise UserError(f"{repository} cannot be reached", got=off, fix="unset HF_HUB_OFFLINE") from error
    except errors.LocalEntryNotFoundError as error:
        cause = error.__cause__
        asked = cause is not None and not isinstance(cause, errors.OfflineModeIsEnabled)
        what, fix = f"{repository} is not in the hub's cache, and the hub was not reached", "the same with a network"
        raise UserError(what, got=cause if asked else off, fix=fix) from error
    except _transport_error() as error:
        raise UserError(f"the hub did not answer for {repository}", got=error, expected="a network") from error


def _transport_error() -> type[Exception]:
    """Return the base class of the hub's errors: that of requests or of httpx, by the version of the hub library."""
    from huggingface_hub.errors import HfHubHTTPError

    ours = ("builtins", "huggingface_hub")
    return next(base for base in reversed(HfHubHTTPError.__mro__) if base.__module__.split(".")[0] not in ours)
