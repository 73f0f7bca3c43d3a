"""What a COCO file says about its keypoints: the category, a skeleton beside the file, a skeleton the house knows."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from posecli.config import read_yaml
from posecli.console import PosecliError
from posecli.plugins import suggest
from posecli.skeleton import Skeleton, flip_pairs_from_names, house_skeletons

Category = dict[str, Any]
OPTIONAL = ("flip_pairs", "sigmas", "weights", "upper", "colors")


def choose_categories(file: Path, categories: Sequence[Category], wanted: str | int | None) -> list[Category]:
    """The categories to read: the wanted one, or all with keypoints where they share one list of names.

    Raises PosecliError listing them when there is a choice to make.
    """
    able = [
        category for category in categories if isinstance(category.get("keypoints"), list) and category["keypoints"]
    ]
    if wanted is not None:
        chosen = [category for category in able if str(wanted) in (str(category["id"]), str(category.get("name")))]
        if chosen:
            return chosen[:1]
        raise PosecliError(f"{file}: no category {wanted!r} with keypoints; it has {_listed(able)}")
    if not able:
        raise PosecliError(f"{file}: no category lists its `keypoints`, so this is no keypoint file")
    if len({tuple(map(str, category["keypoints"])) for category in able}) > 1:
        raise PosecliError(
            f"{file}: several categories have keypoints of their own; choose one: {_listed(able)}, by "
            f"--set data.train.category=NAME and data.val.category=NAME (convert: --set category=NAME)"
        )
    return able


def _listed(categories: Sequence[Category]) -> str:
    listed = [f"category={category.get('name', category['id'])}" for category in categories]
    return ", ".join(listed) or "none with keypoints"


def read_skeleton(file: Path, category: Category, override: str | None = None) -> tuple[Skeleton, list[str]]:
    """The skeleton of a category, and a sentence for each thing that was not simply read from it.

    From weak to strong: left and right in the names, a house skeleton of the same names, the category's own fields, a
    skeleton file beside `file`, `override` (a house skeleton's name or a YAML file). Sigmas are never guessed.
    """
    if override is not None:
        return _overridden(file, category, override)
    names = tuple(str(name) for name in category["keypoints"])
    stated = {key: category[key] for key in OPTIONAL if category.get(key) is not None}
    sidecar = find_sidecar(file)
    name = category.get("skeleton_name") or category.get("name", "custom")
    fields = {"keypoints": names, "skeleton": category.get("skeleton") or [], **stated}
    origin = str(file)
    if sidecar is not None:
        fields |= {key: value for key, value in read_yaml(sidecar).items() if value is not None}
        origin = str(sidecar)
        if tuple(map(str, fields["keypoints"])) != names:
            raise PosecliError(f"{sidecar}: its keypoints are not those of {file}: {', '.join(names)}")
    skeleton = from_fields(origin, fields, str(name))
    notes = [f"skeleton read from {sidecar}"] if sidecar is not None else []
    skeleton, completed = _complete(skeleton)
    return skeleton, notes + completed


def find_sidecar(file: Path) -> Path | None:
    """`<annotations>.skeleton.yaml` beside the file, else `skeleton.yaml` in its folder, else None."""
    places = (file.with_suffix(".skeleton.yaml"), file.parent / "skeleton.yaml")
    return next((place for place in places if place.is_file()), None)


def _overridden(file: Path, category: Category, override: str) -> tuple[Skeleton, list[str]]:
    house = house_skeletons()
    if override in house:
        skeleton = house[override]
    elif Path(override).is_file():
        skeleton = from_fields(override, read_yaml(Path(override)), Path(override).stem)
    else:
        raise PosecliError(f"skeleton {override!r}: no such file, and none shipped; {suggest(override, house)}")
    if len(skeleton) != len(category["keypoints"]):
        raise PosecliError(
            f"skeleton {override!r} has {len(skeleton)} keypoints, {file} has {len(category['keypoints'])}"
        )
    return skeleton, [f"skeleton {override} as asked"]


def _complete(skeleton: Skeleton) -> tuple[Skeleton, list[str]]:
    """What the file leaves open, from the house skeleton of the same names or from the names."""
    house = known_skeleton(skeleton.names, skeleton.name)
    if house is not None:
        stated = {key: getattr(skeleton, key) for key in OPTIONAL if getattr(skeleton, key) is not None}
        merged = dataclasses.replace(house, **stated)
        return merged, [] if merged == house and stated else [
            f"keypoint names are those of the skeleton {house.name!r}"
        ]
    if skeleton.flip_pairs is not None:
        return skeleton, []
    pairs = flip_pairs_from_names(skeleton.names)
    if pairs is None:
        return skeleton, ["flip pairs are unknown: the file has none, and its names no left and right"]
    listed = ", ".join(f"{skeleton.names[one]}/{skeleton.names[two]}" for one, two in pairs)
    return dataclasses.replace(skeleton, flip_pairs=pairs), [f"flip pairs read from the names: {listed}"]


def known_skeleton(names: tuple[str, ...], name: str = "") -> Skeleton | None:
    """The house skeleton of these keypoints, of several the one with this name, else the first."""
    known = [skeleton for skeleton in house_skeletons().values() if skeleton.names == names]
    return next((skeleton for skeleton in known if skeleton.name == name), known[0] if known else None)


def from_fields(origin: str, fields: Mapping[str, Any], name: str) -> Skeleton:
    """A skeleton from a category's or a YAML file's fields.

    `skeleton` counts from 1, as COCO does; `links` and `flip_pairs` count from 0; all may use names instead of numbers.
    Raises PosecliError naming `origin`.
    """
    names = [str(keypoint) for keypoint in fields.get("keypoints", ())]
    try:
        plain = {key: fields[key] for key in ("sigmas", "weights", "colors") if fields.get(key) is not None}
        for key in ("links", "flip_pairs"):
            if fields.get(key) is not None:
                plain[key] = [_indices(names, pair) for pair in fields[key]]
        if "links" not in plain:
            plain["links"] = [_counted_from_one(names, pair) for pair in fields.get("skeleton") or []]
        if fields.get("upper") is not None:
            plain["upper"] = _indices(names, fields["upper"])
        faults = flip_faults(len(names), plain.get("flip_pairs", ()))
        if faults:
            raise ValueError(f"flip_pairs: {faults[0]}")
        return Skeleton.from_dict({"name": fields.get("name", name), "keypoints": names, **plain})
    except (TypeError, ValueError, KeyError, OverflowError) as error:
        raise PosecliError(f"{origin}: {error}") from error


def flip_faults(count: int, pairs: Sequence[Sequence[int]]) -> list[str]:
    """What is wrong with mirror pairs of `count` keypoints, counted from 0; a keypoint may stand in one pair only."""
    faults = [f"{list(pair)} is not a pair of two keypoints" for pair in pairs if len(set(pair)) != 2 or len(pair) != 2]
    indices = [index for pair in pairs for index in pair]
    faults += [
        f"there is no keypoint {index}, they count from 0 to {count - 1}" for index in indices if not 0 <= index < count
    ]
    repeated = sorted({index for index in indices if indices.count(index) > 1})
    return faults + [f"keypoint {index} stands in more than one pair" for index in repeated]


def _indices(names: Sequence[str], values: Sequence[int | str], base: int = 0) -> list[int]:
    """Keypoint numbers, counted from `base`; names become numbers."""
    unknown = [value for value in values if isinstance(value, str) and value not in names]
    if unknown:
        raise ValueError(f"no keypoint named {unknown[0]!r}; {suggest(str(unknown[0]), names)}")
    return [names.index(value) + base if isinstance(value, str) else int(value) for value in values]


def _counted_from_one(names: Sequence[str], link: Sequence[int | str]) -> list[int]:
    """A link of COCO's `skeleton` as keypoint numbers from 0 on. Raises ValueError in the numbers of the file."""
    numbers = _indices(names, link, 1)
    strange = [number for number in numbers if not 1 <= number <= len(names)]
    if strange:
        raise ValueError(f"skeleton: there is no keypoint {strange[0]}, they count from 1 to {len(names)}")
    return [number - 1 for number in numbers]


def to_fields(skeleton: Skeleton) -> dict[str, Any]:
    """The inverse: COCO's `keypoints` and `skeleton`, and what is known beyond them, pairs by name."""
    names = skeleton.names
    fields: dict[str, Any] = {
        "keypoints": list(names),
        "skeleton": [[first + 1, second + 1] for first, second in skeleton.links],
    }
    if skeleton.flip_pairs is not None:
        fields["flip_pairs"] = [[names[first], names[second]] for first, second in skeleton.flip_pairs]
    if skeleton.upper is not None:
        fields["upper"] = [names[index] for index in skeleton.upper]
    for key in ("sigmas", "weights", "colors"):
        values = getattr(skeleton, key)
        if values is not None:
            fields[key] = [list(value) if isinstance(value, tuple) else value for value in values]
    return fields
