"""Service processes that end with the test that started them."""

from __future__ import annotations

import pytest
from service_process import Service


@pytest.fixture
def start(tmp_path):
    started = []

    def begin(*arguments, **options):
        started.append(Service(tmp_path, *arguments, **options))
        return started[-1]

    yield begin
    for service in reversed(started):
        service.close()
