"""Boards in the model."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.pi_box import PiBoard
from tests.support.uboot_board import UbootBoard


@pytest.fixture
def pi(tmp_path: Path) -> PiBoard:
    return PiBoard(tmp_path)


@pytest.fixture
def uboot(tmp_path: Path) -> UbootBoard:
    return UbootBoard(tmp_path)
