"""A plugin by somebody else, for real: our wheel, a fresh environment, `plugins new`, install, test, train."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

import pytest

OFFLINE = ["--quiet", "--no-index", "--no-deps", "--no-build-isolation", "--disable-pip-version-check"]
TRAINING = [
    "data.train.count=16",
    "data.val.count=8",
    "data.workers=0",
    "train.epochs=1",
    "train.batch_size=8",
    "model.channels=8",
]


class Environment:
    """A virtual environment that takes from the one the tests run in whatever posecli needs, but not posecli."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        venv.create(folder, with_pip=False)
        self.python = folder / "bin" / "python"
        site = Path(self.run("-c", "import sysconfig; print(sysconfig.get_path('purelib'))").stdout.strip())
        # lower on the path than what is installed here; an editable posecli's own .pth is not followed from there
        (site / "borrowed.pth").write_text(sysconfig.get_path("purelib") + "\n", encoding="utf-8")

    def run(self, *arguments: str | Path, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
        """Run this environment's Python. Fails with its output when the code is not 0."""
        variables = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "POSECLI_"))}
        variables["OMP_NUM_THREADS"] = "1"
        command = [str(self.folder / "bin" / "python"), *map(str, arguments)]
        done = subprocess.run(command, cwd=cwd, env=variables, capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, f"{' '.join(command)}\n{done.stdout}\n{done.stderr}"
        return done

    def install(self, path: Path) -> None:
        """pip install, without network and without dependencies, which are borrowed."""
        self.run("-m", "pip", "install", *OFFLINE, "--ignore-installed", path)


@pytest.fixture(scope="module")
def environment(project: Path, tmp_path_factory: pytest.TempPathFactory) -> Environment:
    """Our wheel in an environment of its own."""
    wheels = tmp_path_factory.mktemp("wheels")
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(wheels)]
    done = subprocess.run(build, cwd=project, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    environment = Environment(tmp_path_factory.mktemp("environment"))
    (wheel,) = wheels.glob("*.whl")
    environment.install(wheel)
    return environment


@pytest.fixture(scope="module")
def plugin(environment: Environment, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the plugin `acme`, written by posecli and installed."""
    folder = tmp_path_factory.mktemp("acme")
    environment.run("-m", "posecli", "plugins", "new", "acme", cwd=folder)
    environment.install(folder / "posecli-acme")
    return folder / "posecli-acme"


def test_the_wheel_holds_all_that_is_needed(environment: Environment, tmp_path: Path) -> None:
    where = environment.run("-c", "import posecli, posecli_topdown; print(posecli.__file__)", cwd=tmp_path).stdout
    assert where.startswith(str(environment.folder)), "another posecli was found"
    configs = environment.run("-m", "posecli", "list", "configs", cwd=tmp_path).stdout
    assert "topdown/default" in configs
    assert str(environment.folder) in configs
    assert "coco" in environment.run("-m", "posecli", "list", "skeletons", cwd=tmp_path).stdout


def test_its_own_tests_pass(environment: Environment, plugin: Path) -> None:
    done = environment.run("-m", "pytest", "-q", "-rs", "-p", "no:cacheprovider", cwd=plugin)
    assert " passed" in done.stdout
    skipped = [line for line in done.stdout.splitlines() if line.startswith("SKIPPED")]
    assert all(line.endswith("no GPU here") for line in skipped), skipped


def test_it_trains(environment: Environment, plugin: Path, tmp_path: Path) -> None:
    settings = [part for setting in TRAINING for part in ("--set", setting)]
    done = environment.run("-m", "posecli", "train", "--algo", "acme", "--device", "cpu", *settings, cwd=tmp_path)
    assert "PCK" in done.stdout + done.stderr
    assert (tmp_path / "runs" / "latest" / "best.safetensors").is_file()
    again = environment.run("-m", "posecli", "eval", "--metric", "pck", "--json", cwd=tmp_path)
    assert '"scores"' in again.stdout
