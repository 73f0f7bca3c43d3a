"""Configs: frozen, checked, YAML in and out. A component's class is its schema, its help, its defaults, its factory.

Importing this module imports neither torch nor numpy nor cv2.
"""

from __future__ import annotations

import functools
import inspect
import re
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, Self, TypeVar, get_args, get_origin

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, ValidatorFunctionWrapHandler, model_validator

from posecli.console import PosecliError
from posecli.plugins import catalog, suggest

CONFIGS_ARE_LISTED = "`posecli list configs` names those that need no path"

if TYPE_CHECKING:
    from posecli.algorithm import Algorithm
    from posecli.conversion import Writer
    from posecli.metrics.metric import Metric
    from posecli.nn.backbone import Backbone
    from posecli.skeleton import Skeleton
    from posecli.summary import DataSummary
    from posecli.types import Dataset

Fields = dict[str, Any]
ConfigType = TypeVar("ConfigType", bound="Config")
Positive = Annotated[int, Field(gt=0)]
Fraction = Annotated[float, Field(ge=0, le=1)]
Size = tuple[Positive, Positive]
"""Width, height in pixels."""


class ConfigError(PosecliError):
    """A config names something that does not exist, or gives a wrong value: file, key, value and the right one."""


class Config(BaseModel):
    """Frozen values with a description each; an unknown key is an error."""

    # validators are built on first use: most commands touch a few of the classes, `--help` none
    model_config = ConfigDict(frozen=True, extra="forbid", defer_build=True)


class Component(Config):
    """A part that a config names: `{use: <name>, ...its fields}`. A subclass sets `name` and `build`.

    A field typed with the root of a kind (ModelConfig, BackboneConfig ...) takes any registered component of it.
    """

    kind: ClassVar[str] = ""
    name: ClassVar[str] = ""

    @model_validator(mode="wrap")
    @classmethod
    def _resolve(cls, value: Any, handler: ValidatorFunctionWrapHandler) -> Self:
        if isinstance(value, str):
            value = {"use": value}
        made: Self
        if not isinstance(value, Mapping):
            made = handler(value)
            return made
        fields = dict(value)
        use = fields.pop("use", None)
        if cls.name and use in (None, cls.name):
            made = handler(fields)
            return made
        if use is None:
            raise ValueError(f"say which {cls.kind} with `use:`; {suggest('', catalog().components.get(cls.kind, {}))}")
        found = catalog().find(cls.kind, str(use))
        if not issubclass(found, cls):
            raise ValueError(f"{use!r} is a {cls.kind}, but not one that fits here")
        return found.model_validate(fields)


class ModelConfig(Component):
    """An algorithm: what `train` trains. `name` is `<family>.<variant>`; `--algo <family>` picks it by its default."""

    kind: ClassVar[str] = "model"
    mmpose_prefixes: ClassVar[tuple[tuple[str, str], ...]] = ()
    """What MMPose calls the model's tensors where posecli does not: (their prefix, ours), the longest fitting one."""
    unit: ClassVar[Literal["instances", "pictures"]] = "instances"
    """What training counts where a schedule is chosen from data: one network input shows one of them."""

    @property
    def mmpose_ignored(self) -> tuple[str, ...]:
        """Prefixes of MMPose's tensors that this model has no need of."""
        return ()

    @classmethod
    def fields_for(cls, summary: DataSummary) -> tuple[Fields, list[str]]:
        """What this model would choose for such data where nobody states it, and a sentence of why for each choice."""
        return {}, []

    @abstractmethod
    def build(self, skeleton: Skeleton) -> Algorithm:
        """The network with its targets and decoding, untrained."""


class BackboneConfig(Component):
    """A feature extractor: pictures in, feature maps out."""

    kind: ClassVar[str] = "backbone"
    pretrained: bool = Field(False, description="start from published weights; downloads them, hash checked")

    @abstractmethod
    def build(self) -> Backbone:
        """The network; it says its `channels` and `strides`."""


class DatasetConfig(Component):
    """Labelled pictures in some format."""

    kind: ClassVar[str] = "dataset"
    metrics: ClassVar[tuple[str, ...]] = ()  # by which this dataset is scored by custom, where that is not AP or PCK

    @abstractmethod
    def build(self) -> Dataset:
        """Read the annotations, columns only; pictures are read later."""

    def refusing(self, strict: bool = True) -> Self:
        """With `strict` the same that refuses annotations with faults, where its format would leave them out."""
        known = strict and "strict" in type(self).model_fields
        return self.model_copy(update={"strict": True}) if known else self


class MetricConfig(Component):
    """A score. On the command line `NAME@VALUE:OPTION`, as in `pck@0.05:torso`."""

    kind: ClassVar[str] = "metric"

    @classmethod
    def from_text(cls, value: str | None, option: str | None) -> Self:
        """The config for `name@value:option`. Raises ValueError where the metric takes none."""
        if value is not None or option is not None:
            raise ValueError(f"metric {cls.name!r} takes no parameters after its name")
        return cls()

    @abstractmethod
    def build(self, skeleton: Skeleton) -> Metric:
        """The metric for one skeleton. Raises PosecliError when the skeleton lacks what it needs."""


class WriterConfig(Component):
    """A format that `convert` writes."""

    kind: ClassVar[str] = "writer"

    @abstractmethod
    def build(self) -> Writer:
        """The writer."""


class DataConfig(Config):
    """What is trained on and scored on."""

    train: DatasetConfig = Field(description="pictures to train on")
    val: DatasetConfig = Field(description="pictures to score on")
    workers: int = Field(2, ge=0, description="loader processes of each rank; 0 loads in the main process")
    share_decoding: bool = Field(
        False, description="decode a picture once for all of its people: faster, batches are less mixed"
    )
    keep_pictures: int = Field(
        0, ge=0, description="MB of training pictures that each loader process keeps in memory for the next epoch"
    )


class OptimizerConfig(Config):
    """How the weights are moved."""

    name: Literal["adam", "adamw", "sgd"] = Field("adam", description="adam, adamw or sgd")
    lr: float = Field(5e-4, gt=0, description="learning rate at the full batch, after the warm-up")
    weight_decay: float = Field(0.0, ge=0, description="not applied to biases and normalisation layers")
    momentum: float = Field(0.9, ge=0, lt=1, description="for sgd")
    betas: tuple[float, float] = Field((0.9, 0.999), description="for adam and adamw")
    factors: dict[str, float] = Field(
        {}, description="learning rates of parameter groups, such as discriminator, times lr"
    )


class ScheduleConfig(Config):
    """How the learning rate moves over the epochs."""

    name: Literal["step", "cosine", "exponential", "constant"] = Field(
        "step", description="step, cosine, exponential or constant"
    )
    milestones: tuple[float, ...] = Field(
        (170 / 210, 200 / 210), description="step: fractions of the training at which the rate is multiplied"
    )
    gamma: float = Field(0.1, gt=0, description="step: the factor at a milestone")
    final: float = Field(0.0, ge=0, description="cosine, exponential: the last rate as a fraction of the full one")
    warmup_steps: int = Field(500, ge=0, description="steps of linear warm-up, at most a tenth of all steps")
    warmup_ratio: float = Field(0.001, ge=0, le=1, description="the first rate as a fraction of the full one")


class TrainConfig(Config):
    """The training loop."""

    epochs: Positive = Field(210, description="passes over the training units")
    batch_size: Positive = Field(64, description="units in one step of one rank")
    optimizer: OptimizerConfig = Field(default_factory=OptimizerConfig, description="how the weights are moved")
    schedule: ScheduleConfig = Field(default_factory=ScheduleConfig, description="how the learning rate moves")
    accumulate: Positive = Field(1, description="batches summed up before the weights move")
    clip_norm: float | None = Field(None, gt=0, description="largest gradient norm")
    precision: Literal["fp32", "bf16", "fp16", "auto"] = Field(
        "fp32", description="arithmetic of the forward pass; auto: bf16 where the device has it in hardware"
    )
    channels_last: bool = Field(True, description="memory format of images and weights; faster nearly everywhere")
    cuda_graphs: bool = Field(
        False,
        description="on a GPU, record the backbone's work once and replay it: faster where launching its many small "
        "steps takes longer than computing them, as in HRNet; in one process, without accumulate",
    )
    freeze_norm: bool = Field(False, description="keep the running statistics of normalisation layers as they are")
    ema: float | None = Field(None, gt=0, lt=1, description="decay of an exponential moving average of the weights")
    seed: int = Field(0, ge=0, description="of weights, order and augmentation")
    eval_every: Positive = Field(10, description="epochs between two evaluations; the last epoch is always scored")
    save_every: Positive = Field(1, description="epochs between two checkpoints to resume from")
    keep: Positive = Field(1, description="how many checkpoints to resume from are kept")
    best: str | None = Field(
        None, description="the score that picks best.safetensors, the first by default; then the others"
    )


class EvalConfig(Config):
    """How a model is scored."""

    metrics: tuple[str, ...] = Field(("ap", "pck"), description="metrics, each as NAME@VALUE:OPTION")
    batch_size: Positive = Field(64, description="units predicted at once")


class Experiment(Config):
    """All of one run: what is trained, on what, how, and how it is scored."""

    model: ModelConfig = Field(description="the algorithm")
    data: DataConfig = Field(description="the data")
    train: TrainConfig = Field(default_factory=TrainConfig, description="the training loop")
    eval: EvalConfig = Field(default_factory=EvalConfig, description="the scoring")


# --- reading, merging, writing --------------------------------------------------------------------------------------


@functools.cache
def house_configs() -> Path:
    """The folder of posecli's own configs: the source tree's when run from one, else the installed copy."""
    package = Path(str(resources.files("posecli")))
    project = package.parent / "pyproject.toml"
    if project.is_file() and 'name = "posecli"' in project.read_text(encoding="utf-8"):
        return package.parent / "configs"
    return package / "configs"


def config_names() -> list[str]:
    """Every config that can be named without a path, base files left out."""
    names = set()
    for folder in catalog().config_folders:
        paths = folder.rglob("*.yaml")
        names |= {path.relative_to(folder).with_suffix("").as_posix() for path in paths}
    return sorted(name for name in names if not name.startswith("base/"))


def find_config(name: str) -> Path:
    """The file for a path, a run folder or a config name. Raises ConfigError with the nearest file or name."""
    direct = Path(name)
    for path in (direct, direct / "config.yaml"):
        if path.is_file():
            return path
    named = _named_config(name)
    if named is not None:
        return named
    if direct.suffix not in (".yaml", ".yml"):
        raise ConfigError(f"no config {name!r}: no such file, and no config of that name; {_nearest_config(name)}")
    files = [*map(str, direct.parent.glob("*.y*ml")), *(f"{config}.yaml" for config in config_names())]
    near = get_close_matches(str(direct), files, n=1)
    hint = f"did you mean {near[0]}?" if near else CONFIGS_ARE_LISTED
    raise ConfigError(f"no config file {name} (looked for {direct.absolute()}); {hint}")


def _nearest_config(name: str) -> str:
    """A hint for a name that no config has; all of them would be pages."""
    near = get_close_matches(name, config_names(), n=1)
    return f"did you mean {near[0]!r}?" if near else CONFIGS_ARE_LISTED


def _named_config(name: str) -> Path | None:
    """The file of a config name; a family's name alone stands for its default."""
    name = name.removesuffix(".yaml")
    folders = catalog().config_folders
    candidates = [folder / file for folder in folders for file in (f"{name}.yaml", f"{name}/default.yaml")]
    return next((path for path in candidates if path.is_file()), None)


class _YamlLoader(yaml.SafeLoader):
    """Safe YAML that takes 5e-4 for the number it is and 02 for the name it is, and refuses a key that stands twice."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen = set()
        for key_node, _ in node.value:
            key = key_node.value if isinstance(key_node, yaml.ScalarNode) else None
            if key in seen and key != "<<":
                raise yaml.constructor.ConstructorError(
                    None, None, f"the key {key!r} stands twice", key_node.start_mark
                )
            seen.add(key)
        return super().construct_mapping(node, deep)


_YamlLoader.yaml_implicit_resolvers = {  # YAML 1.1 reads 02_05 as an octal number, and 1:30 as ninety
    first: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:int"]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_YamlLoader.add_implicit_resolver(
    "tag:yaml.org,2002:int", re.compile(r"^[-+]?(?:0|[1-9][0-9_]*|0x[0-9a-fA-F]+)$"), list("-+0123456789")
)
_YamlLoader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"^[-+]?[0-9]+(?:\.[0-9]*)?[eE][-+]?[0-9]+$"), list("-+0123456789")
)


def _parse_yaml(text: str) -> Any:
    """The value a YAML text stands for. Raises ValueError, in one line, with the line number."""
    try:
        return yaml.load(text, Loader=_YamlLoader)  # a SafeLoader: makes plain values only
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        problem = getattr(error, "problem", None) or " ".join(str(error).split())
        raise ValueError(f"line {mark.line + 1}: {problem}" if mark else problem) from error
    except RecursionError as error:
        raise ValueError("it contains itself") from error


def read_yaml(path: Path) -> Fields:
    """A YAML mapping, read safely. Raises ConfigError naming file and line."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"cannot read the config {path}: {error}") from error
    try:
        fields = _parse_yaml(text)
    except ValueError as error:
        raise ConfigError(f"{path} is not valid YAML: {error}") from error
    if fields is None:
        return {}
    if not isinstance(fields, dict):
        raise ConfigError(f"{path}: a config is a mapping of keys to values, this is a {type(fields).__name__}")
    return fields


class Layers:
    """Merged fields that remember, for every key, which file or option it came from."""

    def __init__(self) -> None:
        self.fields: Fields = {}
        self.origins: dict[tuple[str, ...], str] = {}

    def add(self, fields: Mapping[str, Any], origin: str) -> None:
        """Merge `fields` over what is there: dicts merge, all else is replaced, another `use` replaces whole."""
        self.fields = self._merge(self.fields, fields, origin, ())

    def add_file(self, path: Path, seen: tuple[Path, ...] = ()) -> None:
        """Merge a config file, after the files it extends. Raises ConfigError for a missing parent and for a cycle."""
        path = path.resolve()
        if path in seen:
            raise ConfigError(f"{path} extends itself by way of {seen[-1]}")
        fields = read_yaml(path)
        for parent in _parents(path, fields.pop("extends", [])):
            self.add_file(parent, (*seen, path))
        self.add(fields, str(path))

    def has(self, *path: str) -> bool:
        """Whether some layer says anything about the key at `path`."""
        fields: Any = self.fields
        for key in path:
            if not isinstance(fields, Mapping) or key not in fields:
                return False
            fields = fields[key]
        return True

    def origin(self, path: Sequence[str]) -> str:
        """Where the value at `path`, or the nearest mapping above it, came from."""
        for length in range(len(path), 0, -1):
            if tuple(path[:length]) in self.origins:
                return self.origins[tuple(path[:length])]
        return ""

    def _merge(self, old: Any, new: Any, origin: str, path: tuple[str, ...]) -> Any:
        if not isinstance(new, Mapping):
            self._forget(path)
            self.origins[path] = origin
            return new
        if isinstance(old, str) and "use" not in new:
            old = {"use": old}  # the short form of a component
        if not isinstance(old, Mapping) or ("use" in new and "use" in old and new["use"] != old["use"]):
            self._forget(path)
            old = {}
        self.origins[path] = origin
        return dict(old) | {
            str(key): self._merge(old.get(str(key)), value, origin, (*path, str(key))) for key, value in new.items()
        }

    def _forget(self, path: tuple[str, ...]) -> None:
        """Drop the origins below `path`: what they speak of is replaced."""
        for known in [known for known in self.origins if known[: len(path)] == path]:
            del self.origins[known]


def _parents(path: Path, names: Any) -> list[Path]:
    """The files that a config extends: relative to its own folder, or config names."""
    listed = [names] if isinstance(names, str) else names
    if not isinstance(listed, list) or not all(isinstance(name, str) for name in listed):
        raise ConfigError(f"{path}: extends: give a config or a list of configs, got {names!r}")
    found = []
    for name in listed:
        near = path.parent / name
        parent = near if near.is_file() else _named_config(name)
        if parent is None:
            hint = _nearest_config(name)
            raise ConfigError(f"{path}: extends: no file {near.resolve()}, and no config named {name!r}; {hint}")
        found.append(parent)
    return found


def parse_setting(text: str) -> Fields:
    """The nested fields of one `--set a.b.c=value`; the value is read as YAML. Raises ConfigError."""
    key, equals, value = text.partition("=")
    parts = key.strip().split(".")
    if not equals or not all(parts):
        raise ConfigError(f"--set {text!r}: write KEY=VALUE, as in --set train.epochs=5")
    try:
        fields: Any = _parse_yaml(value)
    except ValueError as error:
        raise ConfigError(f"--set {text!r}: the value is not valid YAML: {error}") from error
    for part in reversed(parts):
        fields = {part: fields}
    return dict(fields)


def validate(kind: type[ConfigType], layers: Layers) -> ConfigType:
    """The checked config. Raises ConfigError, in one line, with file, key, value and the nearest right one."""
    try:
        return kind.model_validate(layers.fields)
    except ValidationError as error:
        faults = [_fault(kind, fault, layers) for fault in error.errors()]
        raise ConfigError("; ".join(dict.fromkeys(faults))) from error


def load_experiment(name: str, settings: Sequence[str] = ()) -> Experiment:
    """The experiment of a config name or path, with `KEY=VALUE` settings on top."""
    return validate(Experiment, layers_of(name, settings))


def layers_of(name: str | None, settings: Sequence[str] = ()) -> Layers:
    """The merged layers of a config and settings, not yet checked."""
    layers = Layers()
    if name is not None:
        layers.add_file(find_config(name))
    for setting in settings:
        layers.add(parse_setting(setting), f"--set {setting}")
    return layers


def _fault(kind: type[Config], fault: Any, layers: Layers) -> str:
    """One line for a pydantic error: file or option, key, what is wrong, the value."""
    path = _stated(layers.fields, [str(part) for part in fault["loc"]], fault["type"] == "missing")
    if fault["type"].startswith("union_tag"):  # one of several configs, told apart by a key such as `task`
        path = [*path, fault["ctx"]["discriminator"].strip("'")]
    origin = layers.origin(path)
    where = f"{origin}: {'.'.join(path)}" if origin else ".".join(path)
    if fault["type"] == "extra_forbidden":
        known = _fields_at(kind, layers.fields, path[:-1])
        return f"{where}: unknown key; {suggest(path[-1], known)}" if known else f"{where}: unknown key"
    if fault["type"] in ("missing", "union_tag_not_found"):
        return f"{where}: a value is required"
    if fault["type"] == "union_tag_invalid":
        tag, known = fault["ctx"]["tag"], re.findall("'([^']*)'", fault["ctx"]["expected_tags"])
        return f"{where}: {tag!r} is none of {', '.join(known)}; {suggest(tag, known)}"
    message = fault["msg"].removeprefix("Value error, ")
    if isinstance(fault["input"], Mapping) or repr(fault["input"]) in message:
        return f"{where}: {message}"
    return f"{where}: {message}, got {fault['input']!r}"


def _stated(fields: Any, path: Sequence[str], missing: bool) -> list[str]:
    """`path` as far as `fields` goes, without the names of types that pydantic puts in. A missing key is one beyond."""
    found: list[str] = []
    for left, part in enumerate(path, start=1 - len(path)):
        if isinstance(fields, Mapping) and part in fields:
            fields = fields[part]
        elif isinstance(fields, list) and part.isdigit() and int(part) < len(fields):
            fields = fields[int(part)]
        elif left:
            continue  # the name of the type that was tried, as of one of several kinds of heads
        else:
            return [*found, part] if missing else found
        found.append(part)
    return found


def _fields_at(kind: type[Config], fields: Any, path: Sequence[str]) -> list[str]:
    """The keys allowed at `path`, following the components that `fields` names; empty where it cannot be told."""
    annotation: Any = kind
    for part in path:
        if get_origin(annotation) is dict:
            annotation = get_args(annotation)[1]
        else:
            chosen = _chosen(annotation, fields)
            annotation = chosen.model_fields[part].annotation if chosen and part in chosen.model_fields else None
        fields = fields.get(part) if isinstance(fields, Mapping) else None
    found = _chosen(annotation, fields)
    return [] if found is None else [*found.model_fields, *(["use"] if issubclass(found, Component) else [])]


def _chosen(annotation: Any, fields: Any) -> type[Config] | None:
    """The config that `fields` are for: of several the one with such a tag, the component that `use` names."""
    configs = _configs(annotation)
    stated = fields if isinstance(fields, Mapping) else {"use": fields}
    tagged = [
        config
        for config in configs
        if any(get_args(field.annotation) == (stated.get(name),) for name, field in config.model_fields.items())
    ]
    kind = next(iter(tagged or configs), None)
    if kind is not None and issubclass(kind, Component) and isinstance(stated.get("use"), str):
        return catalog().components.get(kind.kind, {}).get(stated["use"], kind)
    return kind


def _configs(annotation: Any) -> list[type[Config]]:
    """The configs that an annotation allows, by itself or in a union; a dict's keys are no config's."""
    if inspect.isclass(annotation) and issubclass(annotation, Config):
        return [annotation]
    parts = () if get_origin(annotation) is dict else get_args(annotation)
    return [config for part in parts for config in _configs(part)]


def dump(config: Config) -> Fields:
    """Plain fields that `validate` reads back to an equal config."""
    fields: Fields = {"use": config.name} if isinstance(config, Component) else {}
    for name in type(config).model_fields:
        fields[name] = plain(getattr(config, name))
    return fields


def plain(value: Any) -> Any:
    """A config's value as YAML and JSON know it: mappings, lists, strings, numbers."""
    if isinstance(value, Config):
        return dump(value)
    if isinstance(value, Mapping):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    return str(value) if isinstance(value, Path) else value


def to_yaml(config: Config) -> str:
    """The config as YAML, complete: every value stated."""
    text: str = yaml.safe_dump(dump(config), sort_keys=False, allow_unicode=True, width=100)
    return text


def inline_yaml(value: Any) -> str:
    """A plain value as YAML on one line."""
    text: str = yaml.safe_dump(value, default_flow_style=True, allow_unicode=True, width=10**9)
    return text.removesuffix("...\n").strip()


def copied_yaml(path: Path) -> str:
    """The text of a config file, comments and all, with `extends` made to hold wherever it is put."""
    text = path.read_text(encoding="utf-8")
    parents = [_anywhere(parent) for parent in _parents(path, read_yaml(path).get("extends", []))]
    if not parents:
        return text
    extends = f"extends: {inline_yaml(parents[0] if len(parents) == 1 else parents)}\n"
    # the key with its value: the rest of the line, and the indented or listed lines that follow
    return re.sub(r"^extends:.*\n?(?:[ \t-].*\n?)*", lambda _: extends, text, count=1, flags=re.MULTILINE)


def _anywhere(path: Path) -> str:
    """How a config is named from any folder: by its config name where it has one, else by its full path."""
    path = path.resolve()
    for folder in catalog().config_folders:
        if path.is_relative_to(folder.resolve()):
            return path.relative_to(folder.resolve()).with_suffix("").as_posix()
    return str(path)


def parse_metric(text: str) -> MetricConfig:
    """The metric config for `name@value:option`. Raises PosecliError with the nearest name."""
    head, colon, option = text.partition(":")
    name, at, value = head.partition("@")
    found = catalog().find("metric", name)
    assert issubclass(found, MetricConfig)
    try:
        return found.from_text(value if at else None, option if colon else None)
    except ValueError as error:
        message = error.errors()[0]["msg"] if isinstance(error, ValidationError) else str(error)
        raise PosecliError(f"metric {text!r}: {message}") from error
