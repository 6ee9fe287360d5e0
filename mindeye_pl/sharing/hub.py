"""The hub: a repository as a local folder, a folder as a repository, and one line for what can go wrong between."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mindeye_pl.errors import UserError
from mindeye_pl.sharing.folder import CARD, CONFIG, WEIGHTS, read_config

LOG_IN = "hf auth login, or the environment variable HF_TOKEN"


def fetch_folder(
    source: str | Path, *, revision: str | None = None, local_files_only: bool = False, subfolder: str = ""
) -> Path:
    """A folder as it is, or a repository's files fetched into the hub's cache.

    Args:
        source: a folder, or `owner/name` of a model repository.
        revision: branch, tag or commit of the repository.
        local_files_only: takes what is in the cache and asks no network.
        subfolder: of the folder or the repository.

    Raises:
        UserError: if there is no such folder or repository, or the hub cannot be asked.
    """
    folder = Path(source).expanduser()
    if not folder.is_dir():
        _check_name(str(source), what="a folder, or owner/name of a repository on the hub")
        from huggingface_hub import snapshot_download

        prefix = f"{subfolder}/" if subfolder else ""
        files = [f"{prefix}{name}" for name in (WEIGHTS, CONFIG, CARD, "*.safetensors")]
        with _in_one_line(str(source)):
            folder = Path(
                snapshot_download(
                    str(source), revision=revision, local_files_only=local_files_only, allow_patterns=files
                )
            )
    return folder / subfolder


def push_to_hub(folder: str | Path, repository: str, *, private: bool = True) -> str:
    """Uploads a folder to a model repository, made where it is missing, and returns the address of the commit.

    Safetensors of the repository that are not in the folder are removed by the same commit.

    Args:
        folder: of `save_pretrained`.
        repository: `owner/name`.
        private: of a repository that is made now; one that exists stays as it is.

    Raises:
        UserError: without a token, a network, a right to write, for a name that is none or a folder of something else.
    """
    from huggingface_hub import HfApi

    check_repository(repository)
    read_config(Path(folder))
    api = HfApi()
    with _in_one_line(repository):
        api.create_repo(repository, private=private, exist_ok=True)
        # As in a folder, weights of an earlier export that are not part of this one would be taken for its own.
        commit = api.upload_folder(
            repo_id=repository,
            folder_path=str(folder),
            commit_message="Upload from mindeye_pl",
            delete_patterns="*.safetensors",
        )
        return str(commit)


def check_repository(repository: str) -> None:
    """Refuses what no upload can succeed with, before anything long begins; asks no network.

    Raises:
        UserError: for a name that is none, or where there is no token.
    """
    from huggingface_hub import get_token

    _check_name(repository, what="owner/name")
    if get_token() is None:
        raise UserError(f"there is no token to write to {repository}", expected="a token of the hub", fix=LOG_IN)


def _check_name(repository: str, *, what: str) -> None:
    if not re.fullmatch(r"\w[\w.-]*/\w[\w.-]*", repository):
        raise UserError("no such folder, and no name of a repository", got=repository, expected=what)


@contextmanager
def _in_one_line(repository: str) -> Iterator[None]:
    from huggingface_hub.errors import (
        GatedRepoError,
        HfHubHTTPError,
        HFValidationError,
        LocalEntryNotFoundError,
        LocalTokenNotFoundError,
        OfflineModeIsEnabled,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    off = "the network is switched off (HF_HUB_OFFLINE or local_files_only)"
    try:
        yield
    except HFValidationError as error:
        raise UserError(f"{repository} is no name of a repository", got=error, expected="owner/name") from error
    except GatedRepoError as error:
        raise UserError(f"{repository} asks for consent", expected="yours", fix="give it on the hub's page") from error
    except RepositoryNotFoundError as error:
        seen = f"{error.response.status_code} from the hub"
        wanted = "an existing repository that your token may see"
        raise UserError(f"{repository} was not found", got=seen, expected=wanted, fix=LOG_IN) from error
    except RevisionNotFoundError as error:
        raise UserError(f"{repository} has no such revision", expected="a branch, a tag or a commit") from error
    except LocalTokenNotFoundError as error:
        raise UserError(f"there is no token for {repository}", expected="a token of the hub", fix=LOG_IN) from error
    except HfHubHTTPError as error:
        denied = error.response.status_code in (401, 403)
        seen = f"{error.response.status_code} {error.server_message or ''}".strip()
        raise UserError(f"the hub refused {repository}", got=seen, fix=LOG_IN if denied else None) from error
    except OfflineModeIsEnabled as error:
        raise UserError(f"{repository} cannot be reached", got=off, fix="unset HF_HUB_OFFLINE") from error
    except LocalEntryNotFoundError as error:
        cause = error.__cause__
        asked = cause is not None and not isinstance(cause, OfflineModeIsEnabled)
        raise UserError(
            f"{repository} is not in the hub's cache, and the hub was not reached",
            got=cause if asked else off,
            fix="once the network is there: the same again",
        ) from error
    except _transport_error() as error:
        raise UserError(f"the hub did not answer for {repository}", got=error, expected="a network") from error


def _transport_error() -> type[Exception]:
    """Return the base class of the hub's errors: that of requests or of httpx, by the version of the hub library."""
    from huggingface_hub.errors import HfHubHTTPError

    ours = ("builtins", "huggingface_hub")
    return next(base for base in reversed(HfHubHTTPError.__mro__) if base.__module__.split(".")[0] not in ours)
