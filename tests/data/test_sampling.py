from collections import Counter

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from mindeye_pl.data.sampling import SAMPLERS, ByImage, ByTrial, ResampledSessions, WithoutReplacement
from mindeye_pl.errors import UserError
from tests.data.small_nsd import make_trials


@pytest.mark.parametrize(
    ("num_sessions", "batch_size", "num_subjects", "world_size", "published"),
    [(40, 24, 1, 1, 1250), (1, 24, 1, 1, 31), (40, 42, 7, 1, 714), (40, 42, 7, 2, 357), (40, 45, 7, 1, 714)],
)
def test_published_lengths_of_an_epoch(num_sessions, batch_size, num_subjects, world_size, published):
    trials = [nsd_like(subject, num_sessions, 750) for subject in range(num_subjects)]
    sampler = WithoutReplacement(trials, batch_size=batch_size, trials_per_session=750, seed=0, world_size=world_size)
    assert len(sampler) == published


def test_an_epoch_by_trial_has_each_training_trial_once():
    """As Mind Reader's, which has no batch for the trials that are left out."""
    trials = nsd_like(1, 4, 750)
    sampler = ByTrial([trials], batch_size=32, trials_per_session=750, seed=0)
    assert len(sampler) == len(trials) // 32 < 4 * 750 // 32
    drawn = np.concatenate([rows for batch in sampler for _, rows in batch])
    assert len(drawn) == len(set(drawn.tolist())) == len(trials) // 32 * 32


def test_batches_of_impossible_size():
    trials = [nsd_like(subject, 1, 750) for subject in range(7)]
    with pytest.raises(UserError, match=r"too small for an equal share .*got: 6; expected: at least 7"):
        WithoutReplacement(trials, batch_size=6, trials_per_session=750, seed=0)
    with pytest.raises(UserError, match=r"larger than an epoch \(got: 751; expected: at most 750\)"):
        WithoutReplacement(trials[:1], batch_size=751, trials_per_session=750, seed=0)


def nsd_like(subject: int, num_sessions: int, per_session: int, repetitions: int = 3):
    """Sessions of trials whose images come back; an eighth of the trials is left out as a test set would be."""
    rng = np.random.default_rng(subject)
    images = 1000 * subject + np.repeat(np.arange(1 + num_sessions * per_session // repetitions), repetitions)
    shown = images[np.argsort(np.arange(len(images)) + rng.exponential(per_session, len(images)))]
    trials = make_trials(shown[: num_sessions * per_session], per_session, subject)
    return trials.select(rng.random(len(trials)) > 0.125)


@pytest.fixture(params=SAMPLERS)
def sampler_class(request):
    return SAMPLERS[request.param]


def epoch_of(sampler):
    batches = list(sampler)
    assert len(batches) == len(sampler)
    return batches


@settings(max_examples=40, deadline=None)
@given(
    rule=st.sampled_from(sorted(SAMPLERS)),
    num_subjects=st.integers(1, 3),
    share=st.integers(1, 8),
    num_sessions=st.integers(1, 4),
    world_size=st.integers(1, 3),
    epoch=st.integers(0, 2),
    seed=st.integers(0, 2**32),
)
def test_subjects_have_equal_batches_without_repeated_images(
    rule, num_subjects, share, num_sessions, world_size, epoch, seed
):
    trials = [nsd_like(subject, num_sessions, 60) for subject in range(1, num_subjects + 1)]
    images = max(len(set(subject_trials.stimulus_ids)) for subject_trials in trials)
    counted = {"by_image": images, "by_trial": max(map(len, trials))}.get(rule, 60 * num_sessions)
    assume(share * num_subjects <= counted // world_size)
    for rank in range(world_size):
        sampler = SAMPLERS[rule](
            trials, batch_size=share * num_subjects, trials_per_session=60, seed=seed, rank=rank, world_size=world_size
        )
        sampler.set_epoch(epoch)
        assert len(sampler) == counted // world_size // (share * num_subjects)
        for batch in epoch_of(sampler):
            assert [place for place, _ in batch] == list(range(num_subjects))
            for place, taken in batch:
                assert taken.shape == (share,)
                assert len(set(trials[place].stimulus_ids[taken])) == share


@pytest.mark.parametrize("world_size", [1, 2])
def test_epochs_of_a_budget_are_parts_of_a_pass(sampler_class, world_size):
    """Four trials in a batch on a rank; a pass has 45 (by image 15) steps on one rank."""
    trials = [nsd_like(1, 3, 60)]
    seen: Counter[int] = Counter()
    for rank in range(world_size):
        sampler = sampler_class(
            trials, batch_size=4, trials_per_session=60, seed=3, steps_per_epoch=4, rank=rank, world_size=world_size
        )
        assert len(sampler) == 4
        epochs = sampler.epochs_per_pass
        assert epochs * 4 >= len(sampler_class(trials, batch_size=4 * world_size, trials_per_session=60, seed=3))
        firsts = []
        for epoch in range(epochs + 1):
            sampler.set_epoch(epoch)
            (batches,) = zip(*epoch_of(sampler), strict=True)
            firsts.append(np.stack([taken for _, taken in batches]))
            assert all(len(set(trials[0].stimulus_ids[taken])) == 4 for _, taken in batches)
            seen.update(taken for _, rows in batches for taken in rows.tolist() if epoch < epochs)
        assert len({drawn.tobytes() for drawn in firsts}) == epochs + 1, "every epoch is another part"
    if sampler_class is WithoutReplacement:
        assert set(seen) == set(range(len(trials[0]))), "a pass uses every trial"
    if sampler_class is ByImage:
        assert {trials[0].stimulus_ids[row] for row in seen} == set(trials[0].stimulus_ids)


@pytest.mark.parametrize("sessions", [0.25, 3])
def test_epochs_of_a_budget_have_the_same_length_for_every_amount_of_data(sampler_class, sessions):
    trials = [nsd_like(1, 3, 60)] if sessions == 3 else [nsd_like(1, 1, 60).select(np.arange(13))]
    plain = {"batch_size": 4, "trials_per_session": 60, "seed": 3, "num_sessions": sessions}
    sampler = sampler_class(trials, **plain, steps_per_epoch=10)
    assert len(epoch_of(sampler)) == 10
    assert sampler.epochs_per_pass == (1 if sessions == 0.25 else -(-len(sampler_class(trials, **plain)) // 10))


def test_a_budget_of_one_pass_per_epoch_changes_nothing(sampler_class):
    trials = [nsd_like(1, 2, 60), nsd_like(2, 2, 60)]
    plain = sampler_class(trials, batch_size=8, trials_per_session=60, seed=0)
    budget = sampler_class(trials, batch_size=8, trials_per_session=60, seed=0, steps_per_epoch=len(plain))
    for sampler in (plain, budget):
        sampler.set_epoch(2)
    for batch, other in zip(plain, budget, strict=True):
        for (_, taken), (_, same) in zip(batch, other, strict=True):
            np.testing.assert_array_equal(taken, same)


def test_same_seed_same_epoch_and_nothing_global(sampler_class):
    trials = [nsd_like(1, 3, 60), nsd_like(2, 3, 60)]

    def draw(seed: int, epoch: int, rank: int = 0, world_size: int = 2):
        sampler = sampler_class(
            trials, batch_size=12, trials_per_session=60, seed=seed, rank=rank, world_size=world_size
        )
        sampler.set_epoch(epoch)
        return np.array([taken for batch in sampler for _, taken in batch])

    first = draw(1, 5)
    before = np.random.get_state()[1].copy()
    np.testing.assert_array_equal(draw(1, 5), first)
    np.testing.assert_array_equal(np.random.get_state()[1], before)
    for other in (draw(2, 5), draw(1, 6), draw(1, 5, rank=1)):
        assert (other != first).mean() > 0.9


def test_a_subjects_batches_do_not_depend_on_other_subjects(sampler_class):
    both = sampler_class([nsd_like(1, 2, 60), nsd_like(2, 2, 60)], batch_size=8, trials_per_session=60, seed=0)
    swapped = sampler_class([nsd_like(2, 2, 60), nsd_like(1, 2, 60)], batch_size=8, trials_per_session=60, seed=0)
    for batch, other in zip(both, swapped, strict=True):
        np.testing.assert_array_equal(batch[0][1], other[1][1])


@settings(max_examples=40, deadline=None)
@given(
    st.integers(1, 3),
    st.integers(1, 10),
    st.integers(1, 4),
    st.integers(1, 3),
    st.integers(20, 120),
    st.integers(0, 99),
)
def test_no_trial_is_repeated_within_an_epoch(num_sessions, share, world_size, repetitions, nominal, seed):
    trials = nsd_like(1, num_sessions, 40, repetitions)
    assume(share <= nominal * num_sessions // world_size)
    assume(share <= len(np.unique(trials.stimulus_ids)))
    ranks = [
        WithoutReplacement(
            [trials], batch_size=share, trials_per_session=nominal, seed=seed, rank=rank, world_size=world_size
        )
        for rank in range(world_size)
    ]
    drawn = Counter(trial for sampler in ranks for batch in sampler for trial in batch[0][1].tolist())
    total = world_size * len(ranks[0]) * share
    assert drawn.total() == total
    if repetitions <= world_size * len(ranks[0]) // (1 + total // len(trials)):  # an image has room in the epoch
        assert set(drawn.values()) <= {total // len(trials), -(-total // len(trials))}
    if total <= len(trials) and repetitions <= world_size * len(ranks[0]):
        assert max(drawn.values()) == 1  # and so no two ranks have a trial in common


def test_a_session_of_one_batch_still_has_no_image_twice():
    trials = make_trials(np.repeat(np.arange(6), 4), 24)  # six images, each four times
    sampler = WithoutReplacement([trials], batch_size=6, trials_per_session=6, seed=0)
    for epoch in range(20):
        sampler.set_epoch(epoch)
        (batch,) = epoch_of(sampler)
        assert sorted(trials.stimulus_ids[batch[0][1]]) == list(range(6))


def test_without_replacement_pairs_images_at_random():
    trials = make_trials(np.arange(40), 40)
    sampler = WithoutReplacement([trials], batch_size=8, trials_per_session=40, seed=0)
    together = np.zeros((40, 40))
    for epoch in range(1000):
        sampler.set_epoch(epoch)
        for batch in sampler:
            together[np.ix_(batch[0][1], batch[0][1])] += 1
    off_diagonal = together[~np.eye(40, dtype=bool)]
    assert (np.diag(together) == 1000).all()
    expected = 1000 * 7 / 39
    assert np.abs(off_diagonal - expected).max() < 6 * np.sqrt(expected)


def test_resampled_sessions_are_drawn_with_replacement_and_stay_together():
    trials = make_trials(np.arange(2000), per_session=100)  # every image once, 20 sessions
    sampler = ResampledSessions([trials], batch_size=10, trials_per_session=100, seed=0)
    taken = np.array([batch[0][1] for batch in sampler])
    counts = Counter(taken.ravel().tolist())
    assert len(counts) < 0.8 * len(trials)  # an epoch leaves trials out
    assert max(counts.values()) > 1
    sessions_of_a_batch = np.array([len(set(batch // 100)) for batch in taken])
    assert sessions_of_a_batch.mean() < 5  # drawn from everywhere, ten trials would come from eight
    seen = np.zeros(20)
    for epoch in range(200):
        sampler.set_epoch(epoch)
        seen += np.bincount(np.concatenate([batch[0][1] for batch in sampler]) // 100, minlength=20)
    np.testing.assert_allclose(seen / seen.sum(), 1 / 20, rtol=0.3)


def test_buffer_draws_as_a_naive_one_does():
    """The stream's delay is that of a buffer from which each item leaves with probability 1 / size a step."""
    trials = make_trials(np.arange(50_000), per_session=50_000)
    sampler = ResampledSessions([trials], batch_size=1, trials_per_session=750, seed=0)
    sampler.num_iterations = 20_000
    left = np.array([batch[0][1][0] for batch in sampler])
    delay = np.arange(len(left)) - left  # negative while a later item leaves before its turn
    assert len(set(left.tolist())) == len(left)
    assert delay.min() >= -750
    assert delay[5000:].mean() == pytest.approx(0, abs=60)
    assert delay[5000:].std() == pytest.approx(750, rel=0.1)


def test_too_few_images(sampler_class):
    trials = [make_trials(np.repeat(np.arange(5), 6), 30, subject=7), make_trials(np.arange(30), 30, subject=8)]
    wanted = r"subject 7 has too few distinct .*got: 5; expected: at least 6.*at most 10"
    with pytest.raises(UserError, match=wanted):
        sampler_class(trials, batch_size=12, trials_per_session=30, seed=0)


def test_published_rule_stops_if_batches_are_rarely_distinct():
    trials = make_trials(np.repeat(np.arange(20), 3), 60)
    sampler = ResampledSessions([trials], batch_size=20, trials_per_session=60, seed=0)
    with pytest.raises(UserError, match=r"sampling=published: hardly a batch of subject 1 .*Fix: fidelity\.sampling"):
        list(sampler)


@pytest.mark.parametrize("rule", ["published", "corrected"])
def test_an_epoch_of_a_fraction_of_a_session_is_shorter(rule):
    sampler_class = SAMPLERS[rule]
    trials = [nsd_like(1, 1, 96).select(np.arange(40))]  # half of the session's trials
    sampler = sampler_class(trials, batch_size=8, trials_per_session=96, seed=0, num_sessions=0.5)
    assert len(epoch_of(sampler)) == 6
    whole = sampler_class(trials, batch_size=8, trials_per_session=96, seed=0)
    assert len(whole) == 12


def ranks_of(rule, trials, world_size: int, epoch: int = 0, **settings):
    samplers = [SAMPLERS[rule](trials, rank=rank, world_size=world_size, **settings) for rank in range(world_size)]
    for sampler in samplers:
        sampler.set_epoch(epoch)
    return samplers


@pytest.mark.parametrize("world_size", [2, 3, 4])
def test_the_corrected_shards_are_disjoint_and_complete(world_size):
    trials = [make_trials(np.arange(48), 24, 1), make_trials(np.arange(48), 24, 2)]
    for epoch in range(3):
        ranks = ranks_of("corrected", trials, world_size, epoch, batch_size=4, trials_per_session=48, seed=0)
        for place in range(2):
            shards = [{int(trial) for batch in rank for trial in batch[place][1]} for rank in ranks]
            assert sum(map(len, shards)) == 48, "no trial on two ranks"
            assert set().union(*shards) == set(range(48)), "and none on no rank"


def test_the_published_ranks_draw_streams_of_their_own():
    """Sessions are drawn with replacement by each rank for itself: trials may fall to two ranks, or to none."""
    trials = [make_trials(np.arange(480), 60, 1)]
    ranks = ranks_of("published", trials, 2, batch_size=8, trials_per_session=60, seed=0)
    shards = [np.array([batch[0][1] for batch in rank]) for rank in ranks]
    assert shards[0].shape == shards[1].shape == (30, 8), "an epoch of one rank is half of what one process would do"
    assert not (shards[0] == shards[1]).all(axis=1).any(), "no batch comes on both"
    taken = [set(shard.ravel().tolist()) for shard in shards]
    assert taken[0] & taken[1]
    assert len(taken[0] | taken[1]) < 480
    for seed in range(5):  # neither stream tells of the other: one rank's draws do not depend on how many there are
        alone, beside = (
            list(ranks_of("published", trials, world_size, batch_size=8, trials_per_session=60, seed=seed)[0])
            for world_size in (2, 3)
        )
        for batch, other in zip(alone, beside, strict=False):
            np.testing.assert_array_equal(batch[0][1], other[0][1])


def by_image(trials, rank: int = 0, world_size: int = 1, **settings) -> ByImage:
    (sampler,) = ranks_of("by_image", trials, world_size, **settings)[rank : rank + 1]
    return sampler


def test_by_image_has_as_many_steps_per_epoch_as_mindeye1():
    trials = [make_trials(np.repeat(np.arange(8859), 3), 750)]
    for world_size, steps in ((1, 276), (2, 138)):
        assert len(by_image(trials, world_size=world_size, batch_size=32, trials_per_session=750, seed=0)) == steps


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 3), st.integers(1, 6), st.integers(1, 3), st.integers(0, 99))
def test_by_image_takes_each_image_once_and_one_slot_per_step(num_sessions, share, world_size, seed):
    trials = nsd_like(1, num_sessions, 40)
    images, counts = np.unique(trials.stimulus_ids, return_counts=True)
    assert len(set(counts)) > 1
    assume(share * world_size <= len(images))
    ranks = ranks_of("by_image", [trials], world_size, epoch=seed, batch_size=share, trials_per_session=40, seed=seed)
    shown = []
    for sampler in ranks:
        for step, batch in enumerate(sampler):
            for trial in batch[0][1]:
                repetitions = np.flatnonzero(trials.stimulus_ids == trials.stimulus_ids[trial])
                assert trial == repetitions[(step % 3) % len(repetitions)]
                shown.append(int(trials.stimulus_ids[trial]))
    assert len(set(shown)) == len(shown), "no image twice, on one rank or on two"
    assert len(shown) == len(images) // world_size // share * share * world_size


def test_by_image_shuffles_and_brings_every_trial_in_time():
    trials = [make_trials(np.repeat(np.arange(30), 3), 30)]
    sampler, epochs = by_image(trials, batch_size=10, trials_per_session=30, seed=0), []
    for epoch in range(60):
        sampler.set_epoch(epoch)
        epochs.append([batch[0][1].tolist() for batch in sampler])
    assert len({str(epoch) for epoch in epochs}) == 60
    counts = Counter(trial for epoch in epochs for batch in epoch for trial in batch)
    assert set(counts) == set(range(90))
    assert abs(np.mean(list(counts.values())) - 20) < 1e-9
    assert max(counts.values()) < 45  # binomial of 60 draws with chance 1/3: mean 20, standard deviation 3.7
