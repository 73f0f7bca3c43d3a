"""Find, isolate, load and name plugins. One broken plugin is reported and never stops the others."""

from __future__ import annotations

import contextlib
import difflib
import functools
import importlib.metadata
import inspect
import os
import sys
import traceback
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import pluggy

from posecli import hookspecs
from posecli.console import PosecliError, listed, warn

if TYPE_CHECKING:
    import typer

    from posecli.config import Component

GROUP = "posecli"
LISTED = 40  # names in a message, at most
KIND_HOOKS = {
    "model": "posecli_models",
    "backbone": "posecli_backbones",
    "dataset": "posecli_datasets",
    "metric": "posecli_metrics",
    "writer": "posecli_writers",
}


class PluginError(PosecliError):
    """A plugin cannot be loaded, or two of them claim one name."""


@dataclass(frozen=True)
class Plugin:
    """One entry point of the group `posecli` and what became of it."""

    name: str
    value: str  # the module it names
    distribution: str
    version: str
    status: str  # ok | failed | blocked
    error: str = ""  # one line, for plugins that failed or are blocked
    hooks: tuple[str, ...] = ()
    traceback: str = field(default="", repr=False)


@dataclass(frozen=True)
class Catalog:
    """Every plugin found, and every component the loaded ones registered, by kind and name."""

    manager: pluggy.PluginManager
    plugins: tuple[Plugin, ...]
    components: dict[str, dict[str, type[Component]]]  # kind -> name -> config class
    owners: dict[tuple[str, str], str]  # (kind, name) -> plugin
    config_folders: tuple[Path, ...]  # where configs are looked for, the house's first

    @property
    def failed(self) -> tuple[Plugin, ...]:
        """The plugins that could not be loaded."""
        return tuple(plugin for plugin in self.plugins if plugin.status == "failed")

    def find(self, kind: str, name: str) -> type[Component]:
        """The config class of that kind and name. Raises PosecliError with the nearest name."""
        known = self.components.get(kind, {})
        if name in known:
            return known[name]
        broken = [plugin.name for plugin in self.failed]
        hint = f"; plugins that failed to load: {', '.join(broken)} (see posecli plugins)" if broken else ""
        raise PosecliError(f"no {kind} named {name!r}; {suggest(name, known)}{hint}")


def suggest(name: str, known: Iterable[str]) -> str:
    """'did you mean X?' for the nearest known name, else the list of names, where it is one that can be read."""
    names = sorted(known)
    near = difflib.get_close_matches(name, names, n=1, cutoff=0.6)
    if near:
        return f"did you mean {near[0]!r}?"
    return f"known are {listed(names, LISTED)}" if names else "none is registered"


def _wanted() -> set[str] | None:
    """The names in POSECLI_PLUGINS, or None when it is not set."""
    value = os.environ.get("POSECLI_PLUGINS")
    return None if value is None else {name.strip() for name in value.split(",") if name.strip()}


def _entry_points() -> list[importlib.metadata.EntryPoint]:
    """All entry points of the group, those of posecli itself first, in a stable order and without repeats."""
    found: dict[tuple[str, str], importlib.metadata.EntryPoint] = {}
    for point in importlib.metadata.entry_points(group=GROUP):
        found.setdefault((point.name, point.value), point)

    def rank(point: importlib.metadata.EntryPoint) -> tuple[bool, bool, str, str]:
        return (not _is_ours(point), point.name != "core", point.name, point.value)

    return sorted(found.values(), key=rank)


def _is_ours(point: importlib.metadata.EntryPoint) -> bool:
    return _distribution(point)[0] == "posecli"


def _distribution(point: importlib.metadata.EntryPoint) -> tuple[str, str]:
    """Name and version of the distribution that declares the entry point; its metadata may be damaged."""
    try:
        assert point.dist is not None
        return str(point.dist.name or "unknown"), str(point.dist.version or "")
    except Exception:
        return "unknown", ""


def _failure(error: BaseException) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split()).removeprefix("PluginError: ")


def _trace(line: str) -> None:
    """Say on standard error which hook is called, when POSECLI_TRACE_PLUGINS=1."""
    if os.environ.get("POSECLI_TRACE_PLUGINS") == "1":
        sys.stderr.write(f"{line}\n")


class _Loader:
    """Loads plugins one at a time and remembers what happened."""

    def __init__(self) -> None:
        self.manager = pluggy.PluginManager(GROUP)
        self.manager.add_hookspecs(hookspecs)
        self.components: dict[str, dict[str, type[Component]]] = {kind: {} for kind in KIND_HOOKS}
        self.owners: dict[tuple[str, str], str] = {}
        self.folders: list[Path] = []
        self.plugins: list[Plugin] = []

    def load(self, point: importlib.metadata.EntryPoint, wanted: set[str] | None) -> None:
        """Load one entry point; whatever it does is recorded. Raises PluginError when POSECLI_STRICT_PLUGINS=1."""
        plugin = functools.partial(Plugin, point.name, point.value, *_distribution(point))
        # the core holds what every command stands on, so a limit on plugins never takes it away
        if wanted is not None and point.name not in wanted and not (point.name == "core" and _is_ours(point)):
            self.plugins.append(plugin("blocked", "not in POSECLI_PLUGINS"))
            return
        try:
            with contextlib.redirect_stdout(sys.stderr):  # standard output is for results
                hooks = self._register(point)
        except (Exception, SystemExit) as error:  # a plugin may do anything at import
            if os.environ.get("POSECLI_STRICT_PLUGINS") == "1":
                raise PluginError(f"plugin {point.name!r} ({point.value}) failed: {_failure(error)}") from error
            self.plugins.append(plugin("failed", _failure(error), (), traceback.format_exc()))
        else:
            self.plugins.append(plugin("ok", "", hooks))

    def _register(self, point: importlib.metadata.EntryPoint) -> tuple[str, ...]:
        if self.manager.has_plugin(point.name):
            source = ", ".join(_distribution(point))
            raise PluginError(
                f"two plugins are named {point.name!r}: {self._source(point.name)}, which was loaded, "
                f"and {point.value} ({source})"
            )
        module = point.load()
        self._check_hooks(module)
        try:
            self.manager.register(module, name=point.name)
            self.manager.check_pending()
            added = self._collect(module, point.name)
            folders = _listed(module, "posecli_config_dirs")
        except BaseException:
            if self.manager.has_plugin(point.name):  # also when register gave up half-way
                self.manager.unregister(name=point.name)
            raise
        for kind, classes in added.items():
            for component in classes:
                self.components[kind][component.name] = component
                self.owners[kind, component.name] = point.name
        self.folders += [Path(folder) for folder in folders]
        return tuple(sorted(caller.name for caller in self.manager.get_hookcallers(module) or ()))

    def _source(self, name: str) -> str:
        found = next(plugin for plugin in self.plugins if plugin.name == name and plugin.status == "ok")
        return f"{found.value} ({found.distribution}, {found.version})"

    def _check_hooks(self, module: ModuleType) -> None:
        """Raise PluginError for a misspelt hook and for one that is not marked: neither would ever be called."""
        known = [name for name in vars(hookspecs) if name.startswith("posecli_")]
        for name, function in vars(module).items():
            if not name.startswith("posecli_") or not inspect.isroutine(function):
                continue
            if name not in known:
                raise PluginError(f"unknown hook {name!r}; {suggest(name, known)}")
            if self.manager.parse_hookimpl_opts(module, name) is None:
                raise PluginError(f"hook {name!r} is not marked: put @posecli.hookimpl above it")

    def _collect(self, module: ModuleType, owner: str) -> dict[str, list[type[Component]]]:
        """Call the plugin's own listing hooks and check the names, before anything is added."""
        added: dict[str, list[type[Component]]] = {}
        for kind, hook in KIND_HOOKS.items():
            added[kind] = _listed(module, hook)
            names: set[str] = set()
            for component in added[kind]:
                self._check_component(component, kind, hook)
                taken = self.owners.get((kind, component.name), owner if component.name in names else None)
                if taken is not None:
                    raise PluginError(f"{kind} {component.name!r} is claimed by both {taken!r} and {owner!r}")
                names.add(component.name)
        return added

    def _check_component(self, component: Any, kind: str, hook: str) -> None:
        if not inspect.isclass(component) or getattr(component, "kind", None) != kind:
            raise PluginError(f"{hook} returned {component!r}, which is not a {kind} config class")
        if not getattr(component, "name", ""):
            raise PluginError(f"{hook} returned {component.__name__}, which does not set its `name`")
        if inspect.isabstract(component):
            raise PluginError(f"{hook} returned {component.__name__}, which does not define `build`")


def _listed(module: ModuleType, hook: str) -> list[Any]:
    """What a plugin's listing hook returns; nothing where it has none."""
    function: Callable[[], list[Any]] | None = getattr(module, hook, None)
    if function is None:
        return []
    _trace(f"{module.__name__}.{hook}()")
    found = function()
    if not isinstance(found, list):
        raise PluginError(f"{hook} returned {found!r}, which is not a list")
    return found


def load_catalog() -> Catalog:
    """Load every plugin afresh. Most callers want `catalog()`."""
    loader = _Loader()
    if os.environ.get("POSECLI_TRACE_PLUGINS") == "1":
        loader.manager.trace.root.setwriter(lambda line: sys.stderr.write(line))
        loader.manager.enable_tracing()
    wanted, points = _wanted(), _entry_points()
    for point in points:
        loader.load(point, wanted)
    installed = {point.name for point in points}
    for name in sorted((wanted or set()) - installed):
        reason = f"POSECLI_PLUGINS names it, and it is not installed; {suggest(name, installed)}"
        loader.plugins.append(Plugin(name, "", "", "", "failed", reason))
    return Catalog(
        loader.manager, tuple(loader.plugins), loader.components, loader.owners, tuple(dict.fromkeys(loader.folders))
    )


@functools.cache
def catalog() -> Catalog:
    """The plugins of this process, loaded once, on first use."""
    return load_catalog()


def add_commands(app: typer.Typer, hook: str = "posecli_commands") -> None:
    """Let every plugin add its subcommands; one that raises, or takes a name in use, is reported and left out."""
    for implementation in getattr(catalog().manager.hook, hook).get_hookimpls():
        before = len(app.registered_commands), len(app.registered_groups)
        taken = set(command_names(app))
        _trace(f"{implementation.plugin_name}.{hook}(app)")
        try:
            with contextlib.redirect_stdout(sys.stderr):
                implementation.function(app)
            repeated = taken.intersection(command_names(app, *before))
            if repeated:
                raise PluginError(f"the command {min(repeated)!r} exists already")
        except (Exception, SystemExit) as error:
            del app.registered_commands[before[0] :], app.registered_groups[before[1] :]
            warn(f"plugin {implementation.plugin_name!r} could not add its commands: {_failure(error)}")


def command_names(app: typer.Typer, first_command: int = 0, first_group: int = 0) -> list[str]:
    """The names of the app's commands and groups, in order, from the given ones on."""
    names = [
        command.name or (getattr(command.callback, "__name__", "") or "").replace("_", "-")
        for command in app.registered_commands[first_command:]
    ]
    groups = app.registered_groups[first_group:]
    # typer fills what is not stated with a placeholder that holds no string
    return names + [
        name
        for group in groups
        for name in (group.name, group.typer_instance and group.typer_instance.info.name)
        if isinstance(name, str)
    ]
