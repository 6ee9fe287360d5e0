"""Reader of the offline file of a W&B run.

The file contains W&B's protocol buffers; W&B no longer has a public Python reader for it.
"""

import json
import struct
import time
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import Any

from wandb.proto import wandb_internal_pb2

BLOCK = 32 * 1024


def read(file: Path) -> Iterator[wandb_internal_pb2.Record]:
    """Yield the records of a `.wandb` file: a header of 7 bytes, then a LevelDB log of protocol buffers."""
    data, offset, whole = file.read_bytes(), 7, b""
    while offset + 7 <= len(data):
        if BLOCK - offset % BLOCK < 7:  # a record's header never crosses a block
            offset += BLOCK - offset % BLOCK
            continue
        length, kind = struct.unpack_from("<HB", data, offset + 4)  # after the checksum
        whole += data[offset + 7 : offset + 7 + length]
        offset += 7 + length
        if kind in (1, 4):  # whole, or the last of its parts
            yield wandb_internal_pb2.Record.FromString(whole)
            whole = b""


class OfflineRecord:
    """Content of an offline folder.

    Args:
        folder: `offline-run-*`.
    """

    def __init__(self, folder: Path):
        self.folder = folder
        (file,) = folder.glob("*.wandb")
        self.records = list(read(file))

    def of_kind(self, kind: str) -> list[Any]:
        """Return all records of one kind, such as `run`, `history` or `artifact`."""
        return [getattr(record, kind) for record in self.records if record.WhichOneof("record_type") == kind]

    @cached_property
    def run(self) -> wandb_internal_pb2.RunRecord:
        """Name, group, tags."""
        return self.of_kind("run")[0]

    @cached_property
    def config(self) -> dict[str, Any]:
        """Configuration by top-level key."""
        return {item.key: json.loads(item.value_json) for item in self.run.config.update}

    @cached_property
    def history(self) -> list[dict[str, Any]]:
        """Logged rows in order."""
        return [_plain(record.item) for record in self.of_kind("history")]

    @cached_property
    def summary(self) -> dict[str, Any]:
        """Summary values of the run."""
        return {key: value for record in self.of_kind("summary") for key, value in _plain(record.update).items()}

    def logged(self, name: str) -> Any:
        """Return the last value logged under a name, for example a table or images."""
        return [row[name] for row in self.history if name in row][-1]

    def table(self, name: str) -> list[dict[str, Any]]:
        """Return the rows of a table by column."""
        content = json.loads((self.folder / "files" / self.logged(name)["path"]).read_text())
        return [dict(zip(content["columns"], row, strict=True)) for row in content["data"]]

    def outputs(self) -> list[Any]:
        """Artifacts created by the run, without those of its tables."""
        found = self.of_kind("artifact")
        return [artifact for artifact in found if not artifact.use_after_commit and artifact.type != "run_table"]

    def inputs(self) -> list[Any]:
        """Artifacts used by the run, which `wandb sync` links."""
        return [artifact for artifact in self.of_kind("artifact") if artifact.use_after_commit]


def _plain(items: Any) -> dict[str, Any]:
    """Convert items to nested dictionaries; slashes inside a key are kept."""
    plain: dict[str, Any] = {}
    for item in items:
        first, *rest = item.nested_key or [item.key]
        target = plain
        for key in rest:
            target, first = target.setdefault(first, {}), key
        target[first] = json.loads(item.value_json)
    return plain


def finished_record(folder: Path) -> OfflineRecord:
    """Return the record of a finished run, after waiting for W&B's process to write its last lines."""
    for _ in range(500):
        record = OfflineRecord(folder)
        if record.of_kind("exit"):
            return record
        time.sleep(0.01)
    raise AssertionError(f"{folder} was never finished")


def offline_records(outputs: Path) -> dict[str, list[OfflineRecord]]:
    """Return all offline records below `outputs/wandb` by step, oldest first."""
    found: dict[str, list[OfflineRecord]] = {}
    for folder in sorted((outputs / "wandb").glob("offline-run-*")):
        record = OfflineRecord(folder)
        found.setdefault(record.run.job_type, []).append(record)
    return found
