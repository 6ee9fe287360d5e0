import numpy as np
import pytest

from mindeye_pl.steps.evaluation.image_sets import sample_others


@pytest.mark.parametrize(("num_stimuli", "count"), [(100, 10), (30, 10), (29, 9), (13, 0), (10, 0)])
def test_samples_of_other_images_are_disjoint(num_stimuli: int, count: int) -> None:
    test_ids = np.arange(3, 13)[:10]
    samples = sample_others(num_stimuli, test_ids % num_stimuli, seed=0)
    assert [len(some) for some in samples] == ([count, count] if count else [])
    if samples:
        drawn = np.concatenate(samples)
        assert len(set(drawn.tolist()) | set(test_ids.tolist())) == 2 * count + len(test_ids)
        assert drawn.max() < num_stimuli
        again = sample_others(num_stimuli, test_ids, seed=0)
        assert all(np.array_equal(one, other) for one, other in zip(samples, again, strict=True))


def test_samples_depend_on_the_seed() -> None:
    first, second = (sample_others(100, np.arange(10), seed)[0] for seed in (0, 1))
    assert not np.array_equal(first, second)
