"""The embedded dataset: what it promises about its numbers, its flags and its pictures."""

from __future__ import annotations

import hashlib
import pickle
import subprocess
import sys
from collections.abc import Callable

import numpy as np
import pytest

from posecli.console import PosecliError
from posecli.datasets.config import SyntheticConfig
from posecli.datasets.synthetic import label_scenes, synthetic_dataset
from posecli.datasets.synthetic_backdrop import Backdrop
from posecli.datasets.synthetic_body import FRAMES, JOINTS, Build, place_joints, turn
from posecli.datasets.synthetic_draws import Draws, _mix
from posecli.datasets.synthetic_hands import synthetic_hands
from posecli.datasets.synthetic_picture import depth_order
from posecli.datasets.synthetic_scene import SceneCameras, film, synthetic_scenes
from posecli.datasets.synthetic_surface import CORNERS, dress, facets, place_vertices
from posecli.skeleton import flip_pairs_from_names, house_skeleton
from posecli.types import Dataset, FloatArray
from posecli_mesh.scenes import synthetic_bodies

SKELETON = house_skeleton("synthetic")
NAMES = SKELETON.names


def _digest(dataset: Dataset, order: list[int]) -> str:
    """One hash of labels and pictures, the pictures read in `order`."""
    pixels = {index: hashlib.sha256(dataset[index].image().tobytes()).hexdigest() for index in order}  # type: ignore[operator]
    parts = [pixels[index] for index in sorted(order)]
    columns = (dataset.people.keypoints, dataset.people.scores, dataset.people.extra["area"])
    parts += [hashlib.sha256(np.ascontiguousarray(column).tobytes()).hexdigest() for column in columns]
    return hashlib.sha256("".join(parts).encode()).hexdigest()


@pytest.fixture(scope="module")
def singles() -> Dataset:
    return synthetic_dataset(300, seed=5)


@pytest.fixture(scope="module")
def groups() -> Dataset:
    return synthetic_dataset(60, seed=6, size=(256, 224), people=(1, 8))


def test_draws_are_splitmix() -> None:
    # The first output of SplitMix64 from state 0, as published with its authors' C code.
    gamma = np.array([0x9E3779B97F4A7C15], dtype=np.uint64)
    assert _mix(gamma)[0] == 0xE220A8397B1DCDAF


def test_draws_depend_on_name_and_row_alone() -> None:
    many, few = Draws(1, np.arange(1000)), Draws(1, np.array([17, 3]))
    assert (many.uniform("height")[[17, 3]] == few.uniform("height")).all()
    values = np.stack([many.uniform("height"), many.uniform("width"), Draws(2, np.arange(1000)).uniform("height")])
    assert np.abs(np.corrcoef(values) - np.eye(3)).max() < 0.12
    assert np.abs(values.mean(axis=1) - 0.5).max() < 0.04
    assert np.bincount(many.choice("case", (1, 3)), minlength=2)[1] == pytest.approx(750, abs=60)


def test_same_in_another_process_and_order() -> None:
    code = (
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "from test_synthetic import _digest, synthetic_dataset\n"
        "print(_digest(synthetic_dataset(6, 3, (96, 128), (1, 3)), [5, 2, 0, 1, 4, 3]))"
    )
    folder = __file__.rpartition("/")[0]
    other = subprocess.run([sys.executable, "-c", code, folder], capture_output=True, text=True, check=True)
    assert other.stdout.strip() == _digest(synthetic_dataset(6, 3, (96, 128), (1, 3)), list(range(6)))


def test_a_picture_does_not_depend_on_how_many_there_are(groups: Dataset) -> None:
    fewer = synthetic_dataset(7, seed=6, size=(256, 224), people=(1, 8))
    rows = int(fewer.offsets[-1])
    for field in ("keypoints", "scores", "boxes"):
        np.testing.assert_array_equal(getattr(fewer.people, field), getattr(groups.people, field)[:rows])
    np.testing.assert_array_equal(fewer.people.extra["keypoints_3d"], groups.people.extra["keypoints_3d"][:rows])
    np.testing.assert_array_equal(fewer[6].image(), groups[6].image())  # type: ignore[operator]
    alone = synthetic_scenes(np.array([6]), 6, (256, 224), (1, 8))
    np.testing.assert_array_equal(alone.keypoints_3d, groups[6].people.extra["keypoints_3d"])


def test_other_seeds_other_pictures(singles: Dataset) -> None:
    other = synthetic_dataset(20, seed=4)
    difference = np.abs(other.people.extra["keypoints_3d"] - singles.people.extra["keypoints_3d"][:20])
    assert difference.mean(axis=(1, 2)).min() > 10  # millimetres, every person
    first, second = other[0].image().astype(int), singles[0].image().astype(int)  # type: ignore[operator]
    assert np.abs(first - second).mean() > 10


@pytest.mark.parametrize(
    "make",
    [
        pytest.param(lambda backdrop: synthetic_dataset(30, 2, (96, 96), backdrop=backdrop), id="people"),
        pytest.param(lambda backdrop: synthetic_hands(30, 2, (96, 96), backdrop=backdrop), id="hands"),
        pytest.param(lambda backdrop: synthetic_bodies(30, 2, (96, 96), backdrop=backdrop), id="bodies"),
    ],
)
def test_a_studio_is_an_even_wall_behind_the_same_people(make: Callable[[Backdrop], Dataset]) -> None:
    """Labels stay; along the upper edge, where hardly anybody is, pictures are even but for lens and sensor."""
    studio, clutter = make("studio"), make("clutter")
    np.testing.assert_array_equal(studio.people.keypoints, clutter.people.keypoints)
    edges = [
        np.median([made[index].image()[0].astype(float).std(axis=0).mean() for index in range(30)])  # type: ignore[operator]
        for made in (studio, clutter)
    ]
    assert edges[0] < 0.6 * edges[1]


def test_types_ranges_and_unlabelled(singles: Dataset, groups: Dataset) -> None:
    for dataset in (singles, groups):
        people, (width, height) = dataset.people, dataset.sizes[0]
        assert people.keypoints.dtype == people.scores.dtype == people.boxes.dtype == np.float32  # type: ignore[union-attr]
        assert set(np.unique(people.scores)) == {0, 1, 2}
        np.testing.assert_array_equal(np.isnan(people.keypoints).any(axis=-1), people.scores == 0)
        known = people.keypoints[people.scores > 0]
        assert (known >= 0).all()
        assert (known <= [width - 1, height - 1]).all()
        assert np.isfinite(people.extra["keypoints_3d"]).all()
        assert people.extra["keypoints_3d"][..., 2].min() > 300  # millimetres before the camera
        assert not people.extra["crowd"].any()
        assert (people.boxes[:, 2:] - people.boxes[:, :2]).min() > 2  # type: ignore[index]
        image = dataset[0].image()  # type: ignore[operator]
        assert image.shape == (height, width, 3)
        assert image.dtype == np.uint8


def test_boxes_hold_the_keypoints_and_areas_fit(singles: Dataset, groups: Dataset) -> None:
    for dataset in (singles, groups):
        people = dataset.people
        assert people.boxes is not None
        low = np.nanmin(np.where(people.scores[..., None] > 0, people.keypoints, np.inf), axis=1)
        high = np.nanmax(np.where(people.scores[..., None] > 0, people.keypoints, -np.inf), axis=1)
        assert (low >= people.boxes[:, :2] - 0.01).all()
        assert (high <= people.boxes[:, 2:] + 0.01).all()
        sides = people.boxes[:, 2:] - people.boxes[:, :2] + 1
        assert (people.extra["area"] <= sides.prod(axis=1) * 1.05).all()
        assert (people.extra["area"][(people.scores == 2).any(axis=1)] > 0).all()


def test_keypoints_are_the_projection(singles: Dataset, groups: Dataset) -> None:
    for dataset in (singles, groups):
        for sample in dataset:
            camera, points = sample.camera, sample.people.extra["keypoints_3d"].astype(np.float64)
            assert camera is not None
            np.testing.assert_allclose(camera.rotation @ camera.rotation.T, np.eye(3), atol=1e-9)
            assert np.linalg.det(camera.rotation) > 0
            pixels = camera.focal * points[..., :2] / points[..., 2:] + camera.center
            labelled = sample.people.labelled
            np.testing.assert_allclose(pixels[labelled], sample.people.keypoints[labelled], atol=0.01)


def test_people_stand_on_the_ground(groups: Dataset) -> None:
    for sample in groups:
        camera = sample.camera
        assert camera is not None
        world = sample.people.extra["keypoints_3d"] @ camera.rotation + camera.position
        assert world[..., 2].min() > -1
        assert world[..., 2].max() < 2800


def test_both_sides_have_equal_bones(groups: Dataset) -> None:
    points = groups.people.extra["keypoints_3d"].astype(np.float64)
    lengths = {}
    for first, second in (("shoulder", "elbow"), ("elbow", "wrist"), ("hip", "knee"), ("knee", "ankle")):
        for side in ("left", "right"):
            ends = points[:, NAMES.index(f"{side}_{first}")] - points[:, NAMES.index(f"{side}_{second}")]
            lengths[side, first, second] = np.linalg.norm(ends, axis=-1)
        np.testing.assert_allclose(lengths["left", first, second], lengths["right", first, second], atol=0.01)
        assert np.std(lengths["left", first, second]) > 10  # millimetres: builds differ


def test_the_skeleton_mirrors_itself() -> None:
    assert SKELETON.flip_pairs == flip_pairs_from_names(NAMES)
    coco = house_skeleton("coco")
    assert (NAMES, SKELETON.sigmas, SKELETON.flip_pairs) == (coco.names, coco.sigmas, coco.flip_pairs)


# --- hand-built scenes: everybody stands upright facing world x, the camera is 4 m away -------------------------------


def _build(people: int) -> Build:
    lengths = {"trunk": 500, "neck": 85, "head": 230, "shoulders": 190, "hips": 97, "upper_arm": 310, "forearm": 250}
    lengths |= {"stature": 1700, "girth": 1, "hand": 150, "thigh": 415, "shank": 415, "foot": 240}
    return Build(**{name: np.full(people, float(length)) for name, length in lengths.items()})


def _bent(**turns: FloatArray) -> dict[str, FloatArray]:
    """Upright frames (1, 3, 3) with the arms a little away from the body, some of them turned."""
    arms = {"left": turn(0, np.array(14.0)), "right": turn(0, np.array(-14.0))}
    hanging = {name: arms[name.partition("_")[0]] for name in FRAMES if name.endswith(("arm", "hand"))}
    return {name: {**hanging, **turns}.get(name, np.eye(3))[None] for name in FRAMES}


def _watch(bodies: list[dict[str, FloatArray]], places: list[tuple[float, float]], behind: bool = False) -> Dataset:
    """One picture, 256 × 256, of bodies at `places` (x, y) from the front (along -x) or from behind."""
    build = _build(len(bodies))
    frames = {name: np.concatenate([body[name] for body in bodies]) for name in FRAMES}
    joints = place_joints(build, frames) + np.array([(x, y, 900.0) for x, y in places])[:, None]
    side = -1.0 if behind else 1.0
    rotation = np.array([[[0, side, 0], [0, 0, -1], [-side, 0, 0]]], dtype=np.float64)
    cameras = SceneCameras(rotation, np.array([[4000 * side, 0, 900]]), np.array([360.0]), np.array([[127.5, 127.5]]))
    stacked = np.stack([frames[name] for name in FRAMES], axis=1)
    return label_scenes(film(cameras, build, joints, stacked, np.array([0, len(bodies)]), size=(256, 256)))


def _flags(dataset: Dataset, row: int = 0) -> dict[str, int]:
    return dict(zip(NAMES, dataset.people.scores[row].astype(int).tolist(), strict=True))


FACE = ("nose", "left_eye", "right_eye")
BACKWARDS = {"left_upper_arm": turn(1, np.array(30.0)), "left_forearm": turn(0, np.array(-88.0))}
FORWARDS = {"left_upper_arm": turn(1, np.array(-30.0)), "left_forearm": turn(0, np.array(-88.0))}


@pytest.mark.parametrize(
    ("turns", "behind", "hidden"),
    [
        ({}, False, set()),  # nothing is in the way of somebody who stands and looks at the camera
        ({}, True, {*FACE}),  # the back of the head hides the face, nothing else
        (BACKWARDS, False, {"left_wrist"}),  # an arm behind the back, from the front
        (BACKWARDS, True, {*FACE}),  # and from behind
        (FORWARDS, False, set()),  # an arm before the belly, from the front
        (FORWARDS, True, {*FACE, "left_wrist"}),  # and from behind
    ],
)
def test_flags_of_one_person(turns: dict[str, FloatArray], behind: bool, hidden: set[str]) -> None:
    flags = _flags(_watch([_bent(**turns)], [(0, 0)], behind))
    assert {name for name, flag in flags.items() if flag == 1} == hidden
    assert {name for name, flag in flags.items() if flag == 0} == set()


def test_an_arm_hides_what_it_crosses() -> None:
    # The right forearm lies across the body at the height of the left hip, a hand's breadth in front of it.
    across = {"right_upper_arm": turn(1, np.array(-25.0)), "right_forearm": turn(0, np.array(60.0))}
    flags = _flags(_watch([_bent(**across)], [(0, 0)]))
    assert flags["right_wrist"] == 2
    pointing = {"right_upper_arm": turn(1, np.array(-90.0)), "right_forearm": turn(1, np.array(-90.0))}
    pointing["right_hand"] = pointing["right_forearm"]
    flags = _flags(_watch([_bent(**pointing)], [(0, 0)]))
    assert flags["right_elbow"] == 1  # behind the hand that points at the camera


def test_far_side_is_hidden_in_profile() -> None:
    quarter = turn(2, np.array(90.0))
    profile = _watch([dict.fromkeys(FRAMES, quarter[None])], [(0, 0)])
    flags = _flags(profile)
    hidden = {name for name in NAMES if flags[name] == 1}
    # Facing world y with the camera at +x, the right side is the near one.
    assert {"left_shoulder", "left_hip", "left_ear", "left_eye", "left_wrist", "left_knee"} <= hidden
    # The right hand hangs before the right hip.
    assert {flags[name] for name in NAMES if name.startswith("right") and name != "right_hip"} == {2}


def test_two_people_one_before_the_other() -> None:
    alone = _flags(_watch([_bent()], [(0, 0)]))
    near_first = _watch([_bent(), _bent()], [(900, 0), (-600, 400)])
    far_first = _watch([_bent(), _bent()], [(-600, 400), (900, 0)])
    assert _flags(near_first, 0) == alone  # the near one is whole
    behind = _flags(near_first, 1)
    assert behind["right_shoulder"] == behind["right_elbow"] == 1  # behind the trunk of the other
    assert behind["left_elbow"] == behind["left_shoulder"] == 2  # beside it
    np.testing.assert_array_equal(near_first.people.scores, far_first.people.scores[::-1])
    areas = near_first.people.extra["area"]
    lone = _watch([_bent()], [(-600, 400)]).people
    assert areas[1] < 0.8 * lone.extra["area"][0]  # only what is seen counts
    np.testing.assert_allclose(near_first.people.boxes[1], lone.boxes[0], atol=3)  # type: ignore[index]


def test_whoever_is_hardly_seen_is_not_labelled() -> None:
    hidden = _watch([_bent(), _bent()], [(1500, 0), (-2000, 0)]).people
    assert (hidden.scores[1] == 0).all()
    assert np.isnan(hidden.keypoints[1]).all()
    assert np.isfinite(hidden.extra["keypoints_3d"][1]).all()
    assert (hidden.scores[0] > 0).all()


def test_a_mirrored_body_gives_mirrored_labels() -> None:
    left = _watch([_bent(**BACKWARDS)], [(0, 0)]).people
    mirror = np.diag([1.0, -1.0, 1.0])
    turns = {name.replace("left", "right"): mirror @ turned @ mirror for name, turned in BACKWARDS.items()}
    right = _watch([_bent(**turns)], [(0, 0)]).people
    flip = SKELETON.flip_index
    np.testing.assert_allclose(255 - right.keypoints[0, flip, 0], left.keypoints[0, :, 0], atol=1e-3)
    np.testing.assert_allclose(right.keypoints[0, flip, 1], left.keypoints[0, :, 1], atol=1e-3)
    np.testing.assert_array_equal(right.scores[0, flip], left.scores[0])
    assert left.keypoints[0, NAMES.index("left_shoulder"), 0] > left.keypoints[0, NAMES.index("right_shoulder"), 0]


# --- pictures ---------------------------------------------------------------------------------------------------------


def test_flags_agree_with_rays_through_the_facets(singles: Dataset) -> None:
    """Painting far facets first gives the nearest surface nearly everywhere: checked with a ray for each keypoint."""
    scenes = synthetic_scenes(np.arange(40), 5)
    look, table = dress(scenes), facets()
    errors = []
    for index in range(40):
        scene, own = scenes.take(index), scenes.rows(index)
        corners = place_vertices(scene, look.take(own))[0][table.corners].astype(np.float64)  # (Q, 4, 3)
        painting = depth_order(scene, corners_of := place_vertices(scene, look.take(own)))
        assert corners_of.shape[0] == 1
        shown = set(painting.facet.tolist())
        triangles = np.concatenate([corners[:, [0, 1, 2]], corners[:, [0, 2, 3]]])
        facing = np.array([number in shown for number in range(len(corners))] * 2)
        triangles = triangles[facing]
        for joint, point in enumerate(scene.keypoints_3d[0].astype(np.float64)):
            if singles.people.scores[index, joint] == 0:
                continue
            nearest = _first_hit(triangles, point / point[2])
            gap = point[2] - nearest  # how far before the keypoint the first surface lies
            if gap > 250:  # more than any joint's own flesh
                errors.append(singles.people.scores[index, joint] != 1)
            elif gap < 5:  # nothing before it
                errors.append(singles.people.scores[index, joint] != 2)
    assert len(errors) > 60
    assert np.mean(errors) < 0.05


def _first_hit(triangles: FloatArray, ray: FloatArray) -> float:
    """The depth of the nearest triangle (T, 3, 3) on the ray from the origin (Möller and Trumbore, 1997)."""
    first, second = triangles[:, 1] - triangles[:, 0], triangles[:, 2] - triangles[:, 0]
    cross = np.cross(ray, second)
    volume = (first * cross).sum(axis=1)
    with np.errstate(all="ignore"):  # triangles seen edge-on
        start = -triangles[:, 0]
        u = (start * cross).sum(axis=1) / volume
        turned = np.cross(start, first)
        v = (turned @ ray) / volume
        depth = (second * turned).sum(axis=1) / volume
        hit = (u >= 0) & (v >= 0) & (u + v <= 1) & (depth > 0) & np.isfinite(depth)
    return float(depth[hit].min()) if hit.any() else np.inf


def test_no_joint_has_a_colour_of_its_own(singles: Dataset) -> None:
    colors: dict[str, list[FloatArray]] = {name: [] for name in NAMES}
    for sample in singles:
        image = sample.image()  # type: ignore[operator]
        for name, (x, y), score in zip(NAMES, sample.people.keypoints[0], sample.people.scores[0], strict=True):
            if score == 2:
                colors[name].append(image[round(float(y)), round(float(x))].astype(float))
    seen = {name: np.array(values) for name, values in colors.items()}
    for first, second in SKELETON.flip_pairs or ():
        left, right = seen[NAMES[first]], seen[NAMES[second]]
        spread = np.sqrt(left.var(axis=0) / len(left) + right.var(axis=0) / len(right))
        assert (np.abs(left.mean(axis=0) - right.mean(axis=0)) < 4 * spread).all(), NAMES[first]
    for name, values in seen.items():
        assert len(values) > 80, name
        assert values.std(axis=0).min() > 25, name  # of 255: every joint comes in many colours


def test_left_and_right_wear_the_same() -> None:
    look, table = dress(synthetic_scenes(np.arange(50), 1)), facets()
    kinds = [
        f"{kind} {part}" if kind in ("trunk", "pelvis") else kind
        for kind, part in zip(table.kind, table.part, strict=True)
    ]
    facet_keys = zip(kinds, table.level.tolist(), table.column.tolist(), strict=True)
    places = {key: number for number, key in enumerate(facet_keys)}
    for (kind, level, column), number in places.items():
        if kind.startswith("left_") or kind.startswith(("trunk", "pelvis", "skirt", "head")):
            # Columns run from the front to the person's left and on; in the mirror they run the other way.
            mirrored = places[kind.replace("left", "right"), level, CORNERS - 1 - column]
            assert (look.material[:, number] == look.material[:, mirrored]).all()


def test_groups_have_as_many_people_as_asked(groups: Dataset) -> None:
    counts = np.diff(groups.offsets)
    assert set(counts.tolist()) == set(range(1, 9))
    assert (synthetic_dataset(3, people=(4, 4), size=(128, 128)).offsets == [0, 4, 8, 12]).all()
    seen = (groups.people.scores > 0).any(axis=1)
    assert seen.mean() > 0.95
    hidden = (groups.people.scores == 1).sum() / (groups.people.scores > 0).sum()
    assert 0.2 < hidden < 0.6


def test_some_are_cut_by_the_frame(singles: Dataset) -> None:
    cut = (singles.people.scores == 0).any(axis=1).mean()
    assert 0.05 < cut < 0.3
    assert (singles.people.scores > 0).sum(axis=1).min() >= 3


def test_pictures_travel_to_workers(singles: Dataset) -> None:
    source = singles.take([3, 250]).images[1]
    packed = pickle.dumps(source)
    assert len(packed) < 20_000
    np.testing.assert_array_equal(pickle.loads(packed)(), singles[250].image())  # type: ignore[operator]
    np.testing.assert_array_equal(singles[250].image(), singles[250].image())  # type: ignore[operator]


@pytest.mark.parametrize("size", [(32, 32), (640, 360), (100, 300)])
def test_other_sizes(size: tuple[int, int]) -> None:
    dataset = synthetic_dataset(3, seed=1, size=size, people=(1, 2))
    for sample in dataset:
        assert sample.image().shape == (size[1], size[0], 3)  # type: ignore[operator]
        assert sample.people.labelled.any()


def test_config_builds_it_and_bad_numbers_are_refused() -> None:
    dataset = SyntheticConfig(count=2, seed=9).build()
    assert len(dataset) == 2
    assert dataset.skeleton.name == "synthetic"
    assert len(JOINTS) == dataset.images[0].scene.joints.shape[1]  # type: ignore[union-attr]
    with pytest.raises(PosecliError, match="people is 3 to 1"):
        synthetic_dataset(2, people=(3, 1))
