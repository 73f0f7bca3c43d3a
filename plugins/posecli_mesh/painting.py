"""Pictures of synthetic bodies: skin, hair and clothes under a light, over a cluttered background."""

from __future__ import annotations

import functools
import math
import random

import numpy as np
import torch

from posecli.datasets.synthetic_backdrop import background, below, between, expose, random_bytes
from posecli.datasets.synthetic_draws import Draws
from posecli.types import FloatArray, ImageArray, IntArray
from posecli_mesh.bodies import BONES, Body, BodyName, SkinnedBody
from posecli_mesh.rasteriser import facing, rasterise, vertex_normals
from posecli_mesh.scenes import BodyScenes, body_vertices, drawn_body

COLORS = ("skin", "shirt", "trousers", "shoes", "hair")
SLEEVES = (("shoulder",), ("shoulder", "elbow"), ())  # the bones of an arm that a shirt covers
LEGS = (("hip", "knee"), ("hip",))  # the bones of a leg that trousers cover


def paint(scene: BodyScenes) -> ImageArray:
    """The picture of ONE scene, RGB (H, W, 3)."""
    key = int(Draws(scene.seed, scene.indices).key("picture")[0])
    chance = random.Random(key)  # only random() is used: its series is the same in every Python
    noise = np.random.PCG64(key)
    palette = _palette(chance)
    canvas = background(chance, noise, scene.size, palette[None], scene.backdrop)
    vertices = body_vertices(scene)
    pixels = vertices[:, :2] / vertices[:, 2:] * scene.cameras.focal[0] + scene.cameras.center[0]
    faces, colors = _faces(scene.body), palette[_clothes(chance, scene.body)]
    seen = facing(pixels, faces)
    raster = rasterise(pixels, vertices[:, 2], faces[seen], scene.size)
    brightness = _light(chance, vertex_normals(vertices, faces))
    corners = faces[seen][raster.faces]
    shade = (brightness[corners] * raster.weights).sum(axis=1)
    creases = random_bytes(noise, (len(faces),)) / 255.0 - 0.5  # cloth is never quite even
    shade = shade * (1 + between(chance, 0.0, 0.12) * creases[seen[raster.faces]])
    canvas.reshape(-1, 3)[raster.pixels] = np.clip(colors[seen[raster.faces]] * shade[:, None], 0, 255)
    return expose(chance, noise, canvas)


def _palette(chance: random.Random) -> FloatArray:
    """Colours of one person, (C, 3) RGB 0 to 255, in the order of COLORS."""
    tone, warm = chance.random(), between(chance, -8, 8)
    skin = [238 - 165 * tone, 200 - 155 * tone, 175 - 145 * tone + warm]
    shirt, trousers, shoes = ([between(chance, 15, 240) for _ in range(3)] for _ in range(3))
    dark = between(chance, 0.1, 0.9) ** 2
    hair = [30 + 190 * dark, 22 + 160 * dark, 15 + 100 * dark]
    return np.array([skin, shirt, shirt if chance.random() < 0.15 else trousers, shoes, hair])


def _clothes(chance: random.Random, name: BodyName) -> IntArray:
    """Which of COLORS each face has, (F,): sleeves and trousers are long or short, hair too."""
    bones, high, back = _regions(name)
    covered = {"shirt": SLEEVES[below(chance, 3)], "trousers": LEGS[below(chance, 2)], "shoes": ("ankle", "foot")}
    own = ("spine1", "spine2", "spine3", "left_collar", "right_collar")
    kinds = np.zeros(len(BONES), dtype=np.int64)
    for cloth, parts in covered.items():
        chosen = [f"{side}_{part}" for side in ("left", "right") for part in parts]
        chosen += {"shirt": own, "trousers": ("pelvis",)}.get(cloth, ())
        kinds[[BONES.index(bone) for bone in chosen]] = COLORS.index(cloth)
    if chance.random() < 0.15:
        kinds[[BONES.index(f"{side}_ankle") for side in ("left", "right")]] = COLORS.index("skin")
    clothes = kinds[bones]
    line, long = between(chance, 0.45, 0.75), chance.random() < 0.35
    hairy = (bones == BONES.index("head")) & ((high - 0.9 * (back - 0.5) > line) | (long & (back < 0.35)))
    clothes[hairy] = COLORS.index("hair")
    return clothes


@functools.cache
def _faces(name: BodyName) -> IntArray:
    return drawn_body(name).faces.numpy()


@functools.cache
def _regions(name: BodyName) -> tuple[IntArray, FloatArray, FloatArray]:
    """Of each face the bone it follows most, and how high and how far forward it lies in the head, 0 to 1; all (F,)."""
    body = drawn_body(name)
    assert isinstance(body, SkinnedBody)
    faces = _faces(name)
    follows = body.weights.numpy()[faces].sum(axis=1).argmax(axis=1)
    middles = _rest(body)[faces].mean(axis=1)
    head = middles[follows == BONES.index("head")]
    low, high = head.min(axis=0), head.max(axis=0)
    places = (middles - low) / (high - low)
    return follows, places[:, 1], places[:, 2]


@torch.inference_mode()
def _rest(body: Body) -> FloatArray:
    """The mean body at rest, (V, 3)."""
    rotations = torch.eye(3).expand(1, body.poses, 3, 3)
    vertices: FloatArray = body(rotations, torch.zeros(1, body.shapes)).vertices[0].numpy()
    return vertices


def _light(chance: random.Random, normals: FloatArray) -> FloatArray:
    """How bright each vertex is, (V,), from normals (V, 3): light from everywhere, and from one side and above."""
    around, up = between(chance, -math.pi, math.pi), between(chance, 0.1, 1.2)
    light = np.array([math.cos(around) * math.cos(up), -math.sin(up), math.sin(around) * math.cos(up)])
    ambient, direct = between(chance, 0.4, 0.7), between(chance, 0.3, 0.6)
    return np.asarray(ambient + direct * np.maximum(normals @ light, 0) - 0.15 * normals[:, 2])
