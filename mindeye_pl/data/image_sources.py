"""Images to train foundation models on: folders of them and hdf5 files, as squares of one side.

Legend: n images asked for, N images in all, H and W size in pixels, P side of the squares.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, Protocol

import numpy as np

from mindeye_pl.data.nsd.stimuli import Stimuli
from mindeye_pl.errors import UserError
from mindeye_pl.store.fingerprint import fingerprint, fingerprint_file

if TYPE_CHECKING:
    from PIL.Image import Image

SUFFIXES = {".png", ".jpg", ".jpeg", ".webp", ".bmp"}

#: EXIF's number of the entry that says how a camera was held; from 5 on, height and width change places.
_ORIENTATION, _TURNED = 0x0112, 5


class Table(Protocol):
    """Rows by number: images, tokens, latents or words."""

    def __getitem__(self, ids: np.ndarray) -> np.ndarray:
        """The rows `(n, ...)` of `(n,)` ids."""


class Images(Protocol):
    """Images by number, as squares of one side.

    Attributes:
        image_size: P.
    """

    image_size: int

    def __len__(self) -> int:
        """N."""

    def read(self, ids: np.ndarray) -> np.ndarray:
        """Images `(n, 3, P, P)` float16 RGB in [0, 1]."""

    def size_and_crop(self, ids: np.ndarray) -> np.ndarray:
        """What was done to them, `(n, 4)` float32 pixels: original height and width, top and left of the crop.

        The crop's corner is that in the image whose shorter side was brought to P, as SDXL was trained.
        """

    def fingerprint(self) -> str:
        """Tells one set of images from another, whatever its place."""


class ImageFolder:
    """The images below a folder, in the order of their names, as the middle squares of their shorter side.

    Args:
        root: searched through, sub-folders too.
        image_size: P.

    Raises:
        UserError: if the folder is missing or has no image.
    """

    def __init__(self, root: Path, image_size: int):
        self.root, self.image_size = root, image_size
        self.paths = sorted(p for p in root.rglob("*") if p.suffix.lower() in SUFFIXES) if root.is_dir() else []
        if not self.paths:
            raise UserError("the folder holds no image", got=root, expected=f"files of {sorted(SUFFIXES)}")

    def __len__(self) -> int:
        return len(self.paths)

    def read(self, ids: np.ndarray) -> np.ndarray:
        """See `Images.read`.

        Raises:
            UserError: for a file that is no image.
        """
        return np.stack([read_square(self.paths[i], self.image_size) for i in ids.tolist()])

    def size_and_crop(self, ids: np.ndarray) -> np.ndarray:
        """See `Images.size_and_crop`; of each file only the head is read.

        Raises:
            UserError: for a file that is no image.
        """
        return np.stack([_size_and_crop(*self._size_of(self.paths[i]), self.image_size) for i in ids.tolist()])

    def fingerprint(self) -> str:
        """Follows from the files' names below the folder and from their sizes in bytes."""
        return fingerprint({p.relative_to(self.root).as_posix(): p.stat().st_size for p in self.paths})

    def _size_of(self, path: Path) -> tuple[int, int]:
        """Height and width as a viewer shows it."""
        with _opened(path) as image:
            width, height = image.size
            turned = image.getexif().get(_ORIENTATION, 1) >= _TURNED
        return (width, height) if turned else (height, width)


class ImageFile:
    """The images of an hdf5 file, as the middle squares of their shorter side.

    Args:
        path: of the file, as `Stimuli` reads it; uint8 is taken for images in [0, 255].
        image_size: P; images that are such squares pass unchanged.

    Raises:
        UserError: if the file is missing, damaged or holds no images.
    """

    def __init__(self, path: Path, image_size: int):
        self.path, self.image_size, self._stimuli = path, image_size, Stimuli(path)
        self._size = self._stimuli.shape[-2:]  # (H, W)

    def __len__(self) -> int:
        return len(self._stimuli)

    def read(self, ids: np.ndarray) -> np.ndarray:
        """See `Images.read`.

        Raises:
            UserError: see `Stimuli.read`.
        """
        images = self._stimuli.read(ids)
        if images.dtype == np.uint8:
            images = (images.astype(np.float32) / 255).astype(np.float16)
        return images if self._size == (self.image_size,) * 2 else self._squares(images)

    def _squares(self, images: np.ndarray) -> np.ndarray:
        import torch
        import torch.nn.functional as F

        side = min(self._size)
        top, left = ((length - side) // 2 for length in self._size)
        middle = torch.from_numpy(images[..., top : top + side, left : left + side]).float()
        resized = F.interpolate(middle, size=(self.image_size,) * 2, mode="bicubic", antialias=True)
        return resized.clamp(0, 1).half().numpy()

    def size_and_crop(self, ids: np.ndarray) -> np.ndarray:
        """See `Images.size_and_crop`; all images of a file are of one size."""
        return np.tile(_size_and_crop(*self._size, self.image_size), (len(ids), 1))

    def fingerprint(self) -> str:
        """See `fingerprint_file`."""
        return fingerprint_file(self.path)


class SizesAndCrops:
    """The table of `Images.size_and_crop`."""

    def __init__(self, images: Images):
        self._images = images

    def __getitem__(self, ids: np.ndarray) -> np.ndarray:
        return self._images.size_and_crop(ids)


def _size_and_crop(height: int, width: int, side: int) -> np.ndarray:
    """Original size, and the corner of the middle square once the shorter side is `side`, `(4,)`."""
    scale = side / min(height, width)
    top, left = (round((length * scale - side) / 2) for length in (height, width))
    return np.array([height, width, top, left], np.float32)


def read_square(file: Path | IO[bytes], image_size: int, *, name: str | None = None) -> np.ndarray:
    """The middle square of an image's shorter side, upright, `(3, P, P)` float16 RGB in [0, 1].

    Args:
        file: its path, or the file itself.
        image_size: P.
        name: for the message; its path where None.

    Raises:
        UserError: if it is no image, or not whole.
    """
    from PIL import Image, ImageOps

    with _opened(file, name) as image:
        upright = ImageOps.exif_transpose(image).convert("RGB")
        square = ImageOps.fit(upright, (image_size,) * 2, Image.Resampling.LANCZOS)
    return (np.asarray(square, np.float32) / 255).astype(np.float16).transpose(2, 0, 1)


@contextmanager
def _opened(file: Path | IO[bytes], name: str | None = None) -> "Iterator[Image]":
    """The image of a file; one that is none, or not whole, is the user's mistake."""
    from PIL import Image

    try:
        with Image.open(file) as image:
            yield image
    except (OSError, SyntaxError, ValueError, EOFError, Image.DecompressionBombError) as error:  # Pillow's words for it
        fix = f"rm {file}" if isinstance(file, Path) else None
        raise UserError(f"{name or file} is no whole image", got=error, fix=fix) from error
