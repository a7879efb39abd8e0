"""Systems that tests of several folders share: the same tests run in both wirings."""

from __future__ import annotations

import pytest
from systems import WIRINGS, start_system


@pytest.fixture(scope="session", params=WIRINGS)
def system(request):
    """One system for each wiring, which accepts scripted answers; every user boots it anew."""
    with start_system(request.param, allow_inject=True) as started:
        yield started
