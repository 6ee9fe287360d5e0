"""Folders as W&B artifacts: small files by content, large ones by reference, so that lineage costs no upload."""

import functools
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

if TYPE_CHECKING:
    import wandb

#: What becomes of an artifact's files: large ones are referred to, all are uploaded, or there are no W&B artifacts.
Upload = Literal["references", "files", "none"]
REFERENCES, FILES, NONE = get_args(Upload)

#: W&B's limits.
_MOST_LETTERS = 128


@dataclass(frozen=True)
class TrackedFolder:
    """A folder, or a thing without one, that a run made or was made from.

    Attributes:
        name: of the W&B artifact, with the digits by which the folder is known on disk.
        type: data, targets, checkpoint, reconstructions or scores.
        fingerprint: of all that determines the content.
        folder: with its files; None for what is known by its fingerprint alone.
        metadata: plain data.
        grows: for a folder that is filled bit by bit: the paths of its tables stand for their content, and only what
            describes them is uploaded.
    """

    name: str
    type: str
    fingerprint: str
    folder: Path | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict)
    grows: bool = False

    @property
    def alias(self) -> str:
        """The version by which people and manifests know it."""
        return self.fingerprint[:12]


def artifact_of(tracked: TrackedFolder, *, upload: str, below_mb: float, checksums: bool) -> "wandb.Artifact":
    """The W&B artifact; made twice of the same folder, W&B knows it for the same version.

    Args:
        tracked: the folder.
        upload: `references` uploads the files below `below_mb` and refers to the others where they lie; `files`
            uploads all.
        below_mb: in MB.
        checksums: whether the content of a file that is referred to is read, so that W&B sees when it changes; else
            its path stands for it.
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
            # Finished files do not change: no copy is made of them.
            artifact.add_file(str(path), name=name, policy="immutable")
        else:
            known = (str(path.resolve()), name, facts.st_size, facts.st_mtime_ns, checksums and not tracked.grows)
            artifact.manifest.add_entry(_reference(*known))
    return artifact


@functools.lru_cache(maxsize=10_000)
def _reference(path: str, name: str, size: int, modified_ns: int, checksum: bool) -> Any:
    """The entry of one file, whose content is read once in a process."""
    import wandb

    reader = wandb.Artifact("reader", "reader")
    (entry,) = reader.add_reference(Path(path).as_uri(), name=name, checksum=checksum)
    return entry


def artifact_name(words: str) -> str:
    """The words as W&B takes them for the name of an artifact; of too many, the last ones, with the digits, stay."""
    return re.sub(r"[^A-Za-z0-9_.-]+", "-", words)[-_MOST_LETTERS:]
