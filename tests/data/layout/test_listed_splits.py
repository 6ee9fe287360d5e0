"""Splits that a dataset lists: names, and files that are refused."""

import json
from pathlib import Path

import numpy as np
import pytest

from mindeye_pl.data.layout.listed_splits import LeftOutListed, read_splits
from mindeye_pl.data.layout.splits import ClusterName, ListedName, read_split
from mindeye_pl.errors import UserError


def test_a_listed_name_wins() -> None:
    assert read_split("cluster_k5_0") == ClusterName(5, 0)
    assert read_split("cluster_k5_0", ["tau", "cluster_k5_*"]) == ListedName("cluster_k5_0")
    assert read_split("cluster_k4_0", ["tau", "cluster_k5_*"]) == ClusterName(4, 0)
    assert read_split("standard", ["*"]) is None
    with pytest.raises(UserError, match=r"no such split \(got: ood; expected: .*, or tau\*, mine"):
        read_split("ood", ["tau*", "mine"])


def test_lists_are_read(tmp_path: Path) -> None:
    path = tmp_path / "splits.json"
    path.write_text(json.dumps({"a": {"tested": [3, 1, 1]}, "b": {"tested": [0], "left_out": [2]}}))
    found = LeftOutListed.read(ListedName("a"), path, 4, "new_test")
    assert found.tested.tolist() == [1, 3]
    np.testing.assert_array_equal(found.holds(np.arange(4)), [False, True, False, True])
    found = LeftOutListed.read(ListedName("b"), path, 4, "new_test")
    np.testing.assert_array_equal(found.holds(np.arange(4)), [True, False, True, False])
    with pytest.raises(UserError, match=r"has no such split \(got: c; expected: a, b"):
        LeftOutListed.read(ListedName("c"), path, 4, "new_test")
    with pytest.raises(UserError, match=r"an id of a is out of range \(got: 3; expected: 0 to 2"):
        LeftOutListed.read(ListedName("a"), path, 3, "new_test")


@pytest.mark.parametrize("content", ["[]", "{", '{"a": [1]}', '{"a": {"left_out": [1]}}', '{"a": {"tested": [1.5]}}'])
def test_other_files_are_refused(tmp_path: Path, content: str) -> None:
    path = tmp_path / "splits.json"
    with pytest.raises(UserError, match="the dataset lists no splits"):
        read_splits(path)
    path.write_text(content)
    with pytest.raises(UserError, match="is not a file of splits"):
        read_splits(path)


def test_a_split_without_images_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "splits.json"
    path.write_text('{"a": {"tested": []}}')
    with pytest.raises(UserError, match="a tests no image"):
        LeftOutListed.read(ListedName("a"), path, 4, "new_test")
