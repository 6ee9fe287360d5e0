"""The command line: compose, check, run, and say a user's mistake in one line."""

import errno
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

_NO_SPACE = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


@hydra.main(config_path=str(conf_dir()), config_name=CONFIG_NAME, version_base="1.3")
def run_job(config: DictConfig) -> None:
    """One job, the only one of a run or one of a sweep."""
    with mistakes_in_one_line():  # here too, since Hydra adds words of its own to what a job raises
        check_config(config)
        from mindeye_pl.pipelines.run import run_experiment

        run_experiment(config)


def main() -> None:
    """Runs the command line; a user's mistake is one line on stderr and exit code 2."""
    register_resolvers()
    os.environ.setdefault("HYDRA_FULL_ERROR", "1")  # exceptions come here whole, not as Hydra's shortened trace
    # Threads that wait spin by default: with another busy process on the machine a step would take fifty times as long.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    with mistakes_in_one_line():
        run_job()


@contextmanager
def mistakes_in_one_line() -> Iterator[None]:
    """Turns a mistake that the user can mend into one line on stderr and exit code 2."""
    try:
        yield
    except (UserError, HydraException, OmegaConfBaseException) as error:
        _exit(error)
    except OSError as error:
        if error.errno not in _NO_SPACE:
            raise
        _exit(disk_full(error))
    except KeyboardInterrupt:
        print("stopped; the same command goes on from the last checkpoint", file=sys.stderr)
        sys.exit(130)


def disk_full(error: OSError) -> UserError:
    """The user's view of a write that found no room."""
    return UserError(
        f"no room to write {error.filename or 'a file of this run'}",
        seen=error.strerror,
        wanted="free space",
        mend="free space, or paths.outputs=FOLDER on another disk, then the same command again; nothing finished is lost",
    )


def _exit(error: Exception) -> NoReturn:
    cause = error.__cause__
    words = [str(error)]
    if isinstance(error, HydraException) and cause is not None and str(cause) not in str(error):
        words.append(str(cause))
    print("mindeye_pl: " + (" ".join(" ".join(words).split()) or type(error).__name__), file=sys.stderr)
    sys.exit(2)
