"""Images on disk: decoding of files, and sources of square images for foundation models.

Legend: n requested images, N images in total, H and W image size in pixels, P side of the squares.
"""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from io import BytesIO
from pathlib import Path
from typing import IO, TYPE_CHECKING, Protocol

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from mindeye_pl.console import console
from mindeye_pl.data.layout.shards import is_of_macos
from mindeye_pl.data.layout.stimuli import Stimuli
from mindeye_pl.errors import UserError
from mindeye_pl.store.fingerprint import fingerprint, fingerprint_file
from mindeye_pl.store.regular_files import check_regular

if TYPE_CHECKING:
    from PIL.Image import Image

SUFFIXES = {".png", ".jpg", ".jpeg", ".webp", ".bmp"}
#: Formats that Pillow tries, whatever the suffix says: for some of its others it starts programs (EPS: Ghostscript).
_FORMATS = ("PNG", "JPEG", "WEBP", "BMP")

#: EXIF tag of the camera orientation; from value 5 on, height and width are swapped.
_ORIENTATION, _TURNED = 0x0112, 5

FETCH = "copy or download it again"


@contextmanager
def open_image(file: Path | IO[bytes], name: object, fix: str | None = FETCH) -> "Iterator[Image]":
    """Open a PNG, JPEG, WebP or BMP file; raises a UserError with its name if it is damaged or something else."""
    from PIL import Image

    if isinstance(file, Path):
        check_regular(file)
    try:
        with Image.open(file, formats=_FORMATS) as image:
            yield image
    except (OSError, SyntaxError, ValueError, EOFError, Image.DecompressionBombError) as error:  # raised by Pillow
        raise UserError(f"{name} is damaged or not an image", got=error, fix=fix) from error


def read_size(path: Path) -> tuple[int, int]:
    """Return (W, H) from the file's header."""
    with open_image(path, path) as image:
        _check_depth(image, path)
        return image.size


def read_pixels(path: Path) -> Tensor:
    """Return the pixels `(3, H, W)` uint8 of an image file."""
    with open_image(path, path) as image:
        return torch.from_numpy(_rgb(image, path))


def decode_image(content: bytes, name: str) -> np.ndarray:
    """Decode an image file to `(3, H, W)` uint8; raises a UserError with its name if it is damaged or not 8-bit."""
    with open_image(BytesIO(content), name) as image:
        return _rgb(image, name)


def _rgb(image: "Image", name: object) -> np.ndarray:
    _check_depth(image, name)
    return np.array(image.convert("RGB")).transpose(2, 0, 1)  # (3, H, W)


def _check_depth(image: "Image", name: object) -> None:
    if image.mode[0] in "IF":  # conversion to RGB would clip 16-bit values instead of scaling them
        raise UserError(f"{name} is not an 8-bit image", got=f"mode {image.mode}", expected="RGB")


class Table(Protocol):
    """Table of rows by id: images, tokens, latents or token ids."""

    def __getitem__(self, ids: np.ndarray) -> np.ndarray:
        """Return the rows `(n, ...)` of `(n,)` ids."""


def read_table(table: Table, ids: np.ndarray) -> Tensor:
    """Return the rows `(n, ...)` of `(n,)` ids as a tensor."""
    return torch.from_numpy(np.ascontiguousarray(table[ids]))


class Images(Protocol):
    """Square images by id."""

    image_size: int  # P

    def __len__(self) -> int:
        """Return the number of images, N."""

    def read(self, ids: np.ndarray) -> np.ndarray:
        """Return images `(n, 3, P, P)` float16 RGB in [0, 1]."""

    def size_and_crop(self, ids: np.ndarray) -> np.ndarray:
        """Return original height and width and the crop's top and left, `(n, 4)` float32 pixels.

        The crop's corner is measured after the shorter side was resized to P, as in SDXL's training.
        """

    def fingerprint(self) -> str:
        """Return a fingerprint of the images, independent of their location."""


class ImageFolder:
    """Images below a folder, sorted by path, as centre crops of the shorter side, resized to `image_size`.

    Raises a UserError if the folder is missing or contains no image.
    """

    def __init__(self, root: Path, image_size: int):
        self.root, self.image_size = root, image_size
        found = [p for p in root.rglob("*") if p.suffix.lower() in SUFFIXES] if root.is_dir() else []
        self.paths = sorted(p for p in found if not is_of_macos(p.name))
        if skipped := len(found) - len(self.paths):
            console.print(f"{root}: {skipped} files of macOS (._*) are skipped", markup=False)
        if not self.paths:
            expected = f"a folder with files of {sorted(SUFFIXES)}"
            raise UserError("the image folder is missing or empty", got=root, expected=expected)

    def __len__(self) -> int:
        return len(self.paths)

    def read(self, ids: np.ndarray) -> np.ndarray:
        """Return images as `Images.read`; raises a UserError if a file is not an image."""
        return np.stack([read_square(self.paths[i], self.image_size) for i in ids.tolist()])

    def size_and_crop(self, ids: np.ndarray) -> np.ndarray:
        """Return sizes and crops as `Images.size_and_crop` from the headers; a UserError if a file is not an image."""
        return np.stack([_size_and_crop(*self._upright_size(self.paths[i]), self.image_size) for i in ids.tolist()])

    def fingerprint(self) -> str:
        """Return the fingerprint of the relative paths and the file sizes in bytes."""
        return fingerprint({p.relative_to(self.root).as_posix(): p.stat().st_size for p in self.paths})

    def _upright_size(self, path: Path) -> tuple[int, int]:
        """Return height and width after EXIF rotation."""
        with _open(path) as image:
            width, height = image.size
            turned = image.getexif().get(_ORIENTATION, 1) >= _TURNED
        return (width, height) if turned else (height, width)


class ImageFile:
    """Images of an hdf5 file as `Stimuli`, as centre crops of the shorter side, resized to `image_size`.

    Raises a UserError if the file is missing, damaged or contains no images.
    """

    def __init__(self, path: Path, image_size: int):
        self.path, self.image_size, self._stimuli = path, image_size, Stimuli(path)
        self._size = self._stimuli.shape[-2:]  # (H, W)

    def __len__(self) -> int:
        return len(self._stimuli)

    def read(self, ids: np.ndarray) -> np.ndarray:
        """Return images as `Images.read`; errors as `Stimuli.read`."""
        images = self._stimuli.read(ids)
        return images if self._size == (self.image_size,) * 2 else self._squares(images)

    def _squares(self, images: np.ndarray) -> np.ndarray:
        side = min(self._size)
        top, left = ((length - side) // 2 for length in self._size)
        middle = torch.from_numpy(images[..., top : top + side, left : left + side]).float()
        resized = F.interpolate(middle, size=(self.image_size,) * 2, mode="bicubic", antialias=True)
        return resized.clamp(0, 1).half().numpy()

    def size_and_crop(self, ids: np.ndarray) -> np.ndarray:
        """Return sizes and crops as `Images.size_and_crop`; all images of a file have one size."""
        return np.tile(_size_and_crop(*self._size, self.image_size), (len(ids), 1))

    def fingerprint(self) -> str:
        """Return the fingerprint of the file's content."""
        return fingerprint_file(self.path)


class SizesAndCrops:
    """Table of `Images.size_and_crop`."""

    def __init__(self, images: Images):
        self._images = images

    def __getitem__(self, ids: np.ndarray) -> np.ndarray:
        return self._images.size_and_crop(ids)


def _size_and_crop(height: int, width: int, side: int) -> np.ndarray:
    """Return the original size, and the corner of the centre crop after resizing the shorter side to `side`, `(4,)`."""
    scale = side / min(height, width)
    top, left = (round((length * scale - side) / 2) for length in (height, width))
    return np.array([height, width, top, left], np.float32)


def read_square(file: Path | IO[bytes], image_size: int, *, name: str | None = None) -> np.ndarray:
    """Read the upright centre crop of an image's shorter side, `(3, P, P)` float16 RGB in [0, 1].

    Raises a UserError with the name, by default the path, if the file is damaged or not an image.
    """
    from PIL import Image, ImageOps

    with _open(file, name) as image:
        upright = ImageOps.exif_transpose(image).convert("RGB")
        square = ImageOps.fit(upright, (image_size,) * 2, Image.Resampling.LANCZOS)
    return (np.asarray(square, np.float32) / 255).astype(np.float16).transpose(2, 0, 1)


def _open(file: Path | IO[bytes], name: str | None = None) -> "AbstractContextManager[Image]":
    return open_image(file, name or file, fix=f"rm {file}" if isinstance(file, Path) else None)
