"""What every test may ask for."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:  # started in the background: commands under test must hear Ctrl-C
    signal.signal(signal.SIGINT, signal.default_int_handler)

# the tests run side by side, a process a core: threads that wait for each other would only slow them down
os.environ.setdefault("OMP_NUM_THREADS", "1")

PROJECT = Path(__file__).resolve().parents[1]


@pytest.fixture(autouse=True)
def on_the_cpu(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Tests see no GPU, here and in the processes they start, unless their name says that they are about one."""
    if "gpu" in request.node.nodeid or "cuda" in request.node.nodeid:
        return
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    if "torch" in sys.modules:
        monkeypatch.setattr("torch.cuda.is_available", lambda: False)
        monkeypatch.setattr("torch.cuda.device_count", lambda: 0)


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


@pytest.fixture(scope="session")
def posecli() -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run the command line in a process of its own: `posecli("plugins", path=folder_of_plugins, NAME="value")`."""
    return _posecli


@pytest.fixture(scope="session")
def install() -> Callable[..., None]:
    """Put a stand-in for an installed plugin into a folder: `install(folder, name, code)`."""
    return _install


def _install(folder: Path, name: str, code: str, entry: str | None = None, module: str | None = None) -> None:
    """A distribution `third-NAME` whose entry point `entry` names a module with that code."""
    module = module or f"third_{name}"
    folder.mkdir(exist_ok=True)
    (folder / f"{module}.py").write_text(code, encoding="utf-8")
    metadata = folder / f"third_{name}-1.2.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: third-{name}\nVersion: 1.2\n", encoding="utf-8")
    (metadata / "entry_points.txt").write_text(f"[posecli]\n{entry or name} = {module}\n", encoding="utf-8")


def _posecli(*arguments: str, path: Path | None = None, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run the command line in a process of its own, with a folder of plugins."""
    variables = {name: value for name, value in os.environ.items() if not name.startswith("POSECLI_PLUGINS")}
    variables["PYTHONSAFEPATH"] = "1"  # the installed posecli, wherever the tests are run
    if path is not None:
        variables["PYTHONPATH"] = str(path)
    return subprocess.run(
        [sys.executable, "-m", "posecli", *arguments],
        env=variables | environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=300,
    )
