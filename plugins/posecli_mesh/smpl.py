"""SMPL (Loper et al., SIGGRAPH Asia 2015) from the user's own file. Nothing in the file is executed, no chumpy needed.

The official files are pickles of Python 2 in which some arrays are chumpy's and the joint regressor is scipy's; core's
reader leaves both as inert records, and the numbers are taken out of those here.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from posecli import console
from posecli.console import PosecliError
from posecli.interop.unpickle import Record, load_npy, load_npz, load_pickle
from posecli.skeleton import house_skeleton
from posecli.types import Array, FloatArray
from posecli_mesh.bodies import BONES, PARENTS, Gender, LinearBody
from posecli_mesh.remembered import remembered

SHAPES = 10
HOW_TO_GET = (
    "register at https://smpl.is.tue.mpg.de (free for research, its licence forbids commercial use), download SMPL for "
    "Python, then run `posecli mesh body set smpl PATH`"
)
GENDERS: dict[str, Gender] = {"m": "male", "f": "female", "n": "neutral"}
OTHER_FAMILIES = re.compile(r"(?<![a-z])(smpl[-_+]?[xh]|mano|flame|smil|star|supr|skel)(?![a-z])")
FIELDS = ("v_template", "shapedirs", "posedirs", "J_regressor", "weights", "kintree_table", "f")


def smpl_body(path: Path | None, gender: Gender, regressor: Path | None) -> LinearBody:
    """SMPL from a file, or from the remembered one of that gender. Raises PosecliError as `open_body`.

    The named joints are those of `body24` by the regressor (24, V) of a .npy file, or SMPL's own where there is none.
    """
    path = find_file(gender) if path is None else _stored(path, gender, f"SMPL file for a {gender} body", HOW_TO_GET)
    if regressor is None and "regressor" in remembered("smpl"):
        regressor = Path(remembered("smpl")["regressor"])
    elif regressor is not None:
        regressor = _stored(regressor, "regressor", "regressor", "`posecli mesh body set smpl PATH --regressor FILE`")
    fields = read_smpl(path, gender)
    template, joints_of = fields["v_template"], fields["J_regressor"]
    directions = fields["shapedirs"][..., :SHAPES]
    of_vertices = None if regressor is None else read_regressor(regressor, len(template))
    return LinearBody(
        template,
        directions,
        joints_of @ template,
        np.einsum("jv,vks->jks", joints_of, directions),
        bones=BONES,
        parents=PARENTS,
        faces=fields["f"],
        weights=fields["weights"],
        joints=BONES if regressor is None else house_skeleton("body24").names,
        of_joints=np.eye(len(BONES)) if of_vertices is None else None,
        of_vertices=of_vertices,
        pose_directions=fields["posedirs"],
    )


def find_file(gender: Gender) -> Path:
    """The remembered file of that gender. Raises PosecliError when there is none, or it has gone."""
    known = remembered("smpl")
    if gender not in known:
        others = ", ".join(other for other in GENDERS.values() if other in known)
        if others:
            raise PosecliError(
                f"no SMPL file for a {gender} body is set, only for {others}: set it with "
                f"`posecli mesh body set smpl PATH --gender {gender}`, or use another gender"
            )
        raise PosecliError(f"no SMPL file for a {gender} body is set: {HOW_TO_GET}")
    path = Path(known[gender])
    if not path.is_file():
        raise PosecliError(f"the SMPL file that was set is gone: no file {path}; {HOW_TO_GET}")
    return path


def _stored(path: Path, use: str, what: str, remedy: str) -> Path:
    """The file that a config names; where it is not there, as a relative path from another folder, the remembered one.

    Raises PosecliError where neither is there.
    """
    path = Path(path).expanduser()
    if path.is_file():
        return path
    known = remembered("smpl").get(use)
    if known is not None and Path(known).is_file():
        console.warn(f"no file {path} (looked for in {Path.cwd()}): the remembered {what} is used, {known}")
        return Path(known)
    instead = "none is remembered" if known is None else f"the remembered {known} is gone too"
    raise PosecliError(f"no {what} {path} (looked for in {Path.cwd()}), and {instead}: {remedy}")


def other_family(path: Path) -> bool:
    """Whether a name in the path is of another body than SMPL, as in smplx/SMPLX_FEMALE.npz or mano/MANO_LEFT.pkl."""
    return any(OTHER_FAMILIES.search(name.lower()) for name in path.parts)


def gender_of(path: Path) -> Gender | None:
    """What the names of the file and its folder say, as in SMPL_FEMALE.npz or basicModel_m_lbs_10_207_0_v1.0.0.pkl."""
    for name in (path.stem, path.parent.name):
        found = re.findall(r"(?<![a-z])(male|female|neutral|m|f|n)(?![a-z])", name.lower())
        if found:
            return GENDERS[found[0][0]]
    return None


def read_smpl(path: Path, gender: Gender) -> dict[str, FloatArray]:
    """The arrays of an SMPL file under its own names. Raises PosecliError when it is missing, another or damaged."""
    if not path.is_file():
        raise PosecliError(f"no SMPL file {path}: no such file; {HOW_TO_GET}")
    content = load_npz(path) if path.suffix == ".npz" else load_pickle(path)
    if not isinstance(content, Mapping):
        raise PosecliError(f"{path} holds a {type(content).__name__}, no SMPL body")
    missing = [field for field in FIELDS if field not in content]
    if missing:
        raise PosecliError(f"{path} is no SMPL body, or a part of one: {', '.join(missing)} missing in it")
    told = gender_of(path) if "gender" not in content else str(np.asarray(content["gender"]).item()).lower()
    if told is not None and told != gender:
        raise PosecliError(
            f"{path} is SMPL's {told} body, and the {gender} one was asked for: give its file, or gender: {told}"
        )
    fields = {field: _numbers(content[field], path, field) for field in FIELDS}
    _check(fields, path)
    return fields


def read_regressor(path: Path, vertices: int) -> FloatArray:
    """A joint regressor (24, V) for the keypoints of `body24`. Raises PosecliError when it does not fit."""
    path = Path(path).expanduser()
    if not path.is_file():
        raise PosecliError(f"no regressor {path}: no such file; a .npy file with an array (24, V) was looked for")
    matrix = load_npy(path)
    expected = (len(house_skeleton("body24")), vertices)
    if matrix.shape != expected or matrix.dtype.kind != "f":
        raise PosecliError(
            f"{path} holds {matrix.dtype} {matrix.shape}, and this body needs a regressor of shape {expected}"
        )
    return matrix


def _check(fields: dict[str, FloatArray], path: Path) -> None:
    """Raises PosecliError where sizes disagree, or numbers cannot be."""
    bones, vertices = len(BONES), len(fields["v_template"])
    parents = fields["kintree_table"]
    if parents.ndim == 2 and parents.shape[1] != bones:
        raise PosecliError(
            f"{path} has {parents.shape[1]} bones and SMPL has {bones}: it is another kind of body "
            "(SMPL-H has 52 bones, SMPL-X 55)"
        )
    expected = {
        "v_template": (vertices, 3),
        "posedirs": (vertices, 3, 9 * (bones - 1)),
        "J_regressor": (bones, vertices),
        "weights": (vertices, bones),
        "kintree_table": (2, bones),
    }
    wrong = [
        f"{name} is {fields[name].shape} instead of {shape}"
        for name, shape in expected.items()
        if fields[name].shape != shape
    ]
    shapes = fields["shapedirs"]
    if shapes.ndim != 3 or shapes.shape[:2] != (vertices, 3) or shapes.shape[2] < SHAPES:
        wrong.append(f"shapedirs is {shapes.shape} instead of {(vertices, 3, SHAPES)}")
    wrong += [
        f"{name} holds values that are no numbers" for name, values in fields.items() if not np.isfinite(values).all()
    ]
    if not wrong and tuple(parents[0, 1:].astype(np.int64).tolist()) != PARENTS[1:]:
        wrong.append("its bones hang together in another way than SMPL's")
    if not wrong and not 0 <= fields["f"].min() <= fields["f"].max() < vertices:
        wrong.append("its faces name vertices that are not there")
    if wrong:
        raise PosecliError(f"{path} is damaged or no SMPL body: {'; '.join(wrong)}")


def _numbers(value: Any, path: Path, field: str) -> FloatArray:
    """The array in a field, whatever wraps it: numpy, scipy's sparse matrices, chumpy."""
    array = _unwrapped(value)
    if array is None or array.dtype.kind not in "fiu":
        raise PosecliError(f"{path}: the field {field} is no array that is known here")
    return array.astype(np.float64)


def _unwrapped(value: Any) -> Array | None:
    if isinstance(value, np.ndarray) and value.dtype == object and value.size == 1:
        value = value.item()
    if isinstance(value, np.ndarray):
        return value
    if not isinstance(value, Record) or not isinstance(value.state, Mapping):
        return None
    if value.name.startswith("scipy.sparse"):
        return _dense(value.state)
    if value.name.startswith("chumpy"):
        return _of_chumpy(value.state)
    return None


def _of_chumpy(state: Mapping[str, Any]) -> Array | None:
    """A chumpy array: its numbers are `x`; of a selection, those of `a` at `idxs` in the shape `preferred_shape`."""
    if "x" in state:
        return _unwrapped(state["x"])
    source = _unwrapped(state.get("a"))
    if source is None or "idxs" not in state:
        return None
    chosen = source.ravel()[np.asarray(state["idxs"])]
    shape = state.get("preferred_shape")
    return np.asarray(chosen if shape is None else chosen.reshape(shape))


def _dense(state: Mapping[str, Any]) -> Array | None:
    """A sparse matrix of scipy in full: compressed by columns or rows, or listed entry by entry."""
    from scipy import sparse

    shape = state.get("_shape", state.get("shape"))
    if shape is None or "data" not in state:
        return None
    if "row" in state or "coords" in state:  # before and since scipy 1.11
        places = state["coords"] if "coords" in state else (state["row"], state["col"])
        return np.asarray(sparse.coo_matrix((state["data"], tuple(places)), shape=shape).toarray())
    if "indptr" not in state:
        return None
    by_columns = len(state["indptr"]) == shape[1] + 1
    kind = sparse.csc_matrix if by_columns else sparse.csr_matrix
    return np.asarray(kind((state["data"], state["indices"], state["indptr"]), shape=shape).toarray())
