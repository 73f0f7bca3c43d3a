"""What every test may ask for."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

PROJECT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def project() -> Path:
    """The project's root folder."""
    return PROJECT


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder with reference numbers and real data; the test is skipped where it is absent."""
    folder = Path(os.environ.get("POSECLI_SHARED", PROJECT.parent / "shared"))
    if not folder.is_dir():
        pytest.skip(f"needs the shared data folder, looked for at {folder} (set POSECLI_SHARED)")
    return folder


@pytest.fixture(scope="session")
def golden(shared: Path) -> Path:
    """The folder with the reference's numbers."""
    return shared / "reference" / "golden"
