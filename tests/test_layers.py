"""Imports go downward only; plugins stand on the lower levels and never see each other; one module prints."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

# modules of posecli by level; a package stands for all its modules. A module imports from its own level and below.
LEVELS = [
    "types skeleton geometry camera",
    "config hookspecs plugins console files memory augmentation summary mapping nn.config datasets.config "
    "metrics.config",
    "nn codecs losses images transforms batch algorithm units drawing drawing3d suppression measures smoothing "
    "tracking guess",
    "datasets metrics results checkpoint data interop scoring builtin testing distributed devices graphs stopping "
    "sharing throughput",
    "training trained optimization runs report inference exports predictor films lifting sources detection overlays "
    "evaluation conversion datacheck datashow autoconfig benchmark doctor scaffold",
    "commands cli __main__",
]
PLUGIN_LEVEL = 3  # plugins see this level and below, and `testing`
CONFIG_MODULES = ("config", "augmentation", "nn.config", "datasets.config", "metrics.config", "builtin", "hookspecs")
ROOT = ""  # posecli itself: its version, `hookimpl` and `load`


def modules(folder: Path) -> dict[str, Path]:
    """Names below the package, such as `nn.heads`, and their files."""
    found = {}
    for path in sorted(folder.rglob("*.py")):
        parts = path.relative_to(folder).with_suffix("").parts
        found[".".join(part for part in parts if part != "__init__")] = path
    return found


def level(module: str) -> int | None:
    """The level of a module: that of its longest prefix in the table."""
    table = {name: number for number, names in enumerate(LEVELS) for name in names.split()}
    parts = module.split(".")
    prefixes = (".".join(parts[:length]) for length in range(len(parts), 0, -1))
    return next((table[prefix] for prefix in prefixes if prefix in table), None)


def imports(path: Path, known: dict[str, Path], package: str = "posecli") -> Iterator[tuple[str, int]]:
    """The modules of a package that a file imports, anywhere but for type checking, with the line."""
    for node in _executed(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        else:
            continue
        for name in names:
            if name == package or name.startswith(f"{package}."):
                below = name.removeprefix(package).removeprefix(".")
                # `from posecli.nn import heads` names a module, `from posecli.types import People` does not
                yield (below if below in known else below.rpartition(".")[0]), node.lineno


def _executed(tree: ast.AST) -> Iterator[ast.AST]:
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            continue
        yield node
        yield from _executed(node)


@pytest.fixture(scope="module")
def house(project: Path) -> dict[str, Path]:
    return modules(project / "posecli")


def test_every_module_has_a_level(house: dict[str, Path]) -> None:
    lost = [module for module in house if module != ROOT and level(module) is None]
    assert not lost, f"give these a level in LEVELS: {', '.join(lost)}"


def test_the_table_names_modules_only(house: dict[str, Path]) -> None:
    gone = [name for names in LEVELS for name in names.split() if name not in house]
    assert not gone, f"LEVELS names what is not there: {', '.join(gone)}"


def test_imports_go_downward(house: dict[str, Path]) -> None:
    """Also those inside functions, but for the composition roots: a config's `build` imports what it builds."""
    upward = [
        f"{path.name}:{line}: {module} (level {level(module)}) imports {target} (level {level(target)})"
        for module, path in house.items()
        for target, line in imports(path, house)
        if module != ROOT and target != ROOT and (level(target) or 0) > (level(module) or 0)
        if not (module.endswith(".config") and target.startswith(module.removesuffix("config")))
    ]
    assert not upward, "\n" + "\n".join(upward)


def test_architecture_gives_the_same_levels(project: Path) -> None:
    """The table in docs/architecture.md: a row a level, modules in backticks."""
    text = (project / "docs" / "architecture.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (\d) \| ([^|]*) \|", text, flags=re.MULTILINE)
    assert [int(number) for number, _ in rows] == list(range(len(LEVELS)))
    for number, cell in rows:
        for module in re.findall(r"`([\w.]+)`", cell):
            assert level(module) == int(number), module


def test_plugins_see_the_lower_levels_only(project: Path, house: dict[str, Path]) -> None:
    plugins = sorted(folder for folder in (project / "plugins").iterdir() if (folder / "__init__.py").is_file())
    assert plugins
    faults = []
    for folder in plugins:
        others = [other.name for other in plugins if other != folder]
        for module, path in modules(folder).items():
            for target, line in imports(path, house):
                if target not in (ROOT, "testing") and (level(target) or 0) > PLUGIN_LEVEL:
                    faults.append(f"{folder.name}/{module}:{line} imports posecli.{target}, level {level(target)}")
            for other in others:
                faults += [f"{folder.name}/{module}:{line} imports {other}" for _, line in imports(path, {}, other)]
    assert not faults, "\n" + "\n".join(faults)


def test_the_house_knows_no_plugin(project: Path, house: dict[str, Path]) -> None:
    plugins = [folder.name for folder in (project / "plugins").iterdir() if (folder / "__init__.py").is_file()]
    faults = [
        f"{module}:{line} imports {plugin}"
        for module, path in house.items()
        for plugin in plugins
        for _, line in imports(path, {}, plugin)
    ]
    assert not faults, "\n" + "\n".join(faults)


def test_only_the_console_prints(project: Path, house: dict[str, Path]) -> None:
    files = {f"posecli.{module}": path for module, path in house.items() if module != "console"}
    for folder in (project / "plugins").iterdir():
        files |= {f"{folder.name}.{module}": path for module, path in modules(folder).items()}
    printing = [
        f"{module}:{node.lineno}"
        for module, path in files.items()
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call) and ast.unparse(node.func) in ("print", "sys.stdout.write", "typer.echo")
    ]
    assert not printing, "print through posecli.console: " + ", ".join(printing)


def test_config_modules_import_values_for_type_checking_only(project: Path, house: dict[str, Path]) -> None:
    """They are imported by every command."""
    files = [house[module] for module in CONFIG_MODULES] + list((project / "plugins").glob("*/config.py"))
    for path in files:
        body = ast.parse(path.read_text(encoding="utf-8")).body
        names = {alias.name for node in body if isinstance(node, ast.Import) for alias in node.names}
        names |= {node.module or "" for node in body if isinstance(node, ast.ImportFrom)}
        assert not {name.split(".")[0] for name in names} & {"torch", "numpy", "cv2", "torchvision"}, path
        assert not names & {"posecli.types", "posecli.skeleton", "posecli.geometry"}, path
