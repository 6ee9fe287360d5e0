"""DeepSpeed's ZeRO folders, made in its format by the test, against the plain state dict."""

import enum
from pathlib import Path

import pytest
import torch

from mindeye_pl.errors import UserError
from mindeye_pl.training.checkpoints import check_whole
from mindeye_pl.weights.deepspeed import checkpoint_files, is_deepspeed, read_deepspeed
from mindeye_pl.weights.registry import load_published, read_published
from tests.weights.test_mindeye2_golden import published_state


class Part(enum.IntEnum):
    """DeepSpeed stores an object of a class of its own here."""

    gradients = 2


def saved(folder: Path, state: dict[str, torch.Tensor], ranks: int = 2, tag: str = "last") -> Path:
    """Two parameter groups, a buffer, and padding that makes the slices equal."""
    (folder / tag).mkdir(parents=True)
    (folder / "latest").write_text(tag)
    names = list(state)
    buffers = [name for name in names if not name.endswith(("weight", "bias"))]
    learned = [name for name in names if name not in buffers]
    groups = [learned[0::2], learned[1::2]]
    torch.save(
        {
            "module": {name: value.half() if name not in buffers else value for name, value in state.items()},
            "param_shapes": [{name: state[name].shape for name in group} for group in groups],
            "buffer_names": buffers,
            "shared_params": {},
            "ds_version": "0.14.0",
        },
        folder / tag / "mp_rank_00_model_states.pt",
    )
    slices: list[list[torch.Tensor]] = [[] for _ in range(ranks)]
    for group in groups:
        flat = torch.cat([state[name].flatten() for name in group])
        width = -(-len(flat) // (2 * ranks)) * 2
        padded = torch.nn.functional.pad(flat, (0, width * ranks - len(flat)), value=7.0)
        for rank, part in enumerate(padded.split(width)):
            slices[rank].append(part.clone())
    for rank, parts in enumerate(slices):
        optimizer = {
            "zero_stage": Part.gradients,
            "partition_count": [ranks, ranks],
            "single_partition_of_fp32_groups": parts,
        }
        name = f"zero_pp_rank_{rank}_mp_rank_00_optim_states.pt"
        torch.save({"optimizer_state_dict": optimizer}, folder / tag / name)
    return folder


@pytest.mark.parametrize("ranks", [1, 2, 11])
def test_partitions_become_the_plain_state(tmp_path: Path, ranks: int) -> None:
    torch.manual_seed(0)
    state = {f"layer{i}.weight": torch.randn(3, i + 1) for i in range(5)} | {"betas": torch.randn(4)}
    state["layer0.bias"] = torch.randn(())
    found = read_deepspeed(saved(tmp_path / "run", state, ranks))
    assert found.keys() == state.keys()
    for name, value in state.items():
        assert torch.equal(found[name], value), name
    assert len(checkpoint_files(tmp_path / "run")) == ranks + 1
    assert read_deepspeed(tmp_path / "run" / "last").keys() == state.keys()


def test_a_folder_is_a_published_checkpoint(tmp_path: Path) -> None:
    state = published_state()
    torch.save({"model_state_dict": state}, tmp_path / "last.pth")
    folder = saved(tmp_path / "run", state)
    plain, together = (read_published("mindeye2", path) for path in (tmp_path / "last.pth", folder))
    assert plain.keys() == together.keys()
    assert all(torch.equal(plain[key], together[key]) for key in plain)
    assert load_published("mindeye2", folder).alignment is not None


def test_missing_files_and_stage_3(tmp_path: Path) -> None:
    folder = saved(tmp_path / "run", {"a.weight": torch.randn(6), "b.weight": torch.randn(6)}, ranks=3)
    first, last = (folder / "last" / f"zero_pp_rank_{rank}_mp_rank_00_optim_states.pt" for rank in (0, 2))
    last_content = last.read_bytes()
    last.unlink()
    with pytest.raises(UserError, match="2 ranks"):
        read_deepspeed(folder)
    last.write_bytes(last_content)
    first.unlink()
    with pytest.raises(UserError, match="no file of rank 0"):
        read_deepspeed(folder)
    torch.save({"optimizer_state_dict": {"zero_stage": 3, "fp32_flat_groups": []}}, first)
    with pytest.raises(UserError, match="stage 3"):
        read_deepspeed(folder)


@pytest.mark.parametrize(
    "content", [b"\xff\xfel\0", b"a\0b", b"l" * 5000, b"", b"..", b"../run/last", b"/tmp", b"last/.", b"last\nlast/"]
)
def test_a_tag_is_the_name_of_one_folder(content: bytes, tmp_path: Path) -> None:
    folder = saved(tmp_path / "run", {"a.weight": torch.randn(6), "b.weight": torch.randn(6)})
    (folder / "latest").write_bytes(b"last\n")
    assert is_deepspeed(folder)
    (folder / "latest").write_bytes(content)
    for read in (is_deepspeed, checkpoint_files, read_deepspeed):
        with pytest.raises(UserError, match=r"latest names no folder beside it \(got: '.*expected: the name"):
            read(folder)  # type: ignore[operator]


def test_a_folder_is_checked_before_it_is_read(tmp_path: Path) -> None:
    folder = saved(tmp_path / "run", {"a.weight": torch.randn(6), "b.weight": torch.randn(6)})
    check_whole("evaluate.checkpoint", folder)
    rank = folder / "last" / "zero_pp_rank_1_mp_rank_00_optim_states.pt"
    rank.write_bytes(rank.read_bytes()[:-100])
    with pytest.raises(UserError, match=r"evaluate\.checkpoint: .*zero_pp_rank_1.* is not whole .*bytes"):
        check_whole("evaluate.checkpoint", folder)
    with pytest.raises(UserError, match=r"evaluate\.checkpoint is no checkpoint .*DeepSpeed"):
        check_whole("evaluate.checkpoint", tmp_path)
