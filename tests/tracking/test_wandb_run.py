"""A real offline W&B run, read back from its file."""

import struct
from collections.abc import Iterator
from pathlib import Path

from wandb.proto import wandb_internal_pb2

from mindeye_pl.tracking.wandb_run import start_wandb_run, sync_hint

BLOCK = 32 * 1024


def test_an_offline_run_holds_what_a_dashboard_needs(tmp_path: Path) -> None:
    run = start_wandb_run(
        tmp_path,
        project="mindeye_pl",
        entity=None,
        mode="offline",
        run_id="abc123",
        name="finetune subj01-1h",
        group="finetune_subj01_1h",
        job_type="finetune",
        tags=["subj01", "simulated"],
        config={"seed": 42},
    )
    run.log({"train/loss": 1.5})
    hint = sync_hint(run)
    run.finish()
    (file,) = tmp_path.glob("wandb/offline-run-*/*.wandb")
    assert hint == f"wandb sync {file.parent}"

    records = list(read(file))
    started = next(record.run for record in records if record.WhichOneof("record_type") == "run")
    assert (started.run_id, started.display_name) == ("abc123", "finetune subj01-1h")
    assert (started.run_group, started.job_type) == ("finetune_subj01_1h", "finetune")
    assert set(started.tags) == {"subj01", "simulated"}
    assert {item.key for item in started.config.update} >= {"seed"}
    logged = [item for record in records for item in record.history.item]
    assert any("train/loss" in (item.key, *item.nested_key) and item.value_json == "1.5" for item in logged)


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
