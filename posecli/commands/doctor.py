"""`posecli doctor`: is everything posecli stands on there and working?"""

from __future__ import annotations

from typing import Annotated

import typer

from posecli import console


def add(app: typer.Typer) -> None:
    """Register `doctor`."""
    app.command()(doctor)


def doctor(
    json: Annotated[bool, typer.Option("--json", help="One JSON object on standard output.")] = False,
) -> None:
    """Check the installation, and advise on its faults.

    Every part is tried in a process of its own. Exit code 1 when something is broken.
    """
    from posecli.doctor import examine, faults, report

    findings = list(examine())
    if json:
        console.show_json(report(findings))
    else:
        console.table(
            ["part", "status", "found"], [[finding.name, finding.status, finding.detail] for finding in findings]
        )
        for finding in findings:
            if finding.advice and finding.status in ("broken", "warning"):
                console.show(f"{finding.name}: {finding.advice}")
    if faults(findings):
        raise typer.Exit(console.FAULTS_FOUND)
