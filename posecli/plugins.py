"""Find, isolate, load and name plugins. One broken plugin is reported and never stops the others."""

from __future__ import annotations

import difflib
import functools
import importlib.metadata
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
from posecli.console import PosecliError

if TYPE_CHECKING:
    from posecli.config import Component

GROUP = "posecli"
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
    error: str = ""  # one line, for failed plugins
    hooks: tuple[str, ...] = ()
    traceback: str = field(default="", repr=False)


@dataclass(frozen=True)
class Catalog:
    """Every plugin found, and every component the loaded ones registered, by kind and name."""

    manager: pluggy.PluginManager
    plugins: tuple[Plugin, ...]
    components: dict[str, dict[str, type[Component]]]  # kind -> name -> config class
    owners: dict[tuple[str, str], str]  # (kind, name) -> plugin

    def find(self, kind: str, name: str) -> type[Component]:
        """The config class of that kind and name. Raises PosecliError with the nearest name."""
        known = self.components.get(kind, {})
        if name in known:
            return known[name]
        broken = [plugin.name for plugin in self.plugins if plugin.status == "failed"]
        hint = f"; plugins that failed to load: {', '.join(broken)} (see posecli plugins)" if broken else ""
        raise PosecliError(f"no {kind} named {name!r}; {suggest(name, known)}{hint}")

    @property
    def config_folders(self) -> list[Path]:
        """Folders in which configs are looked for, the house's first."""
        return [Path(folder) for folders in self.manager.hook.posecli_config_dirs() for folder in folders]


def suggest(name: str, known: Iterable[str]) -> str:
    """'did you mean X?' for the nearest known name, else the list of names."""
    names = sorted(known)
    near = difflib.get_close_matches(name, names, n=1, cutoff=0.6)
    if near:
        return f"did you mean {near[0]!r}?"
    return f"known are {', '.join(names)}" if names else "none is registered"


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
    return point.dist is not None and point.dist.name == "posecli"


def _failure(error: BaseException) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())


class _Loader:
    """Loads plugins one at a time and remembers what happened."""

    def __init__(self) -> None:
        self.manager = pluggy.PluginManager(GROUP)
        self.manager.add_hookspecs(hookspecs)
        self.components: dict[str, dict[str, type[Component]]] = {kind: {} for kind in KIND_HOOKS}
        self.owners: dict[tuple[str, str], str] = {}
        self.plugins: list[Plugin] = []

    def load(self, point: importlib.metadata.EntryPoint, wanted: set[str] | None) -> None:
        distribution = point.dist.name if point.dist else "unknown"
        version = point.dist.version if point.dist else ""
        plugin = functools.partial(Plugin, point.name, point.value, distribution, version)
        # the core holds what every command stands on, so a limit on plugins never takes it away
        if wanted is not None and point.name not in wanted and not (point.name == "core" and _is_ours(point)):
            self.plugins.append(plugin("blocked", "not in POSECLI_PLUGINS"))
            return
        try:
            hooks = self._register(point)
        except (Exception, SystemExit) as error:  # a plugin may do anything at import
            if os.environ.get("POSECLI_STRICT_PLUGINS") == "1":
                raise
            self.plugins.append(plugin("failed", _failure(error), (), traceback.format_exc()))
        else:
            self.plugins.append(plugin("ok", "", hooks))

    def _register(self, point: importlib.metadata.EntryPoint) -> tuple[str, ...]:
        if self.manager.has_plugin(point.name):
            raise PluginError(f"plugin name {point.name!r} is already taken by {self._source(point.name)}")
        module = point.load()
        self.manager.register(module, name=point.name)
        try:
            self._check_hooks(module)
            added = self._collect(module, point.name)
        except BaseException:
            self.manager.unregister(name=point.name)
            raise
        for kind, classes in added.items():
            for component in classes:
                self.components[kind][component.name] = component
                self.owners[kind, component.name] = point.name
        return tuple(sorted(caller.name for caller in self.manager.get_hookcallers(module) or ()))

    def _source(self, name: str) -> str:
        return next(f"{plugin.value} ({plugin.distribution})" for plugin in self.plugins if plugin.name == name)

    def _check_hooks(self, module: ModuleType) -> None:
        known = [name for name in vars(hookspecs) if name.startswith("posecli_")]
        misspelt = [name for name in vars(module) if name.startswith("posecli_") and name not in known]
        misspelt = [name for name in misspelt if callable(getattr(module, name))]
        if misspelt:
            raise PluginError(f"unknown hook {misspelt[0]!r}; {suggest(misspelt[0], known)}")
        self.manager.check_pending()

    def _collect(self, module: ModuleType, owner: str) -> dict[str, list[type[Component]]]:
        """Call the plugin's own listing hooks and check the names, before anything is added."""
        added: dict[str, list[type[Component]]] = {}
        for kind, hook in KIND_HOOKS.items():
            function: Callable[[], list[type[Component]]] | None = getattr(module, hook, None)
            added[kind] = list(function()) if function is not None else []
            names: set[str] = set()
            for component in added[kind]:
                if getattr(component, "kind", None) != kind:
                    raise PluginError(f"{hook} returned {component!r}, which is not a {kind} config class")
                taken = self.owners.get((kind, component.name), owner if component.name in names else None)
                if taken is not None:
                    raise PluginError(f"{kind} {component.name!r} is claimed by both {taken!r} and {owner!r}")
                names.add(component.name)
        return added


def load_catalog() -> Catalog:
    """Load every plugin afresh. Most callers want `catalog()`."""
    loader = _Loader()
    if os.environ.get("POSECLI_TRACE_PLUGINS") == "1":
        loader.manager.trace.root.setwriter(lambda line: sys.stderr.write(line))
        loader.manager.enable_tracing()
    wanted = _wanted()
    for point in _entry_points():
        loader.load(point, wanted)
    return Catalog(loader.manager, tuple(loader.plugins), loader.components, loader.owners)


@functools.cache
def catalog() -> Catalog:
    """The plugins of this process, loaded once, on first use."""
    return load_catalog()


def add_commands(app: Any) -> None:
    """Let every plugin add its subcommands; one that raises is reported and skipped."""
    from posecli.console import warn

    for implementation in catalog().manager.hook.posecli_commands.get_hookimpls():
        try:
            implementation.function(app)
        except Exception as error:
            warn(f"plugin {implementation.plugin_name!r} could not add its commands: {_failure(error)}")
