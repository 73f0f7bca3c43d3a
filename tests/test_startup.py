"""What is asked often starts quickly: no torch, no numpy, no OpenCV before they are needed."""

from __future__ import annotations

import subprocess
import sys

import pytest

HEAVY = ("torch", "torchvision", "numpy", "cv2", "scipy", "pycocotools")
LIGHT_COMMANDS = [
    "--help",
    "--version",
    "plugins",
    "plugins --json",
    "list models",
    "list backbones --fields",
    "list configs",
    "config show topdown",
    "config check topdown",
    "train --help",
    "eval --help",
    "infer --help",
    "convert --help",
    "info --help",
    "doctor --help",
    "data --help",
    "import --help",
    "plugins new --help",
]
CODE = f"""
import sys
sys.argv = ["posecli", *sys.argv[1:]]
from posecli.cli import main
try:
    main()
except SystemExit as leaving:
    code = leaving.code
print(code, *sorted(set({HEAVY}) & set(sys.modules)), file=sys.stderr)
"""


@pytest.mark.parametrize("arguments", LIGHT_COMMANDS)
def test_nothing_heavy_is_imported(arguments: str) -> None:
    done = subprocess.run([sys.executable, "-c", CODE, *arguments.split()], capture_output=True, text=True)
    assert done.stderr.splitlines()[-1] == "0", done.stderr


def test_every_command_module_is_light() -> None:
    code = f"import sys, posecli.cli as c; c.add_commands(c.app); print(*set({HEAVY}) & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stdout.strip()) == (0, ""), done.stderr
