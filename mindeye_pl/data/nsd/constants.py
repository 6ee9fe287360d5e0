"""Constants of the Natural Scenes Dataset as MindEye2 prepared it (spec of MindEye2, sections 1.2 and 1.3)."""

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

#: Regions of `brain_region_masks.hdf5`: bool masks over the voxels of nsdgeneral.
ROIS = ("nsd_general", "V1", "V2", "V3", "V4", "higher_vis")
