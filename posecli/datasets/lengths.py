"""In which unit lengths are, told by how long the bodies are."""

from __future__ import annotations

import numpy as np

from posecli.console import PosecliError
from posecli.types import FloatArray

MILLIMETRES = {"mm": 1.0, "cm": 10.0, "m": 1000.0}
NAMES = {"mm": "millimetres", "cm": "centimetres", "m": "metres"}
BODY = (400.0, 4000.0)  # millimetres that a body reaches across: from a crouching child to a tall man's raised hand


def millimetres(points: FloatArray, source: str, unit: str = "auto") -> tuple[float, tuple[str, ...]]:
    """The factor that makes millimetres of bodies (N, K, 3), and a sentence where it is not 1.

    `unit` is mm, cm, m, or auto: then the median body's reach tells. Raises PosecliError where it fits none.
    """
    if unit != "auto":
        return MILLIMETRES[unit], ()
    reach = body_reach(points)
    fitting = [name for name, factor in MILLIMETRES.items() if BODY[0] <= factor * reach < BODY[1]]
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


def body_reach(points: FloatArray) -> float:
    """The median over bodies (N, K, 3) of the diagonal of the box around them; unknown joints are NaN."""
    known = np.asarray(np.isfinite(points).all(axis=-1))  # (N, K)
    low = np.where(known[..., None], points, np.inf).min(axis=1)
    high = np.where(known[..., None], points, -np.inf).max(axis=1)
    someone = known.any(axis=1)
    if not someone.any():
        return float("nan")
    return float(np.median(np.linalg.norm(high[someone] - low[someone], axis=-1)))
