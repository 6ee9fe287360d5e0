"""Constants of the Natural Scenes Dataset as MindEye2 prepared it (spec of MindEye2, sections 1.2 and 1.3)."""

from enum import IntEnum
from typing import Literal, get_args

SUBJECTS = (1, 2, 3, 4, 5, 6, 7, 8)

#: Number of voxels of the nsdgeneral mask by subject.
VOXEL_COUNTS = {1: 15724, 2: 14278, 3: 15226, 4: 13153, 5: 13039, 6: 17907, 7: 12682, 8: 14386}

#: Number of completed scan sessions by subject.
SESSION_COUNTS = {1: 40, 2: 40, 3: 32, 4: 30, 5: 40, 6: 32, 7: 40, 8: 30}

#: Sessions that were released before the last three, on which MindEye1 and Mind Reader were trained.
FIRST_RELEASED_SESSIONS = 37

TRIALS_PER_SESSION = 750
REPETITIONS = 3
NUM_STIMULI = 73_000
NUM_SHARED_STIMULI = 1000
STIMULI_PER_SUBJECT = 10_000
IMAGE_SIZE = 224

#: Splits with the shared1000 trials; the older one, `test`, lacks the last three sessions.
TestSplit = Literal["new_test", "test"]
TEST_SPLITS: tuple[str, ...] = get_args(TestSplit)

#: Images of a training's validation: training images held out, or the tested ones (Mind Reader's published code).
ValidateOn = Literal["held_out", "tested"]

#: One scan session is about one hour in the scanner.
HOURS_PER_SESSION = 1.0

#: Regions of `brain_region_masks.hdf5`: bool masks over the voxels of nsdgeneral.
ROIS = ("nsd_general", "V1", "V2", "V3", "V4", "higher_vis")


class Behaviour(IntEnum):
    """Columns of the behaviour arrays; missing values are -1."""

    STIMULUS = 0  # 0-based row in the images file (73K id)
    SUBJECT = 1
    SESSION = 2  # 1-based
    RUN = 3
    TRIAL = 4
    BETA_ROW = 5  # 0-based global trial, row in the betas file
    TIME = 6
    IS_OLD = 7
    IS_CORRECT = 8
    REACTION_TIME = 9
    CHANGE_MIND = 10
    IS_OLD_CURRENT = 11
    IS_CORRECT_CURRENT = 12
    TOTAL_1 = 13
    TOTAL_2 = 14
    BUTTON = 15
    IS_SHARED1000 = 16


#: Numbers of neighbouring trials stored with each trial, the nearest first.
PAST_TRIALS = FUTURE_TRIALS = 15
OLD_TRIALS = 3
