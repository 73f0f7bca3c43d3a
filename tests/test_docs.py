"""What can be used is documented: in README.md or under docs/."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import typer

from posecli import cli, hookspecs
from posecli.plugins import catalog, command_names


@pytest.fixture(scope="module")
def text(project: Path) -> str:
    """README and all of docs/."""
    return "\n".join(path.read_text(encoding="utf-8") for path in [project / "README.md", *_pages(project)])


def _pages(project: Path) -> list[Path]:
    return sorted((project / "docs").rglob("*.md"))


def check(text: str, names: list[str], pattern: str) -> None:
    """Fail with the names for which the pattern, with {} for the name, is nowhere in the text."""
    assert names
    lost = [name for name in names if not re.search(pattern.format(re.escape(name)), text)]
    if lost:
        pytest.fail(f"not documented as {pattern}: {', '.join(lost)}", pytrace=False)


def commands() -> list[str]:
    """`train`, `config show` and so on."""
    app = typer.Typer()
    cli.add_commands(app)
    names = []
    for group in app.registered_groups:
        assert group.typer_instance is not None
        names += [f"{group.name} {name}" for name in command_names(group.typer_instance)]
    visible = typer.Typer()
    visible.registered_commands = [command for command in app.registered_commands if not command.hidden]
    return names + command_names(visible)


def test_hooks_are_documented(text: str) -> None:
    hooks = [name for name in vars(hookspecs) if name.startswith("posecli_")]
    check(text, hooks, r"\b{}\(")


def test_commands_are_documented(text: str) -> None:
    check(text, commands(), r"posecli {}\b")


@pytest.mark.parametrize("kind", ["model", "backbone", "dataset", "metric", "writer"])
def test_components_are_documented(text: str, kind: str) -> None:
    house = [plugin.name for plugin in catalog().plugins if plugin.distribution == "posecli"]
    names = [name for name in catalog().components[kind] if catalog().owners[kind, name] in house]
    check(text, names, r"(?<![\w.-]){}(?![\w-])")


def test_environment_variables_are_documented(project: Path, text: str) -> None:
    code = "".join(path.read_text(encoding="utf-8") for path in (project / "posecli").rglob("*.py"))
    variables = sorted(set(re.findall(r"\"(POSECLI_[A-Z_]+)\"", code)))
    check(text, variables, r"\b{}\b")


def test_architecture_names_every_module(project: Path) -> None:
    """Each module below posecli/ and plugins/ by its name, but for those of the commands, which bear theirs."""
    page = (project / "docs" / "architecture.md").read_text(encoding="utf-8")
    files = [*(project / "posecli").rglob("*.py"), *(project / "plugins").rglob("*.py")]
    files = [path for path in files if path.parent.name != "commands"]
    names = {path.stem if path.stem != "__init__" else path.parent.name for path in files}
    check(page, sorted(names - {"__main__"}), r"\b{}\b")


def test_links_lead_somewhere(project: Path) -> None:
    for page in [project / "README.md", *_pages(project)]:
        for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8")):
            assert re.match(r"https?:", target) or (page.parent / target).exists(), f"{page.name} links to {target}"
