"""In which unit lengths are, told by how long the bodies are."""

from __future__ import annotations

import numpy as np

from posecli.console import PosecliError
from posecli.types import FloatArray

MILLIMETRES = {"mm": 1.0, "cm": 10.0, "m": 1000.0}
NAMES = {"mm": "millimetres", "cm": "centimetres", "m": "metres"}
BODY = (400.0, 4000.0)  # millimetres that a body reaches across: from a crouching child to a tall man's raised hand
BODY_JOINTS = (17, 133)  # keypoints of the house's bodies in 3D; others may be hands, faces or animals
ASKED = 10000  # poses that are measured at most


def millimetres(points: FloatArray, source: str, unit: str = "auto") -> tuple[float, tuple[str, ...]]:
    """The factor that makes millimetres of bodies (N, K, 3), and a sentence where it is not 1.

    `unit` is mm, cm, m, or auto: then the median body's reach tells. Raises PosecliError where it fits none.
    """
    if unit != "auto":
        return MILLIMETRES[unit], ()
    reach = body_reach(points)
    fitting = _fitting(reach)
    if not fitting:
        raise PosecliError(
            f"{source}: the median body reaches {reach:.4g} across, which fits neither millimetres (about 1700) nor "
            "centimetres (170) nor metres (1.7); say which with unit=mm, cm or m"
        )
    if fitting[0] == "mm":
        return 1.0, ()
    factor = MILLIMETRES[fitting[0]]
    told = f"3D lengths are in {NAMES[fitting[0]]}, the median body reaches {reach:.3g}: read as millimetres"
    return factor, (told,)


def _fitting(reach: float) -> list[str]:
    """The units in which a body may reach so far."""
    return [name for name, factor in MILLIMETRES.items() if BODY[0] <= factor * reach < BODY[1]]


def check_millimetres(points: FloatArray, source: str) -> None:
    """Raise PosecliError where poses (N, K, 3), NaN = unknown, are not in millimetres, as far as their reach tells.

    The median of poses that are at least half known counts. Whatever is not known to be a body may be small, but for
    reaching less than four millimetres: then it is in metres.
    """
    some = points[:: max(1, len(points) // ASKED)]
    reach = body_reach(some[np.isfinite(some).all(axis=-1).mean(axis=-1) >= 0.5])
    low, high = BODY if points.shape[1] in BODY_JOINTS else (BODY[1] / 1000, np.inf)
    if not (reach < low or reach >= high):  # so NaN passes
        return
    fitting = _fitting(reach) or (["m"] if 0 < reach < BODY[1] / 1000 else [])
    unit = f"are in {NAMES[fitting[0]]}" if fitting else "are in an unknown unit"
    cure = f"multiply them by {MILLIMETRES[fitting[0]]:.0f}" if fitting else "convert them"
    raise PosecliError(
        f"{source}: keypoints_3d {unit}, the median pose reaches {reach:.3g} across; posecli's own files hold camera "
        f"millimetres: {cure}, and the cameras' positions where they are alike"
    )


def body_reach(points: FloatArray) -> float:
    """The median over bodies (N, K, 3) of the diagonal of the box around them; unknown joints are NaN."""
    known = np.asarray(np.isfinite(points).all(axis=-1))  # (N, K)
    low = np.where(known[..., None], points, np.inf).min(axis=1)
    high = np.where(known[..., None], points, -np.inf).max(axis=1)
    someone = known.any(axis=1)
    if not someone.any():
        return float("nan")
    return float(np.median(np.linalg.norm(high[someone] - low[someone], axis=-1)))
