"""Where foreign weights are looked for: a folder of the user's, then the hubs' caches; the network is never asked."""

import hashlib
import re
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol

from mindeye_pl.errors import UserError

_CHUNK = 1 << 24

#: torch.hub's files carry the beginning of their sha256 in their names.
_DIGEST_IN_NAME = re.compile(r"-([0-9a-f]{8,64})\.")


class Released(Protocol):
    """An entry of `conf/weights`.

    Attributes:
        repository: `owner/name`.
        repository_type: `model` or `dataset` of the Hugging Face hub, or `torch` for a file that torch.hub keeps.
        file: the weights.
        bytes: of the file, None where unknown.
        sha256: of the file, None where unknown; of `torch` files the first digits stand in the name.

    An entry may also have `with_files`, what has to lie beside the file, `other_names` of the same file, and `fetch`,
    the command that brings a file which the Hugging Face hub does not have.
    """

    repository: str
    repository_type: str
    file: str
    bytes: int | None
    sha256: str | None


def find_weights(released: Released | Any, folder: Path | None) -> Path | None:
    """The released file, if it is on this machine with all that has to lie beside it.

    Args:
        released: what is looked for.
        folder: holds `owner/name/file`, `name/file` or, of an entry of one file, `file`; None looks into the hubs'
            caches alone. A file that is named by its whole path is looked for there and nowhere else.
    """
    if is_given(released):
        return path if (path := Path(released.file).expanduser()).is_file() else None
    for path in _candidates(released, folder):
        if path.is_file() and all((path.parent / name).is_file() for name in _listed(released, "with_files")):
            return path
    return None


def _candidates(released: Released | Any, folder: Path | None) -> Iterator[Path]:
    repository, names = released.repository, [released.file, *_listed(released, "other_names")]
    if folder is not None:
        places = [folder / repository, folder / repository.split("/")[-1]]
        if not _listed(released, "with_files"):  # files that belong together have a folder of their own
            places.append(folder)
        yield from (place / name for place in places for name in names)
    if released.repository_type == "torch":
        import torch

        yield from (Path(torch.hub.get_dir()) / "checkpoints" / name for name in names)
        return
    from huggingface_hub import try_to_load_from_cache

    for name in names:
        cached = try_to_load_from_cache(repository, name, repo_type=released.repository_type)
        if isinstance(cached, str):
            yield Path(cached)


def is_given(released: Released | Any) -> bool:
    """Return whether the file is one of the user's own, named by its whole path."""
    return Path(released.file).expanduser().is_absolute()


def download_command(released: Released | Any) -> str:
    """Return the command that fetches the file."""
    own: str | None = getattr(released, "fetch", None)
    if own is not None:
        return own
    kind = "" if released.repository_type == "model" else f" --repo-type {released.repository_type}"
    return " ".join(["hf download", released.repository, *files_of(released)]) + kind


def needed(released: Released | Any) -> str:
    """Return the text in place of a number that needs this file: the file, and the command that fetches it."""
    return f"needs {', '.join(files_of(released))}: {download_command(released)}"


def files_of(released: Released | Any) -> list[str]:
    """The file and what has to lie beside it, as the repository names them."""
    return [released.file, *(str(Path(released.file).with_name(name)) for name in _listed(released, "with_files"))]


def known_sha256(released: Released | Any) -> str | None:
    """The checksum that the file must have, or its first digits; None where nobody has published one."""
    if released.sha256 is not None or released.repository_type != "torch":
        return released.sha256
    digits = _DIGEST_IN_NAME.search(released.file)
    return digits[1] if digits else None


def verify(released: Released | Any, path: Path) -> None:
    """Refuses a file that is not the released one, or not whole; no tensor is read.

    Raises:
        UserError: on another size or checksum, or a format that ends too early.
    """
    fix = f"rm {path}, then {download_command(released)}"
    size = path.stat().st_size
    if released.bytes is not None and size != released.bytes:
        raise UserError(f"{path} is not whole", got=f"{size} bytes", expected=f"{released.bytes} bytes", fix=fix)
    if not is_whole(path):
        raise UserError(f"{path} is not whole", got=f"{size} bytes", expected="a complete weight file", fix=fix)
    wanted = known_sha256(released)
    if wanted is not None and not (seen := _sha256(path)).startswith(wanted):
        raise UserError(f"{path} has another checksum", got=seen[:16], expected=wanted[:16], fix=fix)


def is_whole(path: Path) -> bool:
    """Return whether the table of contents of a safetensors file, or of torch.save's zip, fits the file.

    A format that has no such table counts as whole.
    """
    if not path.name.endswith((".safetensors", ".pth", ".pt", ".ckpt", ".bin", ".pth.tar")):
        return True
    if path.suffix != ".safetensors":
        # torch.save writes a zip, whose table stands at its end; before 1.6 it wrote bare pickles, which have none.
        return zipfile.is_zipfile(path) or _first_byte(path) == b"\x80"
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(str(path), framework="pt") as file:
            return bool(file.keys())
    except SafetensorError:
        return False


def _listed(released: Released | Any, key: str) -> list[str]:
    """A list that an entry may leave out."""
    return list(getattr(released, key, None) or [])


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def _first_byte(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(1)
