"""Reading the offline file of a W&B run back.

W&B reads it in a program of its own and gives no reader to Python any more; the records in it are W&B's own protocol
buffers.
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
    """The records of a `.wandb` file: a header of 7 bytes, then a LevelDB log of protocol buffers."""
    data, place, whole = file.read_bytes(), 7, b""
    while place + 7 <= len(data):
        if BLOCK - place % BLOCK < 7:  # a record's header never crosses a block
            place += BLOCK - place % BLOCK
            continue
        length, kind = struct.unpack_from("<HB", data, place + 4)  # after the checksum
        whole += data[place + 7 : place + 7 + length]
        place += 7 + length
        if kind in (1, 4):  # whole, or the last of its parts
            yield wandb_internal_pb2.Record.FromString(whole)
            whole = b""


class OfflineRecord:
    """One offline folder.

    Args:
        folder: `offline-run-*`.
    """

    def __init__(self, folder: Path):
        self.folder = folder
        (file,) = folder.glob("*.wandb")
        self.records = list(read(file))

    def of_kind(self, kind: str) -> list[Any]:
        """All records of one kind: `run`, `history`, `artifact` and so on."""
        return [getattr(record, kind) for record in self.records if record.WhichOneof("record_type") == kind]

    @cached_property
    def run(self) -> wandb_internal_pb2.RunRecord:
        """Name, group, tags."""
        return self.of_kind("run")[0]

    @cached_property
    def config(self) -> dict[str, Any]:
        """By top-level key."""
        return {item.key: json.loads(item.value_json) for item in self.run.config.update}

    @cached_property
    def history(self) -> list[dict[str, Any]]:
        """The rows that were logged, in order."""
        return [_plain(record.item) for record in self.of_kind("history")]

    @cached_property
    def summary(self) -> dict[str, Any]:
        """The numbers of the run as a whole."""
        return {key: value for record in self.of_kind("summary") for key, value in _plain(record.update).items()}

    def logged(self, name: str) -> Any:
        """The last value that was logged under a name; a table or images, for instance."""
        return [row[name] for row in self.history if name in row][-1]

    def table(self, name: str) -> list[dict[str, Any]]:
        """The rows of a table by column."""
        content = json.loads((self.folder / "files" / self.logged(name)["path"]).read_text())
        return [dict(zip(content["columns"], row, strict=True)) for row in content["data"]]

    def outputs(self) -> list[Any]:
        """The artifacts that the run made, but for those that hold its tables."""
        found = self.of_kind("artifact")
        return [artifact for artifact in found if not artifact.use_after_commit and artifact.type != "run_table"]

    def inputs(self) -> list[Any]:
        """The artifacts that it was made from: `wandb sync` links them."""
        return [artifact for artifact in self.of_kind("artifact") if artifact.use_after_commit]


def _plain(items: Any) -> dict[str, Any]:
    """Items by key; those below a key become a dictionary, those with a slash in one key stay as they are."""
    plain: dict[str, Any] = {}
    for item in items:
        first, *rest = item.nested_key or [item.key]
        place = plain
        for key in rest:
            place, first = place.setdefault(first, {}), key
        place[first] = json.loads(item.value_json)
    return plain


def finished_record(folder: Path) -> OfflineRecord:
    """The record of a run that this process finished: W&B's own process writes its last lines a moment later."""
    for _ in range(500):
        record = OfflineRecord(folder)
        if record.of_kind("exit"):
            return record
        time.sleep(0.01)
    raise AssertionError(f"{folder} was never finished")


def offline_records(outputs: Path) -> dict[str, list[OfflineRecord]]:
    """All offline records below `outputs/wandb` by step, oldest first."""
    found: dict[str, list[OfflineRecord]] = {}
    for folder in sorted((outputs / "wandb").glob("offline-run-*")):
        record = OfflineRecord(folder)
        found.setdefault(record.run.job_type, []).append(record)
    return found
