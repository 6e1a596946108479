"""Two principal components of the ways, against NumPy's singular value decomposition."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from pipelines.trace import trajectories
from pipelines.trace.trajectories import principal_components
from tests.support.known_trace import make_trace


@pytest.mark.parametrize("shape", [(9, 40), (40, 9), (12, 12)])
def test_the_components_are_those_of_numpy(shape: tuple[int, int]) -> None:
    points = np.random.default_rng(1).standard_normal(shape) * np.linspace(3, 0.1, shape[1]) + 5
    found = principal_components(points)
    centred = points - points.mean(0)
    left, sizes, _ = np.linalg.svd(centred, full_matrices=False)
    np.testing.assert_allclose(np.abs(found.points), np.abs(left[:, :2] * sizes[:2]), atol=1e-8)
    np.testing.assert_allclose(found.shares, np.square(sizes[:2]) / np.square(sizes).sum())
    assert (found.points[np.abs(found.points).argmax(0), [0, 1]] > 0).all()


def test_points_that_do_not_differ_lie_in_the_middle() -> None:
    for points in (np.ones((1, 5)), np.ones((4, 5)), np.ones((4, 1))):
        found = principal_components(points)
        assert found.points.shape == (len(points), 2) and not found.points.any() and found.shares == (0.0, 0.0)


def test_a_runs_way_ends_at_its_last_latents() -> None:
    trace = make_trace(num_images=2)
    way = trajectories.of_trace(trace, 1)
    np.testing.assert_array_equal(way.x_t[-1], trace.final[1].ravel())
    np.testing.assert_array_equal(way.x0[2], trace.x0(2)[1].ravel())
    plane, flat = trajectories.plane([way, trajectories.of_trace(trace, 0)])
    assert [one.x_t.shape for one in flat] == [(7, 2), (7, 2)] and flat[0].x0.shape == (6, 2)
    np.testing.assert_array_equal(plane.points[:7], flat[0].x_t)
    np.testing.assert_array_equal(plane.points[20:], flat[1].x0)


def test_a_run_that_did_not_end_is_drawn_to_its_newest_step() -> None:
    trace = replace(make_trace(done=4), final=np.full((1, 3, 4, 4), 1e3, np.float32))  # in the sampler's own scale
    way = trajectories.of_trace(trace, 0)
    assert way.x_t.shape == way.x0.shape == (4, 48) and np.abs(way.x_t).max() < 10
    np.testing.assert_array_equal(way.x_t[-1], trace.variance_preserving(3)[0].ravel())
    thin = trajectories.of_trace(trace, 0, 2)
    np.testing.assert_array_equal(thin.x_t, way.x_t[[0, 2, 3]])  # and where it is now
    assert trajectories.steps_of(make_trace(), 2) == [0, 2, 4]


def test_the_noise_of_each_point_is_known() -> None:
    trace = make_trace()
    noise = trajectories.of_trace(trace, 0).noise
    assert noise == (*(1 - step.alpha_bar for step in trace.steps), 0.0) and noise[0] == 1
    growing = trajectories.of_trace(make_trace(done=3), 0)
    assert growing.noise == noise[:3]
    assert trajectories.plane([growing])[1][0].noise == noise[:3]


def test_of_ways_that_grow_so_many_steps_are_left_out_that_their_plane_is_found_at_once() -> None:
    trace = make_trace()
    whole, thin = trajectories.of_trace(trace, 0), trajectories.of_trace(trace, 0, 4)
    np.testing.assert_array_equal(thin.x_t, whole.x_t[[0, 4, 6]])  # and where it is now
    np.testing.assert_array_equal(thin.x0, whole.x0[[0, 4]])
    assert trajectories.live_stride(6 * 25, 1024) == 1  # a race of pocket's
    for steps, size in ((25, 4 * 128 * 128), (28, 16 * 128 * 128), (20 * 50, 1024)):
        every = trajectories.live_stride(steps, size)
        assert every > 1 and 2 * steps / every <= trajectories.LIVE_POINTS
        assert 2 * steps / every * size <= trajectories.LIVE_NUMBERS
