"""The skin and clothes of synthetic people: rings around the bones, joined to four-cornered facets.

A part is a stack of rings. Each ring is an ellipse of CORNERS points in the plane of its frame's x (thickness) and y
(width) axes, so a facet's corners run counter-clockwise as seen from outside when the rings go up along z.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from posecli.datasets.synthetic_body import FRAMES, JOINTS
from posecli.datasets.synthetic_draws import Draws
from posecli.datasets.synthetic_scene import FACE, SKULL, Scenes
from posecli.types import BoolArray, FloatArray, IntArray

CORNERS = 8  # of a ring

# Half width and half thickness by name, as parts of the stature; those of the skull are parts of the head instead.
GIRTHS = {
    "hips": (0.094, 0.066),
    "waist": (0.078, 0.058),
    "chest": (0.095, 0.068),
    "shoulders": (0.104, 0.055),
    "neck": (0.033, 0.035),
    "upper arm": (0.029, 0.030),
    "forearm": (0.024, 0.024),
    "hand": (0.022, 0.012),
    "thigh": (0.050, 0.054),
    "shank": (0.034, 0.036),
    "foot": (0.029, 0.030),
    "skirt": (0.110, 0.090),
}


class Ring(NamedTuple):
    """One ring: its centre lies at `share` of the way from the part's lower to its upper joint."""

    share: float
    width: float = 1.0
    thickness: float | None = None  # None: as the width


class Part(NamedTuple):
    """A stack of rings about the line between two joints."""

    name: str
    lower: str
    upper: str
    frame: str
    girth: str
    rings: tuple[Ring, ...]
    reach: tuple[float, float] = (0.0, 0.0)  # how far down the arm or leg its lower and upper end are, 0 to 1


_HIPS = (Ring(-0.75, 0), Ring(-0.65, 0.6), Ring(-0.2, 1.0), Ring(0.25, 1.0))
_CHEST = (Ring(0.2, 0.88, 0.9), Ring(0.42, 0.98), Ring(0.64, 1.02), Ring(0.8, 1.0, 0.9))
_SHOULDERS = (Ring(0.8, 0.92, 1.1), Ring(0.93, 0.88), Ring(1.02, 0.42, 0.7), Ring(1.06, 0))
_UPPER_ARM = (Ring(-0.1, 0), Ring(0, 0.86), Ring(0.5, 0.95), Ring(0.88, 1.15), Ring(1.04, 0.95), Ring(1.12, 0))
_FOREARM = (Ring(-0.05, 0), Ring(0.0, 0.78), Ring(0.3, 0.85), Ring(0.65, 1.1), Ring(1.0, 1.0), Ring(1.08, 0))
_HAND = (Ring(0, 0), Ring(0.12, 0.8), Ring(0.6, 1.1), Ring(1.0, 0.9, 1.2), Ring(1.1, 0))
_THIGH = (Ring(-0.07, 0), Ring(0.0, 0.72), Ring(0.45, 0.9), Ring(0.85, 1.03), Ring(1.05, 0.8), Ring(1.12, 0))
_SHANK = (Ring(-0.03, 0), Ring(0.0, 0.62), Ring(0.35, 0.78), Ring(0.7, 1.08), Ring(1.0, 1.02), Ring(1.06, 0))
_FOOT = (
    Ring(-0.03, 0),
    Ring(0.06, 0.85, 0.45),
    Ring(0.4, 1.05, 0.75),
    Ring(0.78, 0.95, 1.25),
    Ring(1.0, 0.8, 1.2),
    Ring(1.03, 0),
)
_SKULL = (
    Ring(0.0, 0),
    Ring(0.05, 0.5, 0.55),
    Ring(0.25, 0.84, 0.87),
    Ring(0.5, 1.0, 0.97),
    Ring(0.75, 0.92, 0.94),
    Ring(0.93, 0.55, 0.6),
    Ring(1.0, 0),
)
_HAIR = (Ring(0.0, 0.55, 0.3), Ring(0.35, 0.9, 0.4), Ring(0.8, 0.9, 0.4), Ring(1.05, 0))


@functools.cache
def body_parts() -> tuple[Part, ...]:
    """All parts of a person, in a fixed order."""
    parts = [
        Part("skirt", "hem", "waist", "pelvis", "skirt", (Ring(0, 0), Ring(0, 1.3), Ring(0.45, 1.0), Ring(0.95, 0.65))),
        Part("pelvis", "pelvis", "waist", "pelvis", "hips", _HIPS),
        Part("pelvis", "pelvis", "waist", "waist", "waist", (Ring(0.25, 1.19, 1.1), Ring(0.62, 1.06), Ring(1.0, 1.0))),
        Part("trunk", "waist", "neck", "chest", "waist", (Ring(-0.05, 1.0), Ring(0.2, 1.05))),
        Part("trunk", "waist", "neck", "chest", "chest", _CHEST),
        Part("trunk", "waist", "neck", "chest", "shoulders", _SHOULDERS),
        Part("neck", "neck", "chin", "chest", "neck", (Ring(-0.1, 1.2), Ring(0.5, 1.0), Ring(1.4, 0.95))),
        Part("head", "chin", "crown", "head", "skull", _SKULL),
        Part("hair", "hair_end", "nape", "head", "hair", _HAIR),
    ]
    for side in ("left", "right"):
        parts += [
            Part(
                f"{side}_upper_arm",
                f"{side}_elbow",
                f"{side}_shoulder",
                f"{side}_upper_arm",
                "upper arm",
                _UPPER_ARM,
                (0.55, 0),
            ),
            Part(
                f"{side}_forearm", f"{side}_wrist", f"{side}_elbow", f"{side}_forearm", "forearm", _FOREARM, (1, 0.55)
            ),
            Part(f"{side}_hand", f"{side}_fingers", f"{side}_wrist", f"{side}_hand", "hand", _HAND),
            Part(f"{side}_thigh", f"{side}_knee", f"{side}_hip", f"{side}_thigh", "thigh", _THIGH, (0.5, 0)),
            Part(f"{side}_shank", f"{side}_ankle", f"{side}_knee", f"{side}_shank", "shank", _SHANK, (1, 0.5)),
            Part(f"{side}_foot", f"{side}_toe", f"{side}_heel", f"{side}_foot", "foot", _FOOT),
        ]
    return tuple(parts)


class Decal(NamedTuple):
    """A facet on the face: four corners in half skulls (forward, left, up), counter-clockwise from outside."""

    kind: str
    corners: tuple[tuple[float, float, float], ...]
    lift: float  # millimetres nearer to the camera than it is, so that it is drawn after what it lies on


@functools.cache
def face_decals() -> tuple[Decal, ...]:
    """Eyes, brows, nose, mouth and ears."""
    bridge, tip = (0.96, 0.0, 0.15), FACE["nose"]
    decals = [
        Decal("lips", ((0.92, -0.3, -0.50), (0.92, 0.3, -0.50), (0.96, 0.26, -0.40), (0.96, -0.26, -0.40)), 14),
        Decal("nose", (tip, (0.92, 0.2, -0.2), bridge, bridge), 16),
        Decal("nose", ((0.92, -0.2, -0.2), tip, bridge, bridge), 16),
    ]
    for sign in (1.0, -1.0):
        x, y, z = FACE["left_eye"]
        decals += [
            _patch("eye", (x, sign * y, z), 0.02, 0.17, 0.07, 13),
            _patch("pupil", (x + 0.01, sign * y, z), 0.01, 0.08, 0.075, 18),
            _patch("brow", (x - 0.01, sign * y, z + 0.2), 0.02, 0.24, 0.035, 13),
        ]
        front, back = (0.12, sign * 0.98), (-0.28, sign * 1.22)
        ear = ((*front, -0.22), (*back, -0.15), (*back, 0.2), (*front, 0.22))
        # Seen from the left the front of the head is on the left: one side of the ear faces that way, one the other.
        decals += [Decal("ear", ear, 10), Decal("ear", ear[::-1], 10)]
    return tuple(decals)


def _patch(kind: str, at: tuple[float, float, float], slope: float, width: float, height: float, lift: float) -> Decal:
    x, y, z = at
    left, right = x - slope * np.sign(y), x + slope * np.sign(y)
    corners = (
        (right, y - width, z - height),
        (left, y + width, z - height),
        (left, y + width, z + height),
        (right, y - width, z + height),
    )
    return Decal(kind, corners, lift)


@dataclass(frozen=True)
class Facets:
    """The facets of every person alike: V corners, Q facets."""

    lower: IntArray  # (R,) joint of each ring
    upper: IntArray  # (R,)
    share: FloatArray  # (R,)
    frame: IntArray  # (R,)
    axes: tuple[IntArray, IntArray]  # (R,), (R,): which columns of the frame hold thickness and width
    girth: IntArray  # (R,) row of the girth table
    half: FloatArray  # (R, 2) factors of thickness, width
    corners: IntArray  # (Q, 4) indices of vertices
    part: IntArray  # (Q,) index into body_parts(); decals belong to the head
    kind: tuple[str, ...]  # (Q,) the part's name, or the decal's kind
    reach: FloatArray  # (Q,) how far down the arm or leg
    level: IntArray  # (Q,) which ring of its part
    column: IntArray  # (Q,) which corner of its ring; 0 looks forward
    lift: FloatArray  # (Q,) millimetres
    decals: FloatArray  # (D * 4, 3) corners in half skulls


@functools.cache
def facets() -> Facets:
    """The table of all facets, made once."""
    parts, names = body_parts(), [*GIRTHS, "skull", "hair"]
    rings = [(number, part, ring) for number, part in enumerate(parts) for ring in part.rings]
    rows = []
    for first, (number, part, ring) in enumerate(rings[:-1]):
        if rings[first + 1][0] != number:
            continue
        share = (ring.share + rings[first + 1][2].share) / 2
        reach = part.reach[0] + (part.reach[1] - part.reach[0]) * min(max(share, 0.0), 1.0)
        level = first - next(place for place, other in enumerate(rings) if other[0] == number)
        for column in range(CORNERS):
            low, after = first * CORNERS + column, first * CORNERS + (column + 1) % CORNERS
            rows.append(((low, after, after + CORNERS, low + CORNERS), number, part.name, reach, level, column, 0.0))
    head = next(number for number, part in enumerate(parts) if part.name == "head")
    for place, decal in enumerate(face_decals()):
        first = len(rings) * CORNERS + 4 * place
        rows.append(((first, first + 1, first + 2, first + 3), head, decal.kind, 0.0, 0, 0, decal.lift))
    corners, part_of, kinds, reaches, levels, columns, lifts = zip(*rows, strict=True)
    # The rings of a foot stand upright across it: their thickness lies along the frame's z.
    upright = np.array([part.girth == "foot" for _, part, _ in rings])
    return Facets(
        lower=np.array([JOINTS.index(part.lower) for _, part, _ in rings]),
        upper=np.array([JOINTS.index(part.upper) for _, part, _ in rings]),
        share=np.array([ring.share for _, _, ring in rings]),
        frame=np.array([FRAMES.index(part.frame) for _, part, _ in rings]),
        axes=(np.where(upright, 2, 0), np.ones(len(rings), np.int64)),
        girth=np.array([names.index(part.girth) for _, part, _ in rings]),
        half=np.array([(ring.width if ring.thickness is None else ring.thickness, ring.width) for _, _, ring in rings]),
        corners=np.array(corners),
        part=np.array(part_of),
        kind=kinds,
        reach=np.array(reaches),
        level=np.array(levels),
        column=np.array(columns),
        lift=np.array(lifts),
        decals=np.array([decal.corners for decal in face_decals()]).reshape(-1, 3),
    )


@dataclass(frozen=True)
class Look:
    """What M people wear and look like."""

    palette: FloatArray  # (M, C, 3) RGB 0 to 255, in the order of COLORS
    material: IntArray  # (M, Q) row of the palette, for every facet
    girths: FloatArray  # (M, G, 2) half thickness and half width by the rows of the girth table, millimetres

    def take(self, rows: slice) -> Look:
        """Some people."""
        return Look(self.palette[rows], self.material[rows], self.girths[rows])


COLORS = ("skin", "hair", "top", "trim", "bottom", "stripe", "shoe", "sock", "white", "pupil", "lips")


def dress(scenes: Scenes) -> Look:
    """Draw clothes, colours and girths by lot; both sides of a person are alike."""
    draws = scenes.draws()
    return Look(_palette(draws), _materials(draws), _girths(scenes, draws))


def _palette(draws: Draws) -> FloatArray:
    light, dark = np.array([244.0, 208, 182]), np.array([72.0, 44, 30])
    tone = draws.uniform("skin")[:, None]
    skin = light + (dark - light) * tone + 10 * (draws.uniform("complexion", -1, 1)[:, None] * np.array([1.0, 0, -1]))
    hairs = np.array(
        [(25, 20, 18), (60, 40, 28), (110, 75, 45), (200, 165, 100), (150, 70, 35), (150, 148, 145), (70, 60, 160)]
    )
    hair = hairs[draws.choice("hair colour", (6, 5, 3, 2, 1, 2, 0.5))] * draws.uniform("hair shade", 0.8, 1.2)[:, None]
    cloth = {name: _cloth(draws, name) for name in ("top", "trim", "bottom", "stripe", "shoe", "sock")}
    # One in ten wears skin-like cloth, so that skin colour alone tells nothing.
    bare = draws.uniform("skin-like top")[:, None] < 0.1
    cloth["top"] = np.where(bare, skin * draws.uniform("bare", 0.85, 1.1)[:, None], cloth["top"])
    pupil = np.array([45.0, 35, 30]) * np.ones_like(skin)
    white, lips = skin * 0.35 + 155, skin * np.array([0.82, 0.6, 0.6])
    colors = {"skin": skin, "hair": hair, **cloth, "white": white, "pupil": pupil, "lips": lips}
    return np.stack([np.clip(colors[name], 5, 250) for name in COLORS], axis=1)


def _cloth(draws: Draws, name: str) -> FloatArray:
    """A colour of any hue, (M, 3); greys, black and white as often as they are worn."""
    hue = draws.uniform(f"{name} hue")[:, None]
    rainbow = 0.5 + 0.5 * np.cos(2 * np.pi * (hue + np.array([0, 1 / 3, 2 / 3])))
    strength = np.where(draws.uniform(f"{name} grey") < 0.35, 0.06, draws.uniform(f"{name} strength", 0.2, 0.9))[
        :, None
    ]
    return np.asarray((1 - strength + strength * rainbow) * draws.uniform(f"{name} value", 25, 250)[:, None])


def _girths(scenes: Scenes, draws: Draws) -> FloatArray:
    stature, girth = scenes.stature.astype(np.float64), scenes.girth.astype(np.float64)
    head = np.sqrt(
        ((scenes.joints[:, JOINTS.index("crown")] - scenes.joints[:, JOINTS.index("chin")]) ** 2).sum(axis=-1)
    )
    rows = []
    for name, (width, thickness) in GIRTHS.items():
        factor = draws.around(f"{name} girth", 1, 0.16) * (1.0 if name in ("foot", "hand", "neck") else girth)
        if name in ("upper arm", "forearm", "thigh", "shank"):
            factor = factor * draws.uniform("loose clothes", 1.0, 1.3)
        rows.append(np.stack([thickness * factor * stature, width * factor * stature], axis=-1))
    waist, thin = list(GIRTHS).index("waist"), draws.uniform("belly", 0.85, 1.3)
    rows[waist] = rows[waist] * np.stack([thin, thin**0.5], axis=-1)
    skirt = list(GIRTHS).index("skirt")
    rows[skirt] = rows[skirt] * (draws.choice("lower wear", LOWER) == 3)[:, None]
    skull = np.stack([SKULL[0] * head, SKULL[1] * head], axis=-1)
    rows += [skull, skull * (draws.uniform("long hair") < 0.3)[:, None]]
    return np.stack(rows, axis=1)


LOWER = (5.0, 2.0, 1.5, 1.5)  # weights of trousers, shorts, knee-length, skirt


def _materials(draws: Draws) -> IntArray:
    table = facets()
    kind = np.array(table.kind)
    color = {name: number for number, name in enumerate(COLORS)}
    material = np.full((len(draws.words), len(kind)), color["skin"], dtype=np.uint8)

    def paint(where: BoolArray, name: str) -> None:
        material[where] = color[name]

    everyone = np.ones((len(material), 1), dtype=bool)
    arm, leg = _ends_with(kind, "arm"), _ends_with(kind, "thigh") | _ends_with(kind, "shank")
    # Tops: the trunk, and the arms down to the end of the sleeve.
    sleeve = np.array([-1.0, 0.32, 0.6, 0.9, 1.1])[draws.choice("sleeves", (1, 3, 1, 1, 4))][:, None]
    top = (everyone & (kind == "trunk")) | (arm & (table.reach < sleeve))
    tucked = draws.uniform("tucked in")[:, None] < 0.5
    top |= (kind == "pelvis") & (table.level > 0) & ~tucked
    paint(top, "top")
    paint(top & _pattern(table, draws, "top"), "trim")
    # Bottoms: the pelvis, the skirt, and the legs down to the hem.
    lower = draws.choice("lower wear", LOWER)
    hem = np.array([1.1, 0.3, 0.52, 0.12])[lower][:, None]
    bottom = (everyone & (((kind == "pelvis") & ~top) | (kind == "skirt"))) | (leg & (table.reach < hem))
    paint(bottom, "bottom")
    paint(bottom & _pattern(table, draws, "bottom") & (draws.uniform("patterned bottom")[:, None] < 0.3), "stripe")
    paint(leg & (table.reach > draws.uniform("sock", 0.6, 1.3)[:, None]) & ~bottom, "sock")
    barefoot = draws.uniform("barefoot")[:, None] < 0.1
    paint(_ends_with(kind, "foot") & ~barefoot, "shoe")
    paint(_ends_with(kind, "hand") & (draws.uniform("gloves")[:, None] < 0.06), "trim")
    paint(everyone & (kind == "hair"), "hair")
    paint((kind == "head") & _hairy(table, draws), "hair")
    for decal, name in (("eye", "white"), ("pupil", "pupil"), ("brow", "hair"), ("lips", "lips")):
        paint(everyone & (kind == decal), name)
    return material


def _ends_with(kind: np.ndarray[tuple[int], np.dtype[np.str_]], name: str) -> BoolArray:
    return np.char.endswith(kind, name)[None]


def _hairy(table: Facets, draws: Draws) -> BoolArray:
    """Where hair grows on the skull, (M, Q): the back, the sides and the top, more or less of each."""
    angle = np.cos(2 * np.pi * (table.column + 0.5) / CORNERS)  # 1 looks forward
    height = np.array([-0.95, -0.7, -0.25, 0.25, 0.68, 0.95, 1.0])[np.minimum(table.level, 6)]
    line = draws.uniform("hairline", 0.0, 0.55)[:, None]
    grown = height - 0.75 * angle > line
    cap = draws.uniform("bald")[:, None] < 0.08
    return np.where(cap, (height > 0.4) & (angle < -2), grown)


def _pattern(table: Facets, draws: Draws, name: str) -> BoolArray:
    """Which facets have the second colour, (M, Q)."""
    level, column, kind = table.level, table.column, np.array(table.kind)
    # Columns counted from the front to either side: a pattern that ran on around would tell left from right.
    column = np.minimum(column, CORNERS - 1 - column)
    front = column == 0
    body = (kind == "trunk") | (kind == "pelvis")
    patterns = np.stack(
        [
            np.zeros_like(front),
            level % 2 == 0,  # hoops
            column % 2 == 0,  # stripes along
            (level + column) % 2 == 0,  # checks
            body & front,  # an open jacket
            body & front & (level > 0) & (level < 3),  # a print
            body & (level < 2),  # a block of colour
            ~body,  # sleeves of another colour
        ]
    )
    return patterns[draws.choice(f"{name} pattern", (5, 2, 1.5, 1.5, 2, 2, 1, 1))]


def place_vertices(scenes: Scenes, look: Look) -> FloatArray:
    """The corners of all facets, (M, V, 3), camera millimetres."""
    table = facets()
    joints, frames = scenes.joints, scenes.frames
    lower, upper = joints[:, table.lower], joints[:, table.upper]
    centers = lower + (upper - lower) * table.share[:, None].astype(np.float32)  # (M, R, 3)
    half = (look.girths[:, table.girth] * table.half).astype(np.float32)  # (M, R, 2)
    thick = frames[:, table.frame, :, table.axes[0]].transpose(1, 0, 2) * half[..., :1]
    wide = frames[:, table.frame, :, table.axes[1]].transpose(1, 0, 2) * half[..., 1:]
    angle = 2 * np.pi * np.arange(CORNERS) / CORNERS
    cosine, sine = (np.round(wave, 6).astype(np.float32)[:, None] for wave in (np.cos(angle), np.sin(angle)))
    vertices = centers[:, :, None] + thick[:, :, None] * cosine + wide[:, :, None] * sine  # (M, R, CORNERS, 3)
    return np.concatenate([vertices.reshape(len(joints), -1, 3), _face_vertices(scenes)], axis=1)


def _face_vertices(scenes: Scenes) -> FloatArray:
    chin, crown = scenes.joints[:, JOINTS.index("chin")], scenes.joints[:, JOINTS.index("crown")]
    height = np.sqrt(((crown - chin) ** 2).sum(axis=-1))[:, None, None]
    offsets = (facets().decals * SKULL).astype(np.float32) * height  # (M, D * 4, 3)
    axes = scenes.frames[:, FRAMES.index("head"), None]  # (M, 1, 3, 3)
    turned = axes[..., 0] * offsets[..., :1] + axes[..., 1] * offsets[..., 1:2] + axes[..., 2] * offsets[..., 2:]
    return np.asarray(((chin + crown) / 2)[:, None] + turned)
