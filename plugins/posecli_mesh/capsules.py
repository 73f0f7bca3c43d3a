"""The built-in body, made by code: limbs are rounded tubes around SMPL's bones, the shape is ten plain measures."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import numpy as np

from posecli.skeleton import house_skeleton
from posecli.types import FloatArray, IntArray
from posecli_mesh.bodies import BONES, PARENTS, LinearBody

SIDES = 16  # corners of a ring
BETWEEN = 2  # rings from one station of a tube to the next
CAP = (0.5, 0.866)  # how far the rings of a rounded end lie out, as a fraction of its length


@dataclass(frozen=True)
class Measures:
    """What makes one body differ from another, in standard deviations from the mean."""

    stature: float = 0.0
    girth: float = 0.0  # of everything
    legs: float = 0.0
    arms: float = 0.0
    trunk: float = 0.0  # its height
    shoulders: float = 0.0  # their breadth
    hips: float = 0.0
    belly: float = 0.0
    limbs: float = 0.0  # their thickness
    head: float = 0.0


@dataclass(frozen=True)
class Station:
    """A place along a tube: centre, half the size along the ring's two axes, and which bones the skin there follows."""

    center: FloatArray  # (3,) metres
    radii: tuple[float, float]
    bones: dict[str, float]


@dataclass(frozen=True)
class Tube:
    """Rings around a line of stations, rounded at both ends; `across` are the two axes of a ring, (2, 3)."""

    stations: list[Station]
    across: FloatArray
    caps: tuple[float, float] = (0.03, 0.03)  # how far the rounded ends stand out, metres


@dataclass(frozen=True)
class Surface:
    """The skin of one body at rest."""

    vertices: FloatArray  # (V, 3)
    faces: IntArray  # (F, 3)
    weights: FloatArray  # (V, P)
    rings: dict[str, IntArray]  # tube name -> (rings, SIDES) indices of vertices
    poles: dict[str, tuple[int, int]]  # tube name -> its first and last vertex


X, Y, Z = np.eye(3)


def capsule_body() -> LinearBody:
    """The built-in body: SMPL's 24 bones, ten directions of shape, and the keypoints of the skeleton `body24`."""
    surface, joints = _build(Measures())
    skin, bones = [], []
    for field in dataclasses.fields(Measures):
        above, below = (_build(Measures(**{field.name: value})) for value in (1.0, -1.0))
        skin.append((above[0].vertices - below[0].vertices) / 2)
        bones.append((above[1] - below[1]) / 2)
    names, of_joints, of_vertices = _keypoints(surface)
    return LinearBody(
        surface.vertices,
        np.stack(skin, axis=-1),
        joints,
        np.stack(bones, axis=-1),
        bones=BONES,
        parents=PARENTS,
        faces=surface.faces,
        weights=surface.weights,
        joints=names,
        of_joints=of_joints,
        of_vertices=of_vertices,
    )


def _build(measures: Measures) -> tuple[Surface, FloatArray]:
    """The skin and the joints (P, 3) of a body."""
    joints = _joints(measures)
    scale = 1 + 0.04 * measures.stature
    surface = _skin(_tubes(measures, joints))
    return dataclasses.replace(surface, vertices=surface.vertices * scale), np.stack(list(joints.values())) * scale


def _joints(measures: Measures) -> dict[str, FloatArray]:
    """Where the bones of a body 1.72 m tall turn, arms stretched out to the sides; proportions of an adult."""
    legs, arms, trunk = 1 + 0.05 * measures.legs, 1 + 0.05 * measures.arms, 1 + 0.05 * measures.trunk
    hip = 0.085 * (1 + 0.08 * measures.hips)
    shoulder = 0.17 * (1 + 0.07 * measures.shoulders)
    places = {
        "pelvis": (0, 0, 0),
        "left_hip": (hip, -0.07, 0),
        "left_knee": (hip, -0.07 - 0.40 * legs, 0.005),
        "left_ankle": (hip, -0.07 - 0.80 * legs, -0.02),
        "left_foot": (hip + 0.01, -0.13 - 0.80 * legs, 0.11),
        "spine1": (0, 0.10 * trunk, -0.01),
        "spine2": (0, 0.22 * trunk, -0.01),
        "spine3": (0, 0.31 * trunk, 0),
        "neck": (0, 0.49 * trunk, -0.01),
        "head": (0, 0.49 * trunk + 0.09, 0.01),
        "left_collar": (0.06, 0.43 * trunk, 0),
        "left_shoulder": (shoulder, 0.44 * trunk, 0),
        "left_elbow": (shoulder + 0.27 * arms, 0.44 * trunk, -0.01),
        "left_wrist": (shoulder + 0.52 * arms, 0.44 * trunk, 0),
        "left_hand": (shoulder + 0.60 * arms, 0.44 * trunk, 0.005),
    }
    mirror = np.array([-1.0, 1.0, 1.0])
    known = {name: np.array(place, dtype=np.float64) for name, place in places.items()}
    return {bone: known[bone] if bone in known else known[bone.replace("right", "left")] * mirror for bone in BONES}


def _tubes(measures: Measures, joints: dict[str, FloatArray]) -> dict[str, Tube]:
    limbs = (1 + 0.10 * measures.girth) * (1 + 0.10 * measures.limbs)
    tubes = {"trunk": _trunk(measures, joints), "head": _head(measures, joints)}
    for side, sign in (("left", 1.0), ("right", -1.0)):
        tubes[f"{side}_leg"] = _leg(side, sign, limbs, joints)
        tubes[f"{side}_foot"] = _foot(side, limbs, joints)
        tubes[f"{side}_arm"] = _arm(side, sign, limbs, joints)
    return tubes


def _trunk(measures: Measures, joints: dict[str, FloatArray]) -> Tube:
    """From the crotch up to the inside of the head."""
    girth, hips = 1 + 0.10 * measures.girth, 1 + 0.08 * measures.hips
    chest, belly = 1 + 0.06 * measures.shoulders, 0.03 * measures.belly
    spine = {bone: joints[bone] for bone in ("spine1", "spine2", "spine3", "neck", "head")}
    low, waist, ribs, top, skull = spine.values()
    stations = [
        Station(-0.10 * Y, (0.11 * hips, 0.085), {"pelvis": 1}),
        Station(-0.05 * Y, (0.155 * hips, 0.11), {"pelvis": 1}),
        Station(0.02 * Y, (0.165 * hips, 0.118 + belly / 3), {"pelvis": 1}),
        Station(low + belly / 2 * Z, (0.148 + belly / 2, 0.108 + belly), {"pelvis": 0.5, "spine1": 0.5}),
        Station((low + waist) / 2 + belly / 2 * Z, (0.138 + belly / 2, 0.1 + belly), {"spine1": 1}),
        Station(waist + belly / 4 * Z, (0.145 + belly / 4, 0.104 + belly / 2), {"spine1": 0.5, "spine2": 0.5}),
        Station(ribs + 0.01 * Z, (0.16 * chest, 0.118), {"spine2": 0.5, "spine3": 0.5}),
        Station(ribs + 0.4 * (top - ribs), (0.168 * chest, 0.112), {"spine3": 1}),
        Station(ribs + 0.72 * (top - ribs), (0.15 * chest, 0.09), {"spine3": 1}),
        Station(ribs + 0.93 * (top - ribs), (0.085, 0.068), {"spine3": 0.8, "neck": 0.2}),
        Station(top + 0.02 * Y, (0.058, 0.06), {"neck": 1}),
        Station(skull, (0.055, 0.058), {"neck": 0.5, "head": 0.5}),
        Station(skull + 0.04 * Y, (0.05, 0.05), {"head": 1}),
    ]
    return Tube(_thicker(stations, girth), np.stack([X, Z]), (0.04, 0.02))


def _head(measures: Measures, joints: dict[str, FloatArray]) -> Tube:
    size, base = 1 + 0.05 * measures.head, joints["head"]
    lower = (0.0, 0.045, 0.05, 0.055), (0.045, 0.025, 0.066, 0.085)  # up, forward, half width, half depth
    upper = (0.09, 0.012, 0.075, 0.098), (0.14, 0.0, 0.076, 0.098)
    stations = [
        Station(base + size * (up * Y + front * Z), (size * wide, size * deep), {"head": 1})
        for up, front, wide, deep in (*lower, *upper)
    ]
    return Tube(stations, np.stack([X, Z]), (0.02 * size, 0.07 * size))


def _leg(side: str, sign: float, thick: float, joints: dict[str, FloatArray]) -> Tube:
    names = [f"{side}_{part}" for part in ("hip", "knee", "ankle")]
    hip, knee, ankle = (joints[name] for name in names)
    thigh, shin = knee - hip, ankle - knee
    stations = [
        Station(hip + 0.05 * Y - 0.01 * sign * X, (0.078, 0.088), {"pelvis": 0.8, names[0]: 0.2}),
        Station(hip, (0.084, 0.094), {"pelvis": 0.5, names[0]: 0.5}),
        Station(hip + 0.18 * thigh, (0.08, 0.09), {names[0]: 1}),
        Station(hip + 0.55 * thigh, (0.066, 0.073), {names[0]: 1}),
        Station(hip + 0.88 * thigh, (0.052, 0.056), {names[0]: 1}),
        Station(knee, (0.05, 0.055), {names[0]: 0.5, names[1]: 0.5}),
        Station(knee + 0.12 * shin - 0.005 * Z, (0.048, 0.055), {names[1]: 1}),
        Station(knee + 0.38 * shin - 0.012 * Z, (0.049, 0.057), {names[1]: 1}),
        Station(knee + 0.85 * shin, (0.033, 0.037), {names[1]: 1}),
        Station(ankle, (0.034, 0.04), {names[1]: 0.5, names[2]: 0.5}),
        Station(ankle - 0.04 * Y, (0.034, 0.045), {names[2]: 1}),
    ]
    return Tube(_thicker(stations, thick), np.stack([X, Z]))


def _foot(side: str, thick: float, joints: dict[str, FloatArray]) -> Tube:
    heel, toes = f"{side}_ankle", f"{side}_foot"
    ankle, ball = joints[heel], joints[toes]
    middle = (ankle + ball) / 2
    stations = [
        Station(ankle - 0.05 * Y - 0.035 * Z, (0.032, 0.034), {heel: 1}),
        Station(middle - 0.012 * Y, (0.036, 0.038), {heel: 1}),
        Station(ball, (0.043, 0.025), {heel: 0.5, toes: 0.5}),
        Station(ball + 0.055 * Z - 0.005 * Y, (0.035, 0.018), {toes: 1}),
    ]
    return Tube(_thicker(stations, 1 + (thick - 1) / 2), np.stack([X, -Y]), (0.025, 0.02))


def _arm(side: str, sign: float, thick: float, joints: dict[str, FloatArray]) -> Tube:
    names = [f"{side}_{part}" for part in ("collar", "shoulder", "elbow", "wrist", "hand")]
    collar, shoulder, elbow, wrist, hand = (joints[name] for name in names)
    upper, fore = elbow - shoulder, wrist - elbow
    stations = [
        Station(collar, (0.055, 0.05), {names[0]: 1}),
        Station((collar + shoulder) / 2, (0.06, 0.056), {names[0]: 0.9, names[1]: 0.1}),
        Station(shoulder, (0.06, 0.056), {names[0]: 0.5, names[1]: 0.5}),
        Station(shoulder + 0.22 * upper, (0.05, 0.05), {names[1]: 1}),
        Station(shoulder + 0.85 * upper, (0.038, 0.04), {names[1]: 1}),
        Station(elbow, (0.037, 0.038), {names[1]: 0.5, names[2]: 0.5}),
        Station(elbow + 0.2 * fore, (0.04, 0.038), {names[2]: 1}),
        Station(elbow + 0.85 * fore, (0.024, 0.028), {names[2]: 1}),
        Station(wrist, (0.02, 0.027), {names[2]: 0.5, names[3]: 0.5}),
        Station((wrist + hand) / 2, (0.016, 0.04), {names[3]: 1}),
        Station(hand, (0.014, 0.042), {names[3]: 0.5, names[4]: 0.5}),
        Station(hand + 0.07 * sign * X, (0.009, 0.03), {names[4]: 1}),
    ]
    return Tube(_thicker(stations, thick), np.stack([Y, sign * Z]), (0.02, 0.02))


def _thicker(stations: list[Station], factor: float) -> list[Station]:
    return [
        dataclasses.replace(station, radii=(station.radii[0] * factor, station.radii[1] * factor))
        for station in stations
    ]


# --- from tubes to a mesh -------------------------------------------------------------------------------------------


def _skin(tubes: dict[str, Tube]) -> Surface:
    vertices, faces, weights = [], [], []
    rings: dict[str, IntArray] = {}
    poles: dict[str, tuple[int, int]] = {}
    first = 0
    for name, tube in tubes.items():
        points, follows = _rings(tube)
        count = len(points) * SIDES
        ends = _ends(tube)
        vertices += [points.reshape(-1, 3), ends]
        weights += [np.repeat(follows, SIDES, axis=0), follows[[0, -1]]]
        rings[name] = first + np.arange(count).reshape(-1, SIDES)
        poles[name] = (first + count, first + count + 1)
        triangles = _faces(rings[name], poles[name])
        clockwise = np.cross(tube.across[0], tube.across[1]) @ _along(tube) > 0  # seen from outside
        faces.append(triangles[:, ::-1] if clockwise else triangles)
        first += count + 2
    return Surface(np.concatenate(vertices), np.concatenate(faces), np.concatenate(weights), rings, poles)


def _rings(tube: Tube) -> tuple[FloatArray, FloatArray]:
    """The points of each ring (R, SIDES, 3) and the bones it follows (R, P), the rounded ends included."""
    from scipy.interpolate import PchipInterpolator

    known = np.arange(len(tube.stations))
    places = np.linspace(0, known[-1], known[-1] * BETWEEN + 1)
    table = np.array([[*station.center, *station.radii] for station in tube.stations])
    smooth = PchipInterpolator(known, table)(places)
    follows = np.stack([np.interp(places, known, column) for column in _follows(tube).T], axis=-1)
    along = _along(tube)
    below = [_cap(smooth[0], -along * tube.caps[0], out) for out in reversed(CAP)]
    above = [_cap(smooth[-1], along * tube.caps[1], out) for out in CAP]
    rows = np.stack([*below, *smooth, *above])
    follows = np.concatenate([follows[:1]] * len(below) + [follows] + [follows[-1:]] * len(above))
    angles = 2 * np.pi * np.arange(SIDES) / SIDES
    circle = rows[:, None, 3:] * np.stack([np.cos(angles), np.sin(angles)], axis=-1)  # (R, SIDES, 2)
    return rows[:, None, :3] + circle @ tube.across, follows


def _follows(tube: Tube) -> FloatArray:
    """How much each station follows each bone, (stations, P)."""
    return np.array([[station.bones.get(bone, 0.0) for bone in BONES] for station in tube.stations])


def _along(tube: Tube) -> FloatArray:
    """The unit vector across the rings that points from the first station to the last."""
    normal = np.cross(tube.across[0], tube.across[1])
    return np.asarray(normal * np.sign(normal @ (tube.stations[-1].center - tube.stations[0].center)))


def _cap(row: FloatArray, outward: FloatArray, out: float) -> FloatArray:
    """A ring of a rounded end: `out` of the way to the pole, on a half ellipse."""
    return np.concatenate([row[:3] + out * outward, row[3:] * np.sqrt(1 - out**2)])


def _ends(tube: Tube) -> FloatArray:
    along = _along(tube)
    return np.stack([tube.stations[0].center - along * tube.caps[0], tube.stations[-1].center + along * tube.caps[1]])


def _faces(rings: IntArray, poles: tuple[int, int]) -> IntArray:
    """Triangles between neighbouring rings and to the poles, (F, 3)."""
    here, above = rings[:-1], rings[1:]
    right, above_right = np.roll(here, -1, axis=1), np.roll(above, -1, axis=1)
    sides = [
        np.stack(corners, axis=-1).reshape(-1, 3) for corners in ((here, above, right), (right, above, above_right))
    ]
    first, last = rings[0], rings[-1]
    low = np.stack([np.full(SIDES, poles[0]), first, np.roll(first, -1)], axis=-1)
    high = np.stack([np.full(SIDES, poles[1]), np.roll(last, -1), last], axis=-1)
    return np.concatenate([*sides, low, high])


# --- keypoints ------------------------------------------------------------------------------------------------------


def _keypoints(surface: Surface) -> tuple[tuple[str, ...], FloatArray, FloatArray]:
    """The names of `body24`, and each keypoint as a mean of joints (K, P) or of vertices (K, V)."""
    names = house_skeleton("body24").names
    of_joints = np.zeros((len(names), len(BONES)))
    of_vertices = np.zeros((len(names), len(surface.vertices)))
    joints = {"thorax": ("left_shoulder", "right_shoulder"), "spine": ("spine2",)}
    vertices = _landmarks(surface)
    for row, name in enumerate(names):
        if name in vertices:
            of_vertices[row, vertices[name]] = 1 / len(vertices[name])
        else:
            bones = joints.get(name, (name,))
            of_joints[row, [BONES.index(bone) for bone in bones]] = 1 / len(bones)
    return names, of_joints, of_vertices


def _landmarks(surface: Surface) -> dict[str, list[int]]:
    """The vertices that keypoints of the head lie on, or between."""
    rings = surface.rings["head"]
    level = {height: len(CAP) + station * BETWEEN for height, station in (("chin", 0), ("nose", 1), ("eyes", 2))}
    front, beside = SIDES // 4, 1  # a ring begins at the body's left and goes round by the front
    eyes, middle = rings[level["eyes"]], rings[level["eyes"]].tolist()
    return {
        "head_top": [surface.poles["head"][1]],
        "jaw": [int(rings[level["chin"], front])],
        "head": middle,
        "nose": [int(rings[level["nose"], front])],
        "left_eye": [int(eyes[front - beside])],
        "right_eye": [int(eyes[front + beside])],
        "left_ear": [int(eyes[0])],
        "right_ear": [int(eyes[SIDES // 2])],
    }
