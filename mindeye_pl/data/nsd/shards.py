"""Shards of NSD's trials, with its two test sets."""

from mindeye_pl.data.layout.design import Design
from mindeye_pl.data.layout.paths import DataLayout
from mindeye_pl.data.layout.writer import write_shard, write_training_shards

#: Number of final sessions that the older test split excludes.
_OLD_TEST_EXCLUDED_SESSIONS = 3


def write_shards(layout: DataLayout, subject: int, design: Design) -> None:
    """Write a subject's training shards, one per session, and both test shards; samples are numbered per split."""
    test = design.test_trials
    write_training_shards(layout, subject, design)
    write_shard(layout.shard(subject, "new_test"), design, test)
    old_test = test[design.sessions[test] <= design.num_sessions - _OLD_TEST_EXCLUDED_SESSIONS]
    write_shard(layout.shard(subject, "test"), design, old_test)
