"""Folders as W&B artifacts: small files are uploaded, large ones referenced, so that lineage needs no large uploads."""

import functools
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

if TYPE_CHECKING:
    import wandb

#: Upload modes: large files as references, all files, or no W&B artifacts.
Upload = Literal["references", "files", "none"]
REFERENCES, FILES, NONE = get_args(Upload)

#: W&B's limit of an artifact name.
_MAX_NAME_LENGTH = 128


@dataclass(frozen=True)
class TrackedFolder:
    """Input or output of a run, with or without a folder.

    Attributes:
        name: of the W&B artifact, including the digits of the folder's name.
        fingerprint: of everything that determines the content.
        folder: None if only the fingerprint is known.
        metadata: plain data.
        grows: the folder is filled gradually: its tables are referenced by path instead of content, and only their
            descriptions are uploaded.
    """

    name: str
    type: str
    fingerprint: str
    folder: Path | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict)
    grows: bool = False

    @property
    def alias(self) -> str:
        """Version label in W&B, also used in manifests."""
        return self.fingerprint[:12]


def build_artifact(tracked: TrackedFolder, *, upload: str, below_mb: float, checksums: bool) -> "wandb.Artifact":
    """Build the W&B artifact; equal folders yield the same version.

    `references` uploads files below a size in MB and references the others by path; `files` uploads all. `checksums`
    reads the content of referenced files, so that W&B detects changes; otherwise their path is used.
    """
    import wandb

    metadata = {"fingerprint": tracked.fingerprint, **tracked.metadata}
    artifact = wandb.Artifact(artifact_name(tracked.name), tracked.type, metadata=metadata)
    if tracked.folder is None:
        artifact.add_reference(f"fingerprint://{tracked.fingerprint}", name="fingerprint", checksum=False)
        return artifact
    for path in sorted(path for path in tracked.folder.rglob("*") if path.is_file()):
        name, facts = str(path.relative_to(tracked.folder)), path.stat()
        small = facts.st_size < below_mb * 1e6
        if path.suffix == ".json" if tracked.grows else small or upload == FILES:
            # Finished files never change, so wandb needs no copy of them.
            artifact.add_file(str(path), name=name, policy="immutable")
        else:
            known = (str(path.resolve()), name, facts.st_size, facts.st_mtime_ns, checksums and not tracked.grows)
            artifact.manifest.add_entry(_reference(*known))
    return artifact


@functools.lru_cache(maxsize=10_000)
def _reference(path: str, name: str, size: int, modified_ns: int, checksum: bool) -> Any:
    """Return the entry of one file, whose content is read once per process."""
    import wandb

    reader = wandb.Artifact("reader", "reader")
    (entry,) = reader.add_reference(Path(path).as_uri(), name=name, checksum=checksum)
    return entry


def artifact_name(name: str) -> str:
    """Convert to a valid W&B artifact name; a long name is cut at the start, which keeps the digits at its end."""
    return re.sub(r"[^A-Za-z0-9_.-]+", "-", name)[-_MAX_NAME_LENGTH:]
