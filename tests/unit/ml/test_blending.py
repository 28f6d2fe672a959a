"""Forecasts are averaged as signed roots: by hand."""

import numpy as np
import pytest

from app.services.ml.blending import blended
from app.services.ml.roots import from_roots, to_roots


def test_the_blend_is_the_square_of_the_mean_root():
    # Roots 1, 2 and 5, 0 with weights 3/4 and 1/4: (3/4 + 5/4)^2 = 4 and (6/4)^2 = 2.25.
    forecasts = np.array([[1.0, 4.0], [25.0, 0.0]])

    np.testing.assert_allclose(blended(np.array([0.75, 0.25]), forecasts), [4.0, 2.25])


def test_refunds_keep_their_sign():
    # Roots -3 and 1, half each: -1.
    np.testing.assert_allclose(blended(np.array([0.5, 0.5]), np.array([[-9.0], [1.0]])), [-1.0])


def test_a_member_alone_is_itself_to_the_last_bit():
    forecast = np.random.default_rng(1).lognormal(3, 1, 100)

    np.testing.assert_array_equal(blended(np.array([1.0]), forecast[None, :]), forecast)


@pytest.mark.parametrize("scale", [1e-9, 1.0, 1e15])
def test_a_blend_lies_between_its_members_at_any_scale(scale):
    random = np.random.default_rng(2)
    members, weights = scale * random.normal(0, 1, (4, 50)), random.dirichlet(np.ones(4))

    blend = blended(weights, members)

    assert (blend <= members.max(axis=0)).all()
    assert (blend >= members.min(axis=0)).all()


def test_roots_lead_back():
    values = np.array([-4.0, 0.0, 2.25])

    assert to_roots(values).tolist() == [-2.0, 0.0, 1.5]
    assert from_roots(to_roots(values)).tolist() == values.tolist()
