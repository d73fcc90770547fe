"""Fixtures of the checkpoint tests."""

from __future__ import annotations

from helpers.small.fixtures import checkpoint as checkpoint
from helpers.small.fixtures import exact_and_single_threaded as exact_and_single_threaded
from helpers.small.fixtures import small as small
