"""Where foreign weights are looked for: a folder of the user's, then the hub's cache; the network is never asked."""

from pathlib import Path


def find_weights(repository: str, file: str, folder: Path | None) -> Path | None:
    """The file of a repository, if it is on this machine.

    Args:
        repository: owner and name on the hub.
        file: inside the repository.
        folder: holds `owner/name/file`, `name/file` or `file`; None looks into the hub's cache alone.
    """
    if folder is not None:
        name = repository.split("/")[-1]
        for candidate in (folder / repository / file, folder / name / file, folder / file):
            if candidate.is_file():
                return candidate
    from huggingface_hub import try_to_load_from_cache

    cached = try_to_load_from_cache(repository, file)
    return Path(cached) if isinstance(cached, str) else None
