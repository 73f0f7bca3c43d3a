"""Exit codes: 0 fine, 1 faults found or a run failed, 2 wrong input, 130 stopped by the user; errors in one line."""

from __future__ import annotations

import errno
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

Posecli = Callable[..., subprocess.CompletedProcess[str]]
Install = Callable[..., None]

COMMAND = """
import typer
from posecli import hookimpl
from posecli.console import PosecliError, RunFailed, show

@hookimpl
def posecli_commands(app):
    @app.command()
    def trouble() -> None:
        {body}
"""
TROUBLES = [
    # body of a command, exit code, last line of standard error, note
    ("show('fine')", 0, "", "nothing wrong"),
    ("raise PosecliError('no file x:\\n give another')", 2, "error: no file x: give another", "wrong input, one line"),
    ("raise RunFailed('disk full')", 1, "error: disk full", "a failed run"),
    (
        "raise type('OutOfMemoryError', (RuntimeError,), {})('CUDA out of memory. Tried to allocate 2.50 GiB. GPU 0')",
        1,
        "error: the GPU has too little memory left for another 2.50 GiB: train in smaller batches by "
        "--set train.batch_size=N, predict by --batch-size N, or choose another --device",
        "a GPU that is too small",
    ),
    ("raise typer.Exit(1)", 1, "", "faults found"),
    (
        "1 / 0",
        1,
        "error: ZeroDivisionError: division by zero (run with --debug before the command for the traceback)",
        "a bug",
    ),
    ("raise KeyboardInterrupt", 130, "stopped", "Ctrl-C"),
    ("raise typer.Abort", 130, "stopped", "Ctrl-C at a question"),
    ("open('/no/such')", 2, "error: /no/such: No such file or directory", "a file that is not there"),
    (f"raise OSError({errno.ENOSPC}, 'No space left on device')", 1, "No space left on device", "a full disk"),
    ("raise SystemExit(0)", 0, "", "an early end"),
]


@pytest.mark.parametrize(("body", "code", "line", "note"), TROUBLES, ids=[row[3] for row in TROUBLES])
def test_exit_codes(
    posecli: Posecli, install: Install, tmp_path: Path, body: str, code: int, line: str, note: str
) -> None:
    install(tmp_path / "site", "trouble", COMMAND.format(body=body))
    done = posecli("trouble", path=tmp_path / "site")
    assert done.returncode == code, done.stderr
    assert line in done.stderr
    assert len(done.stderr.splitlines()) == (1 if line else 0), done.stderr


def test_debug_shows_the_traceback_and_keeps_the_code(posecli: Posecli, install: Install, tmp_path: Path) -> None:
    install(tmp_path / "site", "trouble", COMMAND.format(body="raise PosecliError('no')"))
    done = posecli("--debug", "trouble", path=tmp_path / "site")
    assert done.returncode == 2
    assert "Traceback" in done.stderr
    assert done.stderr.endswith("error: no\n")


USAGE = [
    (["no-such"], "error: No such command 'no-such'"),
    (["trian"], "did you mean 'train'?"),
    (["list", "modles"], "'modles' is not one of"),
    (["list"], "error: Missing argument"),
    (["plugins", "--jsn"], "error: No such option: --jsn"),
]


@pytest.mark.parametrize(("arguments", "line"), USAGE)
def test_wrong_usage_is_one_line(posecli: Posecli, arguments: list[str], line: str) -> None:
    done = posecli(*arguments)
    assert done.returncode == 2
    assert line.lower() in done.stderr.lower()
    assert len(done.stderr.splitlines()) == 1, done.stderr
    assert "--help" in done.stderr


def test_without_a_command_the_help_is_shown(posecli: Posecli) -> None:
    done = posecli()
    assert done.returncode == 2
    assert "Commands:" in done.stdout


def test_version(posecli: Posecli) -> None:
    from posecli import __version__

    assert posecli("--version").stdout == f"posecli {__version__}\n"


def test_interrupt_in_the_middle_of_a_command(install: Install, tmp_path: Path) -> None:
    body = "show('ready'); import time; time.sleep(60)"
    install(tmp_path / "site", "trouble", COMMAND.format(body=body))
    command, environment = [sys.executable, "-m", "posecli", "trouble"], {"PYTHONPATH": str(tmp_path / "site")}
    pipe = subprocess.PIPE
    with subprocess.Popen(command, env=environment, stdout=pipe, stderr=pipe, text=True) as running:
        assert running.stdout is not None
        assert running.stdout.readline() == "ready\n"
        running.send_signal(signal.SIGINT)
        _, errors = running.communicate(timeout=30)
    assert (running.returncode, errors) == (130, "stopped\n")


@pytest.mark.parametrize("arguments", ["list configs", "config show topdown", "plugins --json"])
def test_a_reader_who_leaves_is_no_error(arguments: str) -> None:
    command = f"exec {sys.executable} -m posecli {arguments}"
    with subprocess.Popen(command, shell=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as running:
        assert running.stdout is not None
        assert running.stderr is not None
        running.stdout.close()
        errors = running.stderr.read()
    assert (running.returncode, errors) == (0, "")
