"""What may be wrong with an installation: every part is tried, none can take the others down."""

from __future__ import annotations

import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Literal

from posecli.plugins import Plugin, catalog

REQUIRED = {  # import name -> distribution
    "numpy": "numpy",
    "torch": "torch",
    "torchvision": "torchvision",
    "cv2": "opencv-python",
    "pycocotools.mask": "pycocotools",
    "scipy": "scipy",
    "safetensors": "safetensors",
    "yaml": "PyYAML",
    "pydantic": "pydantic",
    "pluggy": "pluggy",
    "typer": "typer",
    "rich": "rich",
    "tqdm": "tqdm",
}
OPTIONAL = {"simplejpeg": "simplejpeg", "timm": "timm", "h5py": "h5py"}
EXTRAS = {"simplejpeg": "fast", "timm": "timm", "h5py": "hdf5"}
TIME_LIMIT = 120  # seconds an import may take
SMALL_DISK = 1 << 30  # bytes

Status = Literal["ok", "missing", "warning", "broken"]


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at."""

    name: str
    status: Status  # missing: optional and not there
    detail: str
    advice: str = ""  # what to do, for warnings and what is broken


def examine() -> Iterator[Finding]:
    """All findings, one after the other; imports are tried in processes of their own."""
    yield Finding("python", "ok", f"{platform.python_version()} at {sys.executable}")
    for module, distribution in REQUIRED.items():
        yield try_import(module, distribution)
    for module, distribution in OPTIONAL.items():
        yield try_import(module, distribution, EXTRAS[module])
    yield from guarded("devices", _devices)
    yield from guarded("plugins", _plugins)
    for label, folder in (("current folder", Path.cwd()), ("temporary folder", Path(tempfile.gettempdir()))):
        yield from guarded(label, partial(folder_finding, label, folder))


def guarded(name: str, look: Callable[[], Iterator[Finding]]) -> Iterator[Finding]:
    """The findings of one look, which may itself fail."""
    try:
        yield from look()
    except Exception as error:
        yield Finding(name, "broken", f"{type(error).__name__}: {error}", "report this with the line above")


def try_import(module: str, distribution: str, extra: str | None = None) -> Finding:
    """Import a module in a process of its own, which may crash. With `extra` it need not be installed."""
    name = distribution
    try:
        installed = version(distribution)
    except PackageNotFoundError:
        if extra is not None:
            return Finding(name, "missing", "not installed", f"pip install 'posecli[{extra}]' if you want it")
        installed = ""
    done = run_python(f"import {module}")
    if done.returncode == 0:
        return Finding(name, "ok", installed or "version unknown")
    reason = _last_line(done.stderr) or f"the interpreter ended with code {done.returncode}"
    return Finding(name, "broken", f"{installed}: {reason}".removeprefix(": "), _import_advice(reason, distribution))


def run_python(code: str) -> subprocess.CompletedProcess[str]:
    """Run code in a fresh interpreter; one that does not come back in time counts as failed."""
    try:
        return subprocess.run(
            [sys.executable, "-c", code],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=TIME_LIMIT,
        )
    except subprocess.TimeoutExpired:
        return subprocess.CompletedProcess([], 1, "", f"no answer within {TIME_LIMIT} s")


def _import_advice(reason: str, distribution: str) -> str:
    if "libGL" in reason or "libgthread" in reason:
        return "OpenCV misses a system library: apt install libgl1 libglib2.0-0, or pip install opencv-python-headless"
    if distribution == "torchvision":
        return "torch and torchvision must match: pip install --upgrade --force-reinstall torch torchvision"
    return f"pip install --upgrade --force-reinstall {distribution}"


def _last_line(text: str) -> str:
    return next((line.strip() for line in reversed(text.splitlines()) if line.strip()), "")


_DEVICE_SCRIPT = """
import json, torch
from posecli.devices import has_bf16
cuda = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())] if torch.cuda.is_available() else []
mps = torch.backends.mps.is_available()
capability = torch.backends.cpu.get_cpu_capability()
print(json.dumps({
    "cuda": cuda, "mps": mps, "threads": torch.get_num_threads(), "capability": capability,
    "bf16": has_bf16(torch.device("cuda" if cuda else "cpu")),
    "built": torch.version.cuda or "",
}))
"""


def _devices() -> Iterator[Finding]:
    done = run_python(_DEVICE_SCRIPT)
    if done.returncode != 0:
        yield Finding("devices", "broken", _last_line(done.stderr), "mend torch first")
        return
    found = json.loads(done.stdout.splitlines()[-1])
    yield Finding("cpu", "ok", f"{found['threads']} threads of {os.cpu_count()}, {found['capability']}")
    if found["cuda"]:
        yield Finding("gpu", "ok", ", ".join(found["cuda"]))
    elif found["mps"]:
        yield Finding("gpu", "ok", "Apple Metal (mps)")
    elif found["built"] and shutil.which("nvidia-smi"):
        yield Finding(
            "gpu", "warning", f"torch is built for CUDA {found['built']} and sees no GPU", "compare nvidia-smi's driver"
        )
    else:
        yield Finding("gpu", "missing", "none; the CPU is used")
    device = "GPU" if found["cuda"] else "CPU"
    state = "in hardware" if found["bf16"] else "not in hardware: train.precision=bf16 would not be faster"
    yield Finding("bf16", "ok" if found["bf16"] else "missing", f"{device}: {state}")


def _plugins() -> Iterator[Finding]:
    for plugin in catalog().plugins:
        yield plugin_finding(plugin)


def plugin_finding(plugin: Plugin) -> Finding:
    """What is to be said of a plugin."""
    name = f"plugin {plugin.name}"
    if plugin.status == "ok":
        return Finding(name, "ok", f"{plugin.distribution} {plugin.version}")
    if plugin.status == "blocked":
        return Finding(name, "missing", plugin.error)
    advice = f"update or remove it: pip install --upgrade {plugin.distribution}; pip uninstall {plugin.distribution}"
    return Finding(name, "broken", plugin.error, advice)


def folder_finding(label: str, folder: Path) -> Iterator[Finding]:
    """Whether a folder can be written to, and how much room there is."""
    free = shutil.disk_usage(folder).free
    detail = f"{folder}, {free / (1 << 30):.1f} GiB free"
    try:
        with tempfile.TemporaryFile(dir=folder) as stream:
            stream.write(b"x")
    except OSError as error:
        yield Finding(label, "broken", f"{folder}: {error.strerror}", "work in a folder you may write to, or use --out")
        return
    if free < SMALL_DISK:
        yield Finding(label, "warning", detail, "free some space before training: a run takes up to 1 GiB")
    else:
        yield Finding(label, "ok", detail)


def report(findings: list[Finding]) -> dict[str, object]:
    """The findings as one JSON object."""
    return {"ok": not faults(findings), "findings": [asdict(finding) for finding in findings]}


def faults(findings: list[Finding]) -> list[Finding]:
    """What is broken."""
    return [finding for finding in findings if finding.status == "broken"]
