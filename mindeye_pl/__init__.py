"""mindeye_pl: from fMRI to images, with MindEye2, MindEye1 and Mind Reader as compositions of the same parts."""

from typing import TYPE_CHECKING, Any

from mindeye_pl.version import __version__ as __version__

if TYPE_CHECKING:
    from mindeye_pl.decoder import load as load
    from mindeye_pl.sharing.shareable import Shareable

    from_pretrained = Shareable.from_pretrained


def __getattr__(name: str) -> Any:
    """`load` and `from_pretrained`, imported when first asked for: the import of the package alone stays quick."""
    if name == "load":
        from mindeye_pl.decoder import load

        return load
    if name == "from_pretrained":
        from mindeye_pl.sharing.shareable import Shareable

        return Shareable.from_pretrained
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
