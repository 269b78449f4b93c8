"""Every test runs where the device is. Importing it comes before any backward pass of this process."""

import pytest

from .device import rehearsal


@pytest.fixture(autouse=True)
def on_the_device():
    with rehearsal():
        yield
