"""From the world to a camera to its pixels, and back; one camera or many at once. numpy only.

Frames and units are those of `posecli.types.Camera`: x_camera = rotation (x_world - position), millimetres, x right, y
down, z forward. The lens is Brown's model in OpenCV's order k1 k2 p1 p2 k3 (D. C. Brown, "Close-range camera
calibration", 1971; https://docs.opencv.org/4.x/d9/d0c/group__calib3d.html). Arrays of a camera may have leading axes
that broadcast against those of the points (..., K, 3), so one call serves many cameras.
"""

from __future__ import annotations

import numpy as np

from posecli.types import Camera, FloatArray

STEPS = 20  # Newton's, at most; three or four are enough within a picture
SMALL = 1e-12


def world_to_camera(points: FloatArray, rotation: FloatArray, position: FloatArray) -> FloatArray:
    """Points (..., K, 3) of the world as cameras (..., 3, 3), (..., 3) see them, (..., K, 3)."""
    return np.asarray((points - position[..., None, :]) @ np.swapaxes(rotation, -1, -2))


def camera_to_world(points: FloatArray, rotation: FloatArray, position: FloatArray) -> FloatArray:
    """The inverse of `world_to_camera`."""
    return np.asarray(points @ rotation + position[..., None, :])


def distort(points: FloatArray, distortion: FloatArray) -> FloatArray:
    """Where the lens (..., 5) puts the points (..., K, 2) of the plane z = 1."""
    k1, k2, p1, p2, k3 = np.moveaxis(np.asarray(distortion), -1, 0)[..., None]
    x, y = points[..., 0], points[..., 1]
    square = x * x + y * y
    radial = 1 + square * (k1 + square * (k2 + square * k3))
    return np.stack(
        [
            x * radial + 2 * p1 * x * y + p2 * (square + 2 * x * x),
            y * radial + p1 * (square + 2 * y * y) + 2 * p2 * x * y,
        ],
        axis=-1,
    )


def undistort(points: FloatArray, distortion: FloatArray) -> FloatArray:
    """The inverse of `distort`, by Newton's method; exact wherever the lens does not fold the picture over."""
    k1, k2, p1, p2, k3 = np.moveaxis(np.asarray(distortion), -1, 0)[..., None]
    wanted = np.asarray(points, dtype=np.float64)
    found = wanted.copy()
    for _ in range(STEPS):
        x, y = found[..., 0], found[..., 1]
        square = x * x + y * y
        radial = 1 + square * (k1 + square * (k2 + square * k3))
        slope = 2 * (k1 + square * (2 * k2 + square * 3 * k3))
        across = radial + slope * x * x + 2 * p1 * y + 6 * p2 * x
        down = radial + slope * y * y + 6 * p1 * y + 2 * p2 * x
        mixed = slope * x * y + 2 * p1 * x + 2 * p2 * y
        error = distort(found, distortion) - wanted
        scale = across * down - mixed * mixed
        step = np.stack(
            [down * error[..., 0] - mixed * error[..., 1], across * error[..., 1] - mixed * error[..., 0]], axis=-1
        )
        step /= scale[..., None]
        found -= step
        if not (np.abs(step) > SMALL).any():  # unknown points are NaN and never hold this up
            break
    return found


def project(
    points: FloatArray, focal: FloatArray, center: FloatArray, distortion: FloatArray | None = None
) -> FloatArray:
    """Pixels (..., K, 2) of camera points (..., K, 3); focal and center (..., 2), distortion (..., 5) or None.

    Points that are not in front of the camera have no pixel: they are NaN, as are those that are NaN already.
    """
    depth = points[..., 2:]
    plane: FloatArray = points[..., :2] / np.where(depth > 0, depth, np.nan)
    if distortion is not None:
        plane = distort(plane, distortion)
    return np.asarray(plane * focal[..., None, :] + center[..., None, :])


def back_project(
    pixels: FloatArray, depth: FloatArray, focal: FloatArray, center: FloatArray, distortion: FloatArray | None = None
) -> FloatArray:
    """Camera points (..., K, 3) of pixels (..., K, 2) that lie `depth` (..., K) in front; the inverse of `project`."""
    plane: FloatArray = (pixels - center[..., None, :]) / focal[..., None, :]
    if distortion is not None:
        plane = undistort(plane, distortion)
    return np.concatenate([plane * depth[..., None], depth[..., None]], axis=-1)


def see(camera: Camera, world: FloatArray) -> tuple[FloatArray, FloatArray]:
    """What one camera sees of world points (..., K, 3): camera points (..., K, 3) and pixels (..., K, 2)."""
    points = world_to_camera(world, camera.rotation, camera.position)
    return points, project(points, camera.focal, camera.center, camera.distortion)


def upward(camera: Camera) -> FloatArray:
    """The world's z axis, which points up, in the camera frame, (3,)."""
    return np.asarray(camera.rotation[:, 2], dtype=np.float64)
