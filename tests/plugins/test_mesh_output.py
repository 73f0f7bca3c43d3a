"""Bodies as pictures, files and scores: what is drawn, written and measured is what was found."""

from __future__ import annotations

import dataclasses
import io
import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from posecli.batch import collate
from posecli.config import parse_metric
from posecli.console import PosecliError
from posecli.drawing import PAPER
from posecli.exports import Exports
from posecli.inference import infer
from posecli.predictor import Predictor
from posecli.results import ResultsHeader, decode_people, encode_people, iterate_results
from posecli.sources import Frame, Source, find_sources
from posecli.types import Dataset, FloatArray, People, Prediction, SampleId
from posecli_mesh.benchmark import as_body, plain_layer, random_smpl, smplx_layer
from posecli_mesh.bodies import BODIES, GENDER_NUMBERS, Gender, open_body
from posecli_mesh.config import HMRConfig
from posecli_mesh.drawing import as_seen, draw_bodies, draw_over
from posecli_mesh.files import body_files
from posecli_mesh.guess import guess_bodies, mean_body
from posecli_mesh.metrics import SCORED, skins
from posecli_mesh.remembered import remember
from posecli_mesh.rotations import from_axis_angle
from posecli_mesh.scenes import body_vertices, drawn_body, synthetic_bodies


@pytest.fixture(scope="module")
def dataset() -> Dataset:
    return synthetic_bodies(20, seed=3, size=(160, 120))


@pytest.fixture(scope="module")
def faces() -> np.ndarray:
    return np.asarray(drawn_body("capsules").faces.numpy())


def perfect(dataset: Dataset, index: int) -> People:
    """The truth of a sample as a prediction."""
    scene, truth = dataset.images.scenes.take(index), dataset[index].people  # type: ignore[attr-defined]
    camera = np.array([[scene.cameras.focal[0], *scene.cameras.center[0]]])
    extra = {name: truth.extra[name] for name in ("rotations", "shape", "row")}
    vertices = (body_vertices(scene) * 1000)[None].astype(np.float32)
    sure = np.ones((1, 24), np.float32)
    extra |= {"vertices": vertices, "camera": camera}
    return People(truth.extra["keypoints_3d"], sure, truth.boxes, sure[:, 0], extra)


# --- drawing ---------------------------------------------------------------------------------------------------------


def test_body_lies_where_it_is_seen(dataset: Dataset, faces: np.ndarray) -> None:
    people = perfect(dataset, 0)
    black = np.zeros((120, 160, 3), np.uint8)
    drawn = draw_over(black, people, faces).max(axis=-1) > 0
    left, top, right, bottom = dataset.people.boxes[0].tolist()  # type: ignore[index]
    rows, columns = np.nonzero(drawn)
    np.testing.assert_allclose(
        [columns.min(), rows.min(), columns.max(), rows.max()], [left, top, right, bottom], atol=1.1
    )
    assert not black.any(), "the picture is copied"


def test_views_stand_beside_the_picture(dataset: Dataset, faces: np.ndarray) -> None:
    people = perfect(dataset, 1)
    image = np.full((300, 160, 3), 60, np.uint8)
    drawn = draw_bodies(image, people, faces, 0.3)
    assert drawn.shape == (300, 160 + 2 * 210, 3)
    for view in (drawn[40:, 160:370], drawn[40:, 370:]):
        covered = (view != PAPER).any(axis=-1)
        assert 0.02 < covered.mean() < 0.6
        assert not covered[:, 0].any()
    hidden = draw_bodies(image, people, faces, 1.1)
    np.testing.assert_array_equal(hidden[:, :160], image)
    nobody = draw_bodies(image[:50], People.empty(24, 3), faces, 0.3)
    assert nobody.shape == (250, 800 + 2 * 175, 3), "small pictures are enlarged a whole number of times"


def test_truth_is_drawn_like_a_perfect_prediction(dataset: Dataset, faces: np.ndarray) -> None:
    """Its camera follows from where its 3D keypoints are in the picture; small pictures are enlarged with it."""
    truth, prediction = dataset[3].people, perfect(dataset, 3)
    found = as_seen(truth)
    assert found is not None
    np.testing.assert_allclose(found.extra["camera"], prediction.extra["camera"], rtol=1e-4, atol=0.05)
    np.testing.assert_allclose(found.keypoints, prediction.keypoints, atol=0.5)
    small = draw_bodies(np.zeros((120, 160, 3), np.uint8), prediction, faces, 0.3)[:, :320]
    seen = small.max(axis=-1) > 0
    left, top, right, bottom = (2 * dataset.people.boxes[3] + 0.5).tolist()  # type: ignore[index]
    rows, columns = np.nonzero(seen)
    np.testing.assert_allclose(
        [columns.min(), rows.min(), columns.max(), rows.max()], [left, top, right, bottom], atol=2.1
    )


@pytest.mark.parametrize(
    "column",
    [pytest.param({"has_body": np.zeros(1)}, id="no body"), pytest.param({"keypoints_3d": None}, id="from the root")],
)
def test_truth_without_a_body_before_a_camera_has_none(dataset: Dataset, column: dict[str, np.ndarray | None]) -> None:
    truth = dataset[0].people
    points = truth.extra["keypoints_3d"]
    values = {name: points - points[:, :1] if value is None else value for name, value in column.items()}
    assert as_seen(truth.with_extra(**values)) is None


def test_the_nearer_body_hides_the_other(dataset: Dataset, faces: np.ndarray) -> None:
    """Also when it comes first, and whatever the focal lengths that the two were found with."""
    near = perfect(dataset, 2)
    vertices = near.extra["vertices"].copy()
    vertices[..., 2] += 400
    far = near.with_extra(vertices=vertices)
    longer = near.with_extra(vertices=far.extra["vertices"] * [1, 1, 2.0], camera=near.extra["camera"] * [2, 1, 1])
    black = np.zeros((120, 160, 3), np.uint8)
    for other in (far, longer):
        both = draw_over(black, People.concatenate([near, other]), faces)
        alone = draw_over(black, near, faces)
        inside = alone.min(axis=-1) > 40
        assert np.abs(both.astype(int) - alone)[inside].mean() < 4


# --- files -----------------------------------------------------------------------------------------------------------


def test_files_are_read_back(dataset: Dataset, faces: np.ndarray) -> None:
    people = People.concatenate([perfect(dataset, 0), perfect(dataset, 1)])
    files = body_files(people, faces, dataset.skeleton.names)
    vertices, corners = read_obj(files[".obj"].decode())
    upright = people.extra["vertices"].reshape(-1, 3) * [1, -1, -1] / 1000
    np.testing.assert_allclose(vertices, upright, atol=1e-5)
    every = np.concatenate([faces, faces + len(upright) // 2])
    np.testing.assert_array_equal(corners, every)
    vertices, corners = read_ply(files[".ply"])
    np.testing.assert_allclose(vertices, upright, rtol=1e-6)
    np.testing.assert_array_equal(corners, every)
    arrays = np.load(io.BytesIO(files[".npz"]), allow_pickle=False)
    turned = from_axis_angle(torch.from_numpy(arrays["pose"]).view(2, 24, 3))
    np.testing.assert_allclose(turned.numpy(), people.extra["rotations"], atol=1e-5)
    np.testing.assert_array_equal(arrays["shape"], people.extra["shape"])
    np.testing.assert_array_equal(arrays["keypoints"], people.keypoints)
    assert arrays["keypoint_names"].tolist() == list(dataset.skeleton.names)
    assert not body_files(People.empty(24, 3), faces, dataset.skeleton.names)


def read_obj(text: str) -> tuple[FloatArray, np.ndarray]:
    rows = [line.split() for line in text.splitlines()]
    assert [row[1] for row in rows if row[0] == "o"] == ["person_0", "person_1"]
    vertices = np.array([row[1:] for row in rows if row[0] == "v"], dtype=float)
    return vertices, np.array([row[1:] for row in rows if row[0] == "f"], dtype=int) - 1


def read_ply(content: bytes) -> tuple[FloatArray, np.ndarray]:
    header, _, body = content.partition(b"end_header\n")
    counts = [int(line.split()[-1]) for line in header.decode().splitlines() if line.startswith("element")]
    vertices = np.frombuffer(body, "<f4", counts[0] * 3).reshape(-1, 3)
    rows = np.frombuffer(body[vertices.nbytes :], [("count", "u1"), ("corners", "<i4", (3,))])
    assert len(rows) == counts[1]
    assert (rows["count"] == 3).all()
    return vertices, rows["corners"]


def test_exports_lie_under_the_pictures_names(tmp_path: Path) -> None:
    names = ("a.jpg", "a.png", "film.mp4")
    sources = [Source(name, "video" if name == "film.mp4" else "picture", Path(name)) for name in names]
    exports = Exports(sources, tmp_path, lambda prediction: {".txt": str(prediction.id).encode()})
    for source in sources:
        frame = Frame(source, 0, np.zeros((4, 4, 3), np.uint8))
        exports.write(frame, Prediction(source.name, People.empty(24)))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a-2.txt", "a.txt"]
    assert (tmp_path / "a-2.txt").read_text() == "a.png"


def test_results_leave_vertices_out(dataset: Dataset) -> None:
    rows = json.loads(json.dumps(encode_people(perfect(dataset, 0))))
    back = decode_people(rows, 24)
    assert "vertices" not in back.extra
    np.testing.assert_array_equal(back.extra["rotations"], dataset.people.extra["rotations"][:1])


# --- scores ----------------------------------------------------------------------------------------------------------


def without_skin(people: People) -> People:
    """Predicted people as they come from results on disk."""
    kept = {name: values for name, values in people.extra.items() if name != "vertices"}
    return dataclasses.replace(people, extra=kept)


def test_vertex_error_is_the_mean_distance(dataset: Dataset) -> None:
    """0 for the truth wherever it stands; for another shape it is what the bodies' vertices say."""
    metric = parse_metric("pve").build(dataset.skeleton)
    exact: dict[SampleId, People] = {index: perfect(dataset, index) for index in range(20)}
    assert metric.compute(dataset, exact)[0].value < 1e-3
    moved: dict[SampleId, People] = {
        index: without_skin(people).with_extra(shape=people.extra["shape"] + np.float32(1))
        for index, people in exact.items()
    }
    del moved[7]
    score = metric.compute(dataset, moved)[0]
    body, errors = drawn_body("capsules"), []
    hips = [body.joints.index("left_hip"), body.joints.index("right_hip")]
    for index, people in moved.items():
        skins = []
        for shape in (people.extra["shape"], dataset.people.extra["shape"][int(index) : int(index) + 1]):
            found = body(torch.from_numpy(people.extra["rotations"]), torch.from_numpy(shape))
            skins.append((found.vertices - found.joints[:, hips].mean(dim=1, keepdim=True))[0].numpy() * 1000)
        errors.append(np.linalg.norm(skins[0] - skins[1], axis=1).mean())
    assert score.value == pytest.approx(np.mean(errors), rel=1e-5)
    assert "1 not predicted" in score.note


def test_vertex_error_needs_bodies(dataset: Dataset) -> None:
    metric = parse_metric("pve").build(dataset.skeleton)
    flat: dict[SampleId, People] = {0: People(np.zeros((1, 24, 3)), np.ones((1, 24)), extra={"row": np.zeros(1, int)})}
    with pytest.raises(PosecliError, match="no pose and shape"):
        metric.compute(dataset, flat)
    other: dict[SampleId, People] = {0: perfect(dataset, 0).with_extra(shape=np.zeros((1, 6), np.float32))}
    with pytest.raises(PosecliError, match="another body"):
        metric.compute(dataset, other)
    with pytest.raises(PosecliError, match="no body named"):
        parse_metric("pve:nobody")


@pytest.mark.parametrize(
    ("metric", "theirs", "predicted", "said"),
    [
        pytest.param("pve:smpl", [0], 0, "pve:smpl cannot score .*: use pve:capsules", id="data"),
        pytest.param("pve:anny", [0], 0, "has bodies of 'capsules'", id="data, other numbers"),
        pytest.param("pve", [0], 1, "bodies of 'capsules' and the predictions are of 'smpl'", id="predictions"),
        pytest.param("pve", [0], 2, "bodies of 'capsules' and the predictions are of 'anny'", id="other numbers"),
        pytest.param("pve", [0, 1], 0, "has bodies of 'capsules' and 'smpl': pve scores one kind", id="mixed data"),
    ],
)
def test_vertex_error_of_other_bodies(
    metric: str, theirs: list[int], predicted: int, said: str, dataset: Dataset
) -> None:
    data = dataclasses.replace(dataset, people=dataset.people.with_extra(body=np.resize(theirs, 20)))
    found: dict[SampleId, People] = {0: perfect(dataset, 0).with_extra(body=np.array([predicted]))}
    if predicted == BODIES.index("anny"):
        found[0] = found[0].with_extra(shape=np.zeros((1, 6), np.float32))
    with pytest.raises(PosecliError, match=said):
        parse_metric(metric).build(dataset.skeleton).compute(data, found)


def test_vertex_error_of_a_mix_with_keypoints_alone(dataset: Dataset) -> None:
    """Rows without a body name none, whatever number stands in their column."""
    columns = {"body": np.repeat([0, 1], 10), "has_body": np.repeat(np.array([1, np.nan], np.float32), 10)}
    data = dataclasses.replace(dataset, people=dataset.people.with_extra(**columns))
    exact: dict[SampleId, People] = {index: perfect(dataset, index) for index in range(20)}
    score = parse_metric("pve").build(dataset.skeleton).compute(data, exact)[0]
    assert score.value < 1e-3
    assert "10 bodies" in score.note


def test_vertex_error_of_nobody(dataset: Dataset) -> None:
    data = dataclasses.replace(dataset, people=dataset.people.with_extra(has_body=np.zeros(20, np.float32)))
    score = parse_metric("pve").build(dataset.skeleton).compute(data, {0: perfect(dataset, 0)})[0]
    assert np.isnan(score.value)
    assert "0 bodies" in score.note


def remember_bodies(folder: Path, sizes: dict[Gender, float]) -> None:
    """Set SMPL files of random bodies, one a gender, which differ in size."""
    fields, random = random_smpl(), np.random.default_rng(0)
    regressor = random.random((24, len(fields["v_template"])))
    np.save(folder / "regressor.npy", regressor / regressor.sum(axis=1, keepdims=True))
    for gender, size in sizes.items():
        path = folder / f"SMPL_{gender.upper()}.npz"
        np.savez(path, **fields | {"v_template": fields["v_template"] * size})  # type: ignore[arg-type]
        remember("smpl", {gender: str(path), "regressor": str(folder / "regressor.npy")})


def test_vertex_error_of_a_female_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dataset: Dataset) -> None:
    """Scored with its own skin: as it was found, and from results on disk with the remembered file of its gender."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "settings"))
    remember_bodies(tmp_path, {"neutral": 1.0, "female": 0.9})
    config = {"backbone": {"use": "resnet", "depth": 18}, "input_size": (64, 64), "hidden": 8}
    config["body"] = {"name": "smpl", "gender": "female"}
    model = HMRConfig.model_validate(config).build(dataset.skeleton).eval()
    data = dataclasses.replace(dataset, people=dataset.people.with_extra(body=np.ones(20, int))).take([0, 1])
    batch = collate([model.transform(False)(unit, np.random.default_rng(0)) for unit in model.units(data)])
    with torch.inference_mode():
        found = {one.id: one.people for one in model.predict(batch)}
    assert [int(found[0].extra[name][0]) for name in ("body", "gender")] == [1, 2]
    metric = parse_metric("pve").build(dataset.skeleton)
    score = metric.compute(data, found)[0]
    assert "female bodies were found, against neutral ones" in score.note
    read = {key: decode_people(json.loads(json.dumps(encode_people(people))), 24) for key, people in found.items()}
    assert metric.compute(data, read)[0].value == pytest.approx(score.value, rel=1e-4)
    neutral = {key: without_skin(people).with_extra(gender=np.zeros(1, int)) for key, people in found.items()}
    assert abs(metric.compute(data, neutral)[0].value - score.value) > 1
    (tmp_path / "SMPL_FEMALE.npz").unlink()
    assert metric.compute(data, found)[0].value == score.value, "its own skin needs no file"
    with pytest.raises(PosecliError, match="the SMPL file that was set is gone"):
        metric.compute(data, read)


def test_vertex_error_of_true_bodies_of_each_gender(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dataset: Dataset
) -> None:
    """Each true body is skinned by the file of its own gender; a file that is not set is asked for."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "settings"))
    remember_bodies(tmp_path, {"neutral": 1.0, "male": 1.1, "female": 0.9})
    neutral, male, female = (open_body("smpl", gender=gender) for gender in GENDER_NUMBERS)
    data = dataset.take(range(4))
    people = data.people.with_extra(body=np.ones(4, int), gender=np.array([0, 1, 2, 2]))
    data = dataclasses.replace(data, people=people)
    found: dict[SampleId, People] = {
        index: without_skin(perfect(dataset, index)).with_extra(gender=np.zeros(1, int)) for index in range(4)
    }
    score = parse_metric("pve").build(data.skeleton).compute(data, found)[0]
    expected = [
        np.linalg.norm(skins(body, people[[row]]) - skins(neutral, people[[row]]), axis=-1).mean()
        for row, body in enumerate([neutral, male, female, female])
    ]
    assert score.value == pytest.approx(np.mean(expected), rel=1e-4)
    assert expected[0] == 0
    assert min(expected[1:]) > 1
    assert "neutral bodies were found, against 1 neutral, 1 male, 2 female ones" in score.note
    (tmp_path / "SMPL_MALE.npz").unlink()
    with pytest.raises(PosecliError, match="the SMPL file that was set is gone"):
        parse_metric("pve").build(data.skeleton).compute(data, found)


def test_fourteen_joints_as_the_reference_scores_them(dataset: Dataset) -> None:
    """Against the definition: `functional29_metrics` does the same with 14 joints from the middle of the hips."""
    random = np.random.default_rng(0)
    noisy: dict[SampleId, People] = {index: perfect(dataset, index) for index in range(20)}
    noisy = {
        index: People(people.keypoints + random.normal(0, 30, (1, 24, 3)), people.scores, extra=people.extra)
        for index, people in noisy.items()
    }
    score = parse_metric("mpjpe-14").build(dataset.skeleton).compute(dataset, noisy)[0]
    found = np.concatenate([people.keypoints for people in noisy.values()])
    true = dataset.people.extra["keypoints_3d"]
    apart = (found - found[:, 2:4].mean(axis=1, keepdims=True)) - (true - true[:, 2:4].mean(axis=1, keepdims=True))
    assert score.value == pytest.approx(np.linalg.norm(apart[:, list(SCORED)], axis=-1).mean(), rel=1e-5)
    assert score.name == "MPJPE-14"
    aligned = parse_metric("p-mpjpe-14").build(dataset.skeleton).compute(dataset, noisy)[0]
    assert 10 < aligned.value < score.value


def test_guess_is_the_mean_body(dataset: Dataset) -> None:
    body = drawn_body("capsules")
    rotations, shape = mean_body(dataset)
    np.testing.assert_allclose(rotations @ np.swapaxes(rotations, -1, -2), np.repeat(np.eye(3)[None], 24, 0), atol=1e-6)
    np.testing.assert_allclose(np.linalg.det(rotations), 1, atol=1e-6)
    np.testing.assert_allclose(shape, dataset.people.extra["shape"].mean(axis=0), atol=1e-6)
    index = torch.tensor([body.joints.index(name) for name in dataset.skeleton.names])
    guesses = {one.id: one.people for one in guess_bodies(body, index, dataset, dataset)}
    scores = {
        text: parse_metric(text).build(dataset.skeleton).compute(dataset, guesses)[0].value
        for text in ("mpjpe", "p-mpjpe", "pve")
    }
    assert 60 < scores["p-mpjpe"] < scores["mpjpe"] < 500
    assert 60 < scores["pve"] < 500


# --- speed -----------------------------------------------------------------------------------------------------------


def test_layers_that_are_measured_agree() -> None:
    """Vertices to 1e-5 m with the plain loop, and with the package smplx where it is installed."""
    fields = random_smpl()
    body, generator = as_body(fields), torch.Generator().manual_seed(1)
    pose, shape = torch.randn(3, 24, 3, generator=generator) * 0.4, torch.randn(3, 10, generator=generator)
    rotations = from_axis_angle(pose)
    ours = body(rotations, shape).vertices
    torch.testing.assert_close(ours, plain_layer(fields)(pose, rotations, shape), atol=1e-5, rtol=0)
    theirs = smplx_layer(fields, 3)
    if theirs is not None:
        torch.testing.assert_close(ours, theirs(pose, rotations, shape), atol=1e-5, rtol=0)


def test_a_model_draws_writes_and_tells_the_same(tmp_path: Path, dataset: Dataset) -> None:
    """A fresh model on a picture: overlay, mesh, parameters and results agree; vertices follow from results alone."""
    torch.manual_seed(0)
    config = HMRConfig.model_validate(
        {"backbone": {"use": "resnet", "depth": 18}, "input_size": (64, 64), "hidden": 32}
    )
    model = config.build(dataset.skeleton).eval()
    picture = tmp_path / "person.png"
    cv2.imwrite(str(picture), dataset.images[0]()[..., ::-1])  # type: ignore[operator]
    predictor = Predictor(model, batch_size=1, header=ResultsHeader(model.skeleton))
    found = infer(find_sources([str(picture)]), predictor, tmp_path / "out", threshold=0.0)
    assert found.people == 1
    assert {".png", ".obj", ".ply", ".npz"} <= {path.suffix for path in (tmp_path / "out").iterdir()}
    prediction = next(iter(iterate_results(tmp_path / "out" / "results.jsonl")))
    parameters = np.load(tmp_path / "out" / "person.npz")
    np.testing.assert_allclose(prediction.people.extra["rotations"], parameters["rotations"], atol=1e-6)
    again, _ = read_ply(model.files(prediction)[".ply"])
    written, _ = read_ply((tmp_path / "out" / "person.ply").read_bytes())
    np.testing.assert_allclose(again, written, atol=2e-4)
