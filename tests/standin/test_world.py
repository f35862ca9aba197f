"""Numbers that cross the protocol: rounded so that cells agree, and put back to the engine's precision."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from smix_pz.standin.world import restored, shown

places = st.floats(0.0, 31.999999, allow_nan=False)


@given(st.lists(places, min_size=1, max_size=5))
def test_shown_places_are_in_the_same_cell(values):
    exact = np.array(values)
    seen = shown(exact)
    assert seen.dtype == np.float32
    assert (seen <= exact).all() and (exact - seen < 2e-6).all()
    for shift in (0.0, 0.5, 1.0, -1.0):  # the probes of SMAC's masks, computed in double precision
        assert (np.floor(seen.astype(float) + shift) == np.floor(exact + shift)).all()


def test_shown_where_rounding_to_the_nearest_would_enter_the_next_cell():
    exact = np.array([np.nextafter(24.0, 0.0), 24.0])
    assert exact.astype(np.float32).tolist() == [24.0, 24.0]
    assert (np.floor(shown(exact)) == [23, 24]).all()


@given(exact=places, offset=st.decimals(-4, 4, places=2).map(float))
def test_a_point_relative_to_a_unit_is_restored_exactly(exact, offset):
    """The client computes in double precision from what it saw, and sends a 32-bit float."""
    seen = float(shown(np.array([exact]))[0])
    point = float(np.float32(seen + offset))
    # Another short offset may explain the same float only if it is within its rounding.
    assert restored(point, seen, exact) == pytest.approx(exact + offset, abs=1e-12)


@given(point=st.floats(0, 32, width=32), exact=places)
def test_any_point_is_restored_within_rounding(point, exact):
    seen = float(shown(np.array([exact]))[0])
    assert restored(point, seen, exact) == pytest.approx(point, abs=4e-6)


def test_a_point_that_is_not_relative_is_left_alone():
    assert restored(float(np.float32(9.123456)), 3.25, 3.2500001) == float(np.float32(9.123456))
