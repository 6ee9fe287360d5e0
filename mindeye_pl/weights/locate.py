"""Where foreign weights are looked for: a folder of the user's, then the hub's cache; the network is never asked."""

import hashlib
import zipfile
from pathlib import Path
from typing import Any, Protocol

from mindeye_pl.errors import UserError

_CHUNK = 1 << 24


class Released(Protocol):
    """An entry of `conf/weights`."""

    repository: str
    repository_type: str
    file: str
    bytes: int | None
    sha256: str | None


def find_weights(released: Released | Any, folder: Path | None) -> Path | None:
    """The released file, if it is on this machine.

    Args:
        released: what is looked for.
        folder: holds `owner/name/file`, `name/file` or `file`; None looks into the hub's cache alone. A file that is
            named by its whole path is looked for there and nowhere else.
    """
    repository, file = released.repository, released.file
    if is_given(released):
        return path if (path := Path(file).expanduser()).is_file() else None
    if folder is not None:
        name = repository.split("/")[-1]
        for candidate in (folder / repository / file, folder / name / file, folder / file):
            if candidate.is_file():
                return candidate
    from huggingface_hub import try_to_load_from_cache

    cached = try_to_load_from_cache(repository, file, repo_type=released.repository_type)
    return Path(cached) if isinstance(cached, str) else None


def is_given(released: Released | Any) -> bool:
    """Whether the file is one of the user's own, named by its whole path."""
    return Path(released.file).expanduser().is_absolute()


def download_command(released: Released | Any) -> str:
    """What the user types to fetch it."""
    kind = "" if released.repository_type == "model" else f" --repo-type {released.repository_type}"
    return f"hf download {released.repository} {released.file}{kind}"


def verify(released: Released | Any, path: Path) -> None:
    """Refuses a file that is not the released one, or not whole; no tensor is read.

    Raises:
        UserError: on another size or checksum, or a format that ends too early.
    """
    mend = f"rm {path}, then {download_command(released)}"
    size = path.stat().st_size
    if released.bytes is not None and size != released.bytes:
        raise UserError(f"{path} is not whole", seen=f"{size} bytes", wanted=f"{released.bytes} bytes", mend=mend)
    if not is_whole(path):
        raise UserError(f"{path} is not whole", seen=f"{size} bytes", wanted="a complete weight file", mend=mend)
    if released.sha256 is not None and (seen := _sha256(path)) != released.sha256:
        raise UserError(f"{path} has another checksum", seen=seen[:16], wanted=released.sha256[:16], mend=mend)


def is_whole(path: Path) -> bool:
    """Whether the format's own table of contents fits the file: of safetensors, or of the zip that torch.save writes.

    A format that has no such table counts as whole.
    """
    if path.suffix not in (".safetensors", ".pth", ".pt", ".ckpt", ".bin"):
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


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def _first_byte(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(1)
