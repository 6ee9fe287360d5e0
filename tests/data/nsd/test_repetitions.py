import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from mindeye_pl.data.nsd.trials import assign_trial_slots, cyclic_slots


@given(st.lists(st.integers(0, 6), min_size=1, max_size=30), st.integers(1, 4))
def test_slots_equal_a_loop(stimulus_ids, num_slots):
    by_hand = []
    for image in sorted(set(stimulus_ids)):
        seen = [trial for trial, shown in enumerate(stimulus_ids) if shown == image]
        by_hand.append([seen[slot % len(seen)] for slot in range(num_slots)])
    assert cyclic_slots(np.array(stimulus_ids), num_slots).tolist() == by_hand
    images = sorted(set(stimulus_ids))
    trial_slots = assign_trial_slots(np.array(stimulus_ids), num_slots)
    assert trial_slots.tolist() == [by_hand[images.index(shown)] for shown in stimulus_ids]


def test_three_slots_contain_every_trial():
    stimulus_ids = np.random.default_rng(0).permutation(np.repeat(np.arange(50), 3))
    assert (assign_trial_slots(stimulus_ids, 3) == np.arange(150)[:, None]).any(1).all()
