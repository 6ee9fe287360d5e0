"""mindeye_pl: from fMRI to pictures, with MindEye2, MindEye1 and Mind Reader as compositions of the same parts."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mindeye_pl.pipelines.decoder import load as load

__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    """`mindeye_pl.load`, imported when it is first asked for: the import of the package alone stays quick."""
    if name == "load":
        from mindeye_pl.pipelines.decoder import load

        return load
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
