"""Synthetic bodies and SMPL's annotations: labels are what is drawn, crops turn and mirror bodies with pictures."""

from __future__ import annotations

import dataclasses
import pickle
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from posecli import geometry
from posecli.console import PosecliError
from posecli.datasets.mix import Part, mix_datasets
from posecli.datasets.synthetic import synthetic_dataset
from posecli.types import Dataset, FloatArray, IntArray
from posecli_mesh.bodies import BODIES, BodyName, own_bodies
from posecli_mesh.config import HMRConfig, MeshAugmentation
from posecli_mesh.motion import read_motion
from posecli_mesh.painting import paint
from posecli_mesh.parameters import PADDING, smpl_npz_dataset
from posecli_mesh.rasteriser import facing, rasterise, vertex_normals
from posecli_mesh.rotations import to_axis_angle
from posecli_mesh.scenes import BodyPictures, body_vertices, drawn_body, synthetic_bodies
from posecli_mesh.transform import MeshTransform


@pytest.fixture(scope="module")
def dataset() -> Dataset:
    return synthetic_bodies(24, seed=5, size=(160, 120))


# --- the rasteriser --------------------------------------------------------------------------------------------------


def brute_force(
    pixels: FloatArray, depth: FloatArray, faces: IntArray, size: tuple[int, int]
) -> tuple[IntArray, FloatArray]:
    """Face (H, W; -1 none) and depth by going through every face and every pixel."""
    owner, nearest = np.full(size[::-1], -1), np.full(size[::-1], np.inf)
    for number, face in enumerate(faces):
        if (depth[face] <= 0).any():
            continue
        matrix = np.vstack([pixels[face].T, np.ones(3)])
        if abs(np.linalg.det(matrix)) < 1e-9:
            continue
        for y in range(size[1]):
            for x in range(size[0]):
                weights = np.linalg.solve(matrix, [x, y, 1])
                if weights.min() >= 0 and (found := 1 / (weights @ (1 / depth[face]))) < nearest[y, x]:
                    owner[y, x], nearest[y, x] = number, found
    return owner, nearest


def test_rasteriser_is_brute_force(monkeypatch: pytest.MonkeyPatch) -> None:
    """Faces that cross each other, stand out of the picture, are flat or lie behind the camera; in small parts."""
    random = np.random.default_rng(0)
    pixels, depth = random.uniform(-6, 26, (24, 2)), random.uniform(1, 9, 24)
    depth[3] = -1.0
    faces = random.permuted(np.tile(np.arange(24), (16, 1)), axis=1)[:, :3]  # no face twice: either would be right
    faces[5] = faces[5, 0]
    size = (21, 17)
    owner, nearest = brute_force(pixels, depth, faces, size)
    assert len(np.unique(owner)) > 6
    for chunk in (1 << 19, 40):
        monkeypatch.setattr("posecli_mesh.rasteriser.CHUNK", chunk)
        raster = rasterise(pixels, depth, faces, size)
        np.testing.assert_array_equal(raster.image(raster.faces, -1), owner)
        np.testing.assert_allclose(raster.image(raster.depth, np.inf), nearest, rtol=1e-9)
    np.testing.assert_allclose(raster.weights.sum(axis=1), 1, atol=1e-9)
    through = (raster.weights * depth[faces[raster.faces]]).sum(axis=1)
    np.testing.assert_allclose(through, raster.depth, rtol=1e-9, err_msg="weights are the perspective's")


def test_nothing_to_draw() -> None:
    raster = rasterise(np.full((3, 2), 500.0), np.ones(3), np.array([[0, 1, 2]]), (8, 8))
    assert raster.pixels.size == 0
    assert (raster.image(raster.faces, -1) == -1).all()


def test_body_is_closed_and_faces_outward() -> None:
    """Without faces turned away nothing changes, and normals point out of the body."""
    scene = synthetic_bodies(1, seed=2).images.scenes  # type: ignore[attr-defined]
    vertices, faces = body_vertices(scene), drawn_body("capsules").faces.numpy()
    pixels = vertices[:, :2] / vertices[:, 2:] * scene.cameras.focal[0] + scene.cameras.center[0]
    every = rasterise(pixels, vertices[:, 2], faces, scene.size)
    front = facing(pixels, faces)
    half = rasterise(pixels, vertices[:, 2], faces[front], scene.size)
    same = every.image(every.depth, 0.0) == half.image(half.depth, 0.0)
    assert same.mean() > 0.999
    normals = vertex_normals(vertices, faces)
    seen = (normals[faces[every.faces]] * vertices[faces[every.faces]]).sum(axis=-1).mean(axis=1)
    assert (seen < 0.05).mean() > 0.99, "what is seen looks at the camera"


# --- synthetic bodies ------------------------------------------------------------------------------------------------


def test_a_picture_depends_on_seed_and_number_alone(dataset: Dataset) -> None:
    few = synthetic_bodies(3, seed=5, size=(160, 120))
    np.testing.assert_allclose(few.people.keypoints, dataset.people.keypoints[:3], atol=1e-3)
    np.testing.assert_array_equal(few.people.extra["shape"], dataset.people.extra["shape"][:3])
    again = pickle.loads(pickle.dumps(few.images[2]))  # as it goes to a worker
    np.testing.assert_array_equal(again(), dataset.images[2]())  # type: ignore[operator]


def test_other_seeds_are_other_people(dataset: Dataset) -> None:
    other = synthetic_bodies(24, seed=6)
    for name in ("rotations", "shape"):
        rows = (values.reshape(24, -1) for values in (dataset.people.extra[name], other.people.extra[name]))
        distances = np.abs(next(rows)[:, None] - next(rows)[None]).max(axis=-1)
        assert distances.min() > 0.05, name


def test_true_parameters_reproject_onto_the_drawn_body(dataset: Dataset) -> None:
    """To half a pixel: the mesh made of the labels covers what is painted, seen in a picture without a background."""
    assert isinstance(dataset.images, BodyPictures)
    assert dataset.cameras is not None
    body = drawn_body("capsules")
    extra = dataset.people.extra
    for index in range(6):
        rotations, shape = (torch.from_numpy(extra[name][index : index + 1]) for name in ("rotations", "shape"))
        found = body(rotations, shape)
        joints = found.joints[0, [body.joints.index(name) for name in dataset.skeleton.names]].numpy() * 1000
        moved = (extra["keypoints_3d"][index] - joints).mean(axis=0)
        np.testing.assert_allclose(joints + moved, extra["keypoints_3d"][index], atol=0.05)
        vertices = found.vertices[0].numpy() * 1000 + moved
        camera = dataset.cameras[index]
        pixels = vertices[:, :2] / vertices[:, 2:] * camera.focal + camera.center
        drawn = silhouette(dataset.images, index)
        covered = np.zeros_like(drawn)
        raster = rasterise(pixels, vertices[:, 2], body.faces.numpy(), (160, 120))
        covered.reshape(-1)[raster.pixels] = True
        assert (drawn != covered).sum() <= 0.005 * drawn.sum()
        edges = [np.array([axis.min(), axis.max()]) for axis in np.nonzero(drawn)[::-1]]
        for axis, edge in enumerate(edges):
            np.testing.assert_allclose(
                edge, [np.ceil(pixels[:, axis].min()), np.floor(pixels[:, axis].max())], atol=0.5
            )
        np.testing.assert_allclose(
            dataset.people.boxes[index],  # type: ignore[index]
            np.r_[pixels.min(axis=0), pixels.max(axis=0)],
            atol=0.02,
        )
        keypoints = extra["keypoints_3d"][index]
        seen = keypoints[:, :2] / keypoints[:, 2:] * camera.focal + camera.center
        np.testing.assert_allclose(seen, dataset.people.keypoints[index], atol=0.01)


def silhouette(pictures: BodyPictures, index: int) -> np.ndarray:
    """Where the painter paints the body: on two plain grounds the body is what does not change, (H, W)."""
    images = []
    width, height = pictures.scenes.size
    for level in (0, 255):
        ground = np.full((height, width, 3), level, np.uint8)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("posecli_mesh.painting.background", lambda *_, ground=ground: ground)
            patch.setattr("posecli_mesh.painting.expose", lambda chance, noise, canvas: canvas)
            images.append(paint(pictures.scenes.take(index)).astype(int))
    return np.asarray(np.abs(images[0] - images[1]).max(axis=-1) < 255)


def test_postures_are_rotations_that_people_can_take() -> None:
    extra = synthetic_bodies(300, seed=1).people.extra
    rotations = torch.from_numpy(extra["rotations"])
    unit = torch.eye(3).expand_as(rotations)
    torch.testing.assert_close(rotations @ rotations.mT, unit, atol=1e-5, rtol=0)
    torch.testing.assert_close(torch.linalg.det(rotations), torch.ones(300, 24), atol=1e-5, rtol=0)
    angles = torch.rad2deg(torch.linalg.vector_norm(to_axis_angle(rotations[:, 1:]), dim=-1)).amax(dim=0)
    bones = drawn_body("capsules").bones[1:]
    for bone, angle in zip(bones, angles.tolist(), strict=True):
        if "shoulder" in bone:
            continue  # from stretched out to anywhere
        limit = 155 if any(word in bone for word in ("knee", "elbow", "hip")) else 115
        assert angle < limit, f"{bone} is turned by {angle:.0f} degrees"
    assert abs(extra["shape"]).max() <= 3
    np.testing.assert_allclose(extra["shape"].std(axis=0), 1, atol=0.15)
    ahead = extra["rotations"][:, 0, 2, 2]  # how far the chest looks away: at most 90 degrees and the leaning trunk
    assert (ahead < 0.1).mean() > 0.9


# --- crops -----------------------------------------------------------------------------------------------------------

TURNED = MeshAugmentation(rotate=40, rotate_probability=1, flip=0.5, half_body=0, color=0, cutout=0, channel_noise=0)


def test_crops_turn_and_mirror_the_body_with_the_picture(dataset: Dataset) -> None:
    """What the targets say of the body, put into the camera, falls on the 2D targets; mirrored or not."""
    body = drawn_body("capsules")
    crop = MeshTransform(
        dataset.skeleton, (128, 128), 1.2, augmentation=TURNED, mirror_index=body.mirror_index, shapes=body.shapes
    )
    flips = 0
    for index in range(8):
        example = crop(dataset[index], np.random.default_rng(index))
        targets, matrix = example.targets, geometry.invert(example.undo)
        camera = dataset.cameras[index]  # type: ignore[index]
        mirror = np.linalg.det(matrix[:, :2]) < 0
        flips += mirror
        found = body(*(torch.from_numpy(targets[name])[None] for name in ("rotations", "shape")))
        joints = found.joints[0, [body.joints.index(name) for name in dataset.skeleton.names]].numpy() * 1000
        points = targets["keypoints_3d"]
        np.testing.assert_allclose(joints - joints.mean(axis=0), points - points.mean(axis=0), atol=0.1)
        zoom = np.sqrt(abs(np.linalg.det(matrix[:, :2]))) * camera.focal
        middle = geometry.apply(matrix, camera.center)
        np.testing.assert_allclose(points[:, :2] / points[:, 2:] * zoom + middle, targets["keypoints"], atol=0.02)
        back = geometry.apply(example.undo, targets["keypoints"])
        order = dataset.skeleton.flip_index if mirror else slice(None)
        np.testing.assert_allclose(back[order], dataset.people.keypoints[index], atol=0.02)
    assert 0 < flips < 8


def test_unlabelled_bodies_count_nothing(dataset: Dataset) -> None:
    people = synthetic_dataset(1, 0, (64, 64), (1, 1))
    mixed = mix_datasets([Part(dataset, 1), Part(people, 1)], count=8, seed=0)
    crop = MeshTransform(dataset.skeleton, (64, 64), mirror_index=drawn_body("capsules").mirror_index, shapes=10)
    targets = crop(mixed[7], np.random.default_rng(0)).targets
    assert targets["has_body"] == 0
    assert not targets["shape"].any()
    np.testing.assert_array_equal(targets["rotations"], np.repeat(np.eye(3)[None], 24, axis=0))
    assert targets["visible"].sum() >= 12
    assert all(np.isfinite(values).all() for values in targets.values())
    assert crop(mixed[0], np.random.default_rng(0)).targets["has_body"] == 1


# --- whose bodies ----------------------------------------------------------------------------------------------------


def of_body(dataset: Dataset, name: BodyName, **columns: FloatArray) -> Dataset:
    """The data as if its parameters were of another body."""
    number = np.full(len(dataset.people), BODIES.index(name))
    return dataclasses.replace(dataset, people=dataset.people.with_extra(body=number, **columns))


def test_data_of_another_body_is_refused(dataset: Dataset) -> None:
    """Both are named, and what to set; data of nobody's knowledge goes by its numbers."""
    model = HMRConfig.model_validate({"backbone": {"use": "resnet", "depth": 18}, "hidden": 8}).build(dataset.skeleton)
    assert len(model.units(dataset, train=True)) == len(dataset)
    with pytest.raises(
        PosecliError,
        match="the data 'synthetic-bodies' has bodies of 'anny' and the model finds 'capsules': set "
        r"data\.train\.body=capsules and data\.val\.body=capsules, or model\.body\.name=anny",
    ):
        model.units(of_body(dataset, "anny"), train=True)
    real = dataclasses.replace(of_body(dataset, "smpl"), name="3dpw")
    with pytest.raises(PosecliError, match=r"'3dpw' has bodies of 'smpl' .*'capsules': set model\.body\.name=smpl$"):
        model.units(real)
    columns = {name: values for name, values in dataset.people.extra.items() if name != "body"}
    columns["shape"] = columns["shape"][:, :6]
    unsaid = dataclasses.replace(dataset, people=dataclasses.replace(dataset.people, extra=columns))
    with pytest.raises(PosecliError, match="has 24 rotations and 6 numbers of shape a body, and 'capsules' needs"):
        model.units(unsaid)


@pytest.mark.parametrize(
    "columns",
    [
        pytest.param({"has_body": np.zeros(24, np.float32)}, id="not labelled"),
        pytest.param({"has_body": np.full(24, np.nan, np.float32)}, id="unknown, as in a mix"),
        pytest.param({"shape": np.full((24, 10), np.nan, np.float32)}, id="NaN"),
    ],
)
def test_keypoints_alone_are_of_any_body(dataset: Dataset, columns: dict[str, FloatArray]) -> None:
    keypoints = of_body(dataset, "smpl", **columns)
    assert own_bodies(keypoints, drawn_body("capsules")) is keypoints


def test_bodies_of_others_in_a_mix_count_as_unlabelled(dataset: Dataset, capsys: pytest.CaptureFixture[str]) -> None:
    mixed = mix_datasets([Part(dataset, 1), Part(of_body(dataset, "smpl"), 1)], count=8, seed=0)
    model = HMRConfig.model_validate({"backbone": {"use": "resnet", "depth": 18}, "hidden": 8}).build(dataset.skeleton)
    units = model.units(mixed, train=True)
    crop = model.transform(train=True)
    targets = [crop(unit, np.random.default_rng(0)).targets for unit in units]
    assert [float(one["has_body"]) for one in targets] == [1, 1, 1, 1, 0, 0, 0, 0]
    assert not np.stack([one["shape"] for one in targets[4:]]).any()
    assert targets[7]["known"].all(), "3D keypoints stay"
    assert capsys.readouterr().err.count("of other bodies than 'capsules'") == 1


# --- mixing ----------------------------------------------------------------------------------------------------------


def test_mix_keeps_shares_and_shows_everybody(dataset: Dataset) -> None:
    people = synthetic_dataset(5, 0, (64, 64), (1, 2))
    mixed = mix_datasets([Part(dataset, 3), Part(people, 1)], seed=3)
    kinds = np.array([str(name).partition("/")[0] for name in mixed.ids])
    assert len(mixed) == 32, "24 samples are three quarters of it"
    assert (kinds == "0").sum() == 24
    assert len(set(mixed.ids)) == 32
    numbers = [int(str(name).split("/")[1]) for name in mixed.ids]
    assert sorted(numbers[:24]) == list(range(24))
    assert set(numbers[24:]) == set(range(5)), "shown again from the start where there are too few"
    for index in (0, 30):
        part, number = ((dataset, people)[int(kinds[index])], numbers[index])
        np.testing.assert_array_equal(mixed[index].people.boxes, part[number].people.boxes)
        assert mixed.images[index]().shape == part.images[number]().shape  # type: ignore[operator]
    sample = mixed[30].people
    knee, theirs = mixed.skeleton.names.index("left_knee"), people.skeleton.names.index("left_knee")
    np.testing.assert_array_equal(sample.keypoints[:, knee], people[numbers[30]].people.keypoints[:, theirs])
    again = mix_datasets([Part(dataset, 3), Part(people, 1)], seed=3)
    assert again.ids == mixed.ids
    assert mix_datasets([Part(dataset, 3), Part(people, 1)], seed=4).ids != mixed.ids
    assert len(mix_datasets([Part(dataset, 3), Part(people, 1)], count=10)) == 10


# --- files -----------------------------------------------------------------------------------------------------------


def test_smpl_annotations(shared: Path) -> None:
    path = shared / "data" / "format-samples" / "h36m" / "test_h36m.npz"
    found, arrays = smpl_npz_dataset(path), np.load(path)
    assert len(found) == 4
    assert found[0].image.is_file()  # type: ignore[union-attr]
    assert found[0].size == (1000, 1002)
    people = found.people
    known = arrays["part"][..., 2] > 0
    np.testing.assert_array_equal(people.labelled, known)
    np.testing.assert_allclose(people.keypoints[known], arrays["part"][known][:, :2], atol=1e-4)
    np.testing.assert_allclose(people.extra["keypoints_3d"][known], arrays["S"][known][:, :3] * 1000, rtol=1e-6)
    pose = to_axis_angle(torch.from_numpy(people.extra["rotations"])).flatten(1).numpy()
    np.testing.assert_allclose(pose, arrays["pose"], atol=2e-4)
    np.testing.assert_allclose(people.extra["shape"], arrays["shape"], atol=1e-6)
    center, scale = geometry.box_center_scale(people.boxes, PADDING)  # type: ignore[arg-type]
    np.testing.assert_allclose(center, arrays["center"], atol=1e-3)
    np.testing.assert_allclose(scale, np.repeat(200 * arrays["scale"][:, None], 2, axis=1), rtol=1e-5)
    example = MeshTransform(found.skeleton, (224, 224), mirror_index=tuple(range(24)), shapes=10)(
        found[0], np.random.default_rng(0)
    )
    assert example.targets["has_body"] == 1
    assert example.inputs["image"].std() > 10


@pytest.mark.parametrize(
    ("change", "said", "note"),
    [
        ({"center": None}, "holds no center", "a column is missing"),
        ({"pose": np.zeros((4, 69))}, r"`pose` has shape \(4, 69\)", "another body"),
        ({"imgname": np.array(["gone.jpg"] * 4)}, "gone.jpg", "no picture"),
        ({"part": np.full((4, 24, 3), "1.0")}, "`part` holds <U3, numbers are needed", "texts"),
        ({"gender": np.array(["m", "f"])}, r"`gender` has shape \(2,\)", "too few genders"),
        ({"gender": np.array(["m", "f", "x", "n"])}, r"`gender` is not m, f, .* for 1 of 4 people \(", "no gender"),
        ({"scale": np.array([1, 0, 1, -1.0])}, r"`scale` is not above 0 for 2 of 4 people \(.*\.jpg", "no size"),
    ],
)
def test_wrong_annotations(
    change: dict[str, np.ndarray | None], said: str, note: str, shared: Path, tmp_path: Path
) -> None:
    arrays = dict(np.load(shared / "data" / "format-samples" / "h36m" / "test_h36m.npz"))
    kept = {name: values for name, values in (arrays | change).items() if values is not None}
    np.savez(tmp_path / "wrong.npz", **kept)
    with pytest.raises(PosecliError, match=said):
        smpl_npz_dataset(tmp_path / "wrong.npz")


@pytest.mark.parametrize(
    ("genders", "numbers"),
    [
        (None, [0, 0, 0, 0]),
        (np.array(["m", "f", "n", ""]), [1, 2, 0, 0]),
        (np.array(["male", "FEMALE", "neutral", "f "]), [1, 2, 0, 2]),
        (np.array([b"m", b"f", b"f", b"m"]), [1, 2, 2, 1]),
    ],
    ids=["no column", "letters", "words", "bytes"],
)
def test_genders_of_annotations(genders: np.ndarray | None, numbers: list[int], shared: Path, tmp_path: Path) -> None:
    """As 3DPW's preparation names them; the numbers are those of GENDER_NUMBERS."""
    samples = shared / "data" / "format-samples" / "h36m"
    arrays = dict(np.load(samples / "test_h36m.npz")) | ({} if genders is None else {"gender": genders})
    np.savez(tmp_path / "told.npz", **arrays)
    found = smpl_npz_dataset(tmp_path / "told.npz", samples)
    assert found.people.extra["gender"].tolist() == numbers


@pytest.mark.parametrize("name", ["pose", "shape", "center", "scale"])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_labels_that_are_no_numbers(name: str, value: float, shared: Path, tmp_path: Path) -> None:
    """The file, the column, how many and the first pictures are named."""
    arrays = dict(np.load(shared / "data" / "format-samples" / "h36m" / "test_h36m.npz"))
    arrays[name] = arrays[name].copy()
    arrays[name][1] = value
    np.savez(tmp_path / "wrong.npz", **arrays)
    with pytest.raises(PosecliError) as raised:
        smpl_npz_dataset(tmp_path / "wrong.npz")
    said = f"wrong.npz: `{name}` is not finite for 1 of 4 people ({arrays['imgname'][1]})"
    assert said in str(raised.value)


def filled(value: float | str, rows: int = 3) -> dict[str, np.ndarray]:
    """A motion set of zeros but for one value in row 1."""
    pose = np.zeros((rows, 72)).astype("<U4" if isinstance(value, str) else float)
    pose[1, 5] = value
    return {"pose": pose, "shape": np.zeros((rows, 10))}


@pytest.mark.parametrize(
    ("arrays", "said"),
    [
        pytest.param(filled(np.nan), r"pose is not finite in 1 of 3 rows \(the first: 1\)", id="NaN"),
        pytest.param(filled(np.inf), "pose is not finite in 1 of 3 rows", id="infinite"),
        pytest.param(filled("x"), "pose holds <U4, a motion set needs numbers", id="texts"),
        pytest.param({"pose": np.zeros((2, 72))}, "no array shape in it", id="no shapes"),
    ],
)
def test_motion_sets_that_are_none(arrays: dict[str, np.ndarray], said: str, tmp_path: Path) -> None:
    np.savez(tmp_path / "motion.npz", **arrays)
    with pytest.raises(PosecliError, match=said):
        read_motion(tmp_path / "motion.npz", 24, 10)


def test_motion_set_of_the_reference(shared: Path) -> None:
    path = shared / "data" / "format-samples" / "mosh" / "test_mosh.npz"
    motion, arrays = read_motion(path, 24, 10), np.load(path)
    rotations, shape = motion(torch.tensor([0.0, 0.99], dtype=torch.float64))
    np.testing.assert_allclose(shape.numpy(), arrays["shape"][[0, 3]], atol=1e-6)
    turned = [cv2.Rodrigues(vector)[0] for vector in arrays["pose"][[0, 3]].reshape(-1, 3)]
    np.testing.assert_allclose(rotations.flatten(0, 1).numpy(), turned, atol=1e-5)
