"""The command line: compose, check, run, and say a user's mistake in one line."""

import errno
import logging
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NoReturn

import hydra
from hydra.errors import HydraException
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from mindeye_pl.config import CONFIG_NAME, check_config, conf_dir, register_resolvers
from mindeye_pl.errors import UserError

#: What the operating system says of a write that found no room; libraries below Python pass on only the words.
_NO_ROOM = {code: os.strerror(code) for code in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)}


#: One of these is set where torchrun, srun or rank 0 itself started this process as one of several.
_RANK_VARIABLES = ("TORCHELASTIC_RUN_ID", "SLURM_PROCID", "MINDEYE_PL_LEADER")


@hydra.main(config_path=str(conf_dir()), config_name=CONFIG_NAME, version_base="1.3")
def run_job(config: DictConfig) -> None:
    """One job, the only one of a run or one of a sweep."""
    logging.captureWarnings(True)  # into the log, so that stderr holds nothing but the line of a mistake
    with mistakes_in_one_line():  # here too, since Hydra adds words of its own to what a job raises
        if among_ranks():  # a cluster's launcher calls this function in every rank
            return
        check_config(config)
        from mindeye_pl.pipelines.ranks import leading
        from mindeye_pl.pipelines.run import run_experiment

        with leading():
            run_experiment(config)


def among_ranks() -> bool:
    """Whether this process is one of several ranks and not the first: it then follows rank 0 to the end."""
    if not any(name in os.environ for name in _RANK_VARIABLES):
        return False
    from mindeye_pl.pipelines.ranks import take_part

    return take_part()


def main() -> None:
    """Runs the command line; a user's mistake is one line on stderr and exit code 2."""
    register_resolvers()
    os.environ.setdefault("HYDRA_FULL_ERROR", "1")  # exceptions come here whole, not as Hydra's shortened trace
    # Threads that wait spin by default: with another busy process on the machine a step would take fifty times as long.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    with mistakes_in_one_line():
        if not among_ranks():  # ranks that follow compose nothing: rank 0 tells them all
            run_job()


@contextmanager
def mistakes_in_one_line() -> Iterator[None]:
    """Turns a mistake that the user can mend into one line on stderr and exit code 2."""
    try:
        yield
    except (UserError, HydraException, OmegaConfBaseException) as error:
        _exit(error)
    except Exception as error:
        if not found_no_room(error):
            raise
        _exit(no_room(error))
    except KeyboardInterrupt:
        print("stopped; the same command goes on from the last checkpoint", file=sys.stderr)
        sys.exit(130)


def found_no_room(error: BaseException | None) -> bool:
    """Whether an error, or one that it came from, is a write that found no room."""
    while error is not None:
        if getattr(error, "errno", None) in _NO_ROOM or any(words in str(error) for words in _NO_ROOM.values()):
            return True
        error = error.__cause__ or error.__context__
    return False


def no_room(error: Exception) -> UserError:
    """The user's view of it."""
    return UserError(
        f"no room to write {getattr(error, 'filename', None) or 'a file of this run'}",
        seen=error,
        wanted="free space",
        mend="make room, or paths.outputs=FOLDER on another disk; then the same command goes on where it was",
    )


def _exit(error: Exception) -> NoReturn:
    cause = error.__cause__
    words = [str(error)]
    if isinstance(error, HydraException) and cause is not None and str(cause) not in str(error):
        words.append(str(cause))
    print("mindeye_pl: " + (" ".join(" ".join(words).split()) or type(error).__name__), file=sys.stderr)
    sys.exit(2)
