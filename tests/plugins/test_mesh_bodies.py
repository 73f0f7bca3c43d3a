"""Bodies: SMPL from files as users have them, the built-in body, rotations, skinning, and what bad files are told."""

from __future__ import annotations

import pickle
import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy import sparse
from torch import Tensor
from typer.testing import CliRunner

from posecli.console import PosecliError
from posecli_mesh import rotations as turn
from posecli_mesh.bodies import BONES, PARENTS, Body, BodyOutput, LinearBody, open_body
from posecli_mesh.command import mesh_app
from posecli_mesh.remembered import remember, remembered, remembered_at
from posecli_mesh.skinning import Chain, skin
from posecli_mesh.smpl import gender_of

Arrays = dict[str, Any]


@pytest.fixture(scope="module")
def synthetic(golden: Path) -> dict[str, np.ndarray]:
    """A body in SMPL's format with 50 vertices, and what smplx and MMPose 0.29.0 make of it."""
    with np.load(golden / "smpl_synthetic.npz") as archive:
        return dict(archive)


def smpl_arrays(vertices: int = 40, seed: int = 0) -> Arrays:
    """A body in SMPL's format, of random numbers."""
    random = np.random.default_rng(seed)
    weights, joints = random.random((vertices, 24)) ** 8, random.random((24, vertices)) ** 8
    return {
        "v_template": random.normal(0, 0.4, (vertices, 3)),
        "shapedirs": random.normal(0, 0.02, (vertices, 3, 10)),
        "posedirs": random.normal(0, 0.002, (vertices, 3, 207)),
        "J_regressor": joints / joints.sum(axis=1, keepdims=True),
        "weights": weights / weights.sum(axis=1, keepdims=True),
        "kintree_table": np.array([[2**32 - 1, *PARENTS[1:]], range(24)], dtype=np.uint32),
        "f": random.integers(0, vertices, (30, 3)).astype(np.uint32),
    }


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder of settings."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "settings"))
    return tmp_path


def save_npz(folder: Path, arrays: Arrays, name: str = "SMPL_NEUTRAL.npz") -> Path:
    np.savez(folder / name, **arrays)
    return folder / name


def bodies_of(body: Body, poses: Tensor, shape: Tensor) -> BodyOutput:
    output: BodyOutput = body(turn.from_axis_angle(poses.view(len(poses), -1, 3)), shape)
    return output


# --- SMPL -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("gender", ["neutral", "male", "female"])
def test_smpl_is_the_reference(synthetic: dict[str, np.ndarray], tmp_path: Path, gender: Any) -> None:
    """Vertices and joints of all three genders to 1e-5 m; the female ones are the female body's, not the male's."""
    larger = {"neutral": 1.0, "male": 1.05, "female": 0.95}[gender]
    arrays = {name.removeprefix("model/"): values for name, values in synthetic.items() if name.startswith("model/")}
    arrays["v_template"] = arrays["v_template"] * larger
    np.save(tmp_path / "regressor.npy", synthetic["joints_regressor"])
    path = save_npz(tmp_path, arrays, f"SMPL_{gender.upper()}.npz")
    body = open_body("smpl", path, gender, tmp_path / "regressor.npy")
    found = bodies_of(body, torch.from_numpy(synthetic["in/pose_axis_angle"]), torch.from_numpy(synthetic["in/betas"]))
    key = "out/vertices" if gender == "neutral" else f"out/{gender}_vertices"
    assert np.abs(found.vertices.numpy() - synthetic[key]).max() <= 1e-5
    if gender == "neutral":
        assert np.abs(found.joints.numpy() - synthetic["out/joints_regressed"]).max() <= 1e-5
        own = bodies_of(
            open_body("smpl", path),
            torch.from_numpy(synthetic["in/pose_axis_angle"]),
            torch.from_numpy(synthetic["in/betas"]),
        )
        assert np.abs(own.joints.numpy() - synthetic["out/smpl_joints24"]).max() <= 1e-5
        moved = found.vertices + torch.from_numpy(synthetic["in/transl"])[:, None]
        assert np.abs(moved.numpy() - synthetic["out_transl/vertices"]).max() <= 1e-5


def test_smpl_is_smplx(tmp_path: Path) -> None:
    """The layer of the smplx package on the same file, to 1e-5 m."""
    smplx = pytest.importorskip("smplx", reason="needs the package smplx")
    arrays = smpl_arrays(6890)
    with (tmp_path / "SMPL_NEUTRAL.pkl").open("wb") as stream:
        pickle.dump(arrays, stream, protocol=2)
    theirs = smplx.SMPL(str(tmp_path / "SMPL_NEUTRAL.pkl"), batch_size=2)
    generator = torch.Generator().manual_seed(0)
    poses, shape = torch.randn(2, 72, generator=generator), torch.randn(2, 10, generator=generator)
    expected = theirs(betas=shape, global_orient=poses[:, :3], body_pose=poses[:, 3:]).vertices
    found = bodies_of(open_body("smpl", tmp_path / "SMPL_NEUTRAL.pkl"), poses, shape)
    assert (found.vertices - expected.detach()).abs().max() <= 1e-5


def official(arrays: Arrays, monkeypatch: pytest.MonkeyPatch) -> Arrays:
    """The same body as the official pickles hold it: chumpy's arrays, scipy's sparse regressor.

    Stand-ins for chumpy's classes exist while the file is written, and not when it is read.
    """
    kinds = {}
    monkeypatch.setitem(sys.modules, "chumpy", types.ModuleType("chumpy"))
    for module, name in (("chumpy.ch", "Ch"), ("chumpy.reordering", "Select")):
        made = types.ModuleType(module)
        kinds[name] = type(name, (), {"__module__": module})
        setattr(made, name, kinds[name])
        monkeypatch.setitem(sys.modules, module, made)
    plain, chosen, inner = kinds["Ch"](), kinds["Select"](), kinds["Ch"]()
    plain.__dict__.update(x=arrays["v_template"], _dirty_vars=set())
    order = np.random.default_rng(1).permutation(arrays["shapedirs"].size)
    inner.__dict__.update(x=arrays["shapedirs"].ravel()[np.argsort(order)])
    chosen.__dict__.update(a=inner, idxs=order, preferred_shape=arrays["shapedirs"].shape)
    wrapped = {"v_template": plain, "shapedirs": chosen, "J_regressor": sparse.csc_matrix(arrays["J_regressor"])}
    return arrays | wrapped | {"bs_style": "lbs", "vert_sym_idxs": np.arange(4)}


@pytest.mark.parametrize("protocol", [0, 2])
def test_official_pickles(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, protocol: int) -> None:
    """A pickle with chumpy's and scipy's objects gives the very body of plain arrays; chumpy is not needed."""
    arrays = smpl_arrays()
    path = tmp_path / "basicmodel_neutral_lbs_10_207_0_v1.1.0.pkl"
    with monkeypatch.context() as writing:
        path.write_bytes(pickle.dumps(official(arrays, writing), protocol=protocol))
    read, plain = open_body("smpl", path), open_body("smpl", save_npz(tmp_path, arrays))
    assert isinstance(read, LinearBody)
    assert isinstance(plain, LinearBody)
    for name, values in plain.named_buffers():
        assert torch.equal(dict(read.named_buffers())[name], values), name


@pytest.mark.parametrize("kind", [sparse.csr_matrix, sparse.coo_matrix, sparse.csc_matrix])
def test_sparse_regressors(tmp_path: Path, kind: Callable[..., Any]) -> None:
    """In .npz files a sparse matrix is an object of size one."""
    arrays = smpl_arrays()
    dense = open_body("smpl", save_npz(tmp_path, arrays))
    packed = np.empty((), dtype=object)
    packed[()] = kind(arrays["J_regressor"])
    found = open_body("smpl", save_npz(tmp_path, arrays | {"J_regressor": packed}))
    assert isinstance(dense, LinearBody)
    assert isinstance(found, LinearBody)
    assert torch.equal(found.joint_template, dense.joint_template)


FAULTS: list[tuple[Callable[[Arrays], Arrays], str]] = [
    (lambda a: {k: v for k, v in a.items() if k != "posedirs"}, "posedirs missing"),
    (lambda a: a | {"weights": a["weights"][:, :23]}, r"weights is \(40, 23\) instead of \(40, 24\)"),
    (lambda a: a | {"kintree_table": np.zeros((2, 55))}, "55 bones and SMPL has 24"),
    (lambda a: a | {"v_template": a["v_template"] * np.nan}, "v_template holds values that are no numbers"),
    (lambda a: a | {"f": a["f"] + 40}, "vertices that are not there"),
    (lambda a: a | {"shapedirs": a["shapedirs"][..., :5]}, "shapedirs is"),
    (lambda a: a | {"shapedirs": np.array("text")}, "shapedirs is no array"),
    (lambda a: a | {"gender": np.array("female")}, "SMPL's female body, and the neutral one was asked for"),
]


@pytest.mark.parametrize(("spoil", "message"), FAULTS)
def test_bad_files_are_named(tmp_path: Path, spoil: Callable[[Arrays], Arrays], message: str) -> None:
    path = save_npz(tmp_path, spoil(smpl_arrays()))
    with pytest.raises(PosecliError, match=message) as raised:
        open_body("smpl", path)
    assert str(path) in str(raised.value)


@pytest.mark.parametrize("name", ["SMPL_NEUTRAL.npz", "SMPL_NEUTRAL.pkl"])
def test_truncated_files_are_named(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    whole = (
        save_npz(tmp_path, smpl_arrays(), "whole.npz").read_bytes()
        if name.endswith("npz")
        else pickle.dumps(smpl_arrays())
    )
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(PosecliError, match=r"damaged") as raised:
        open_body("smpl", path)
    assert str(path) in str(raised.value)


def test_wrong_gender_is_named(tmp_path: Path) -> None:
    path = save_npz(tmp_path, smpl_arrays(), "SMPL_MALE.npz")
    with pytest.raises(PosecliError, match=r"SMPL_MALE\.npz is SMPL's male body, and the female one was asked for"):
        open_body("smpl", path, "female")


GENDERS = [
    ("SMPL_FEMALE.npz", "female"),
    ("basicModel_f_lbs_10_207_0_v1.0.0.pkl", "female"),
    ("basicmodel_m_lbs_10_207_0_v1.1.0.pkl", "male"),
    ("basicmodel_neutral_lbs_10_207_0_v1.1.0.pkl", "neutral"),
    ("male/model.pkl", "male"),
    ("mine/my_smpl.pkl", None),
]


@pytest.mark.parametrize(("name", "gender"), GENDERS)
def test_names_tell_the_gender(name: str, gender: str | None) -> None:
    assert gender_of(Path("bodies") / name) == gender


# --- remembered files -----------------------------------------------------------------------------------------------


def test_nothing_is_set(settings: Path) -> None:
    """Where to get it, under which licence, and the command."""
    with pytest.raises(PosecliError, match=r"https://smpl.is.tue.mpg.de.*licence.*`posecli mesh body set smpl PATH`"):
        open_body("smpl")


def test_set_and_show(settings: Path) -> None:
    """A folder with two genders and a regressor; the third gender is missed by name; a file that went is told."""
    folder = settings / "models"
    folder.mkdir()
    for name in ("SMPL_NEUTRAL.npz", "SMPL_FEMALE.npz"):
        save_npz(folder, smpl_arrays(), name)
    np.save(settings / "regressor.npy", smpl_arrays()["J_regressor"])
    run = CliRunner()
    result = run.invoke(mesh_app, ["body", "set", "smpl", str(folder), "--regressor", str(settings / "regressor.npy")])
    assert result.exception is None, result.output
    assert set(remembered("smpl")) == {"neutral", "female", "regressor"}
    assert remembered_at().is_relative_to(settings)
    assert open_body("smpl").joints[0] == "right_ankle"
    with pytest.raises(PosecliError, match="no SMPL file for a male body is set, only for female, neutral"):
        open_body("smpl", gender="male")
    (folder / "SMPL_NEUTRAL.npz").unlink()
    shown = run.invoke(mesh_app, ["body", "show"]).output
    assert "gone" in shown
    with pytest.raises(PosecliError, match="the SMPL file that was set is gone"):
        open_body("smpl")


FOLDERS = [
    pytest.param(["smpl/SMPL_FEMALE.npz", "smplx/SMPLX_FEMALE.npz"], {"female"}, None, id="SMPL-X beside it"),
    pytest.param(["SMPL_MALE.npz", "smplh/male/model.npz"], {"male"}, None, id="AMASS' SMPL-H beside it"),
    pytest.param(["SMPL_MALE.npz", "MANO_N.npz", "flame/FLAME_N.npz"], {"male"}, None, id="hands and faces beside it"),
    pytest.param(["smplx/SMPLX_FEMALE.npz"], set(), "no .pkl or .npz file of SMPL in", id="another family alone"),
    pytest.param(
        ["a/SMPL_MALE.npz", "b/SMPL_MALE.npz"],
        set(),
        r"two files for a male body, .*/a/SMPL_MALE.npz and .*/b/SMPL_MALE.npz: set one",
        id="two for a gender",
    ),
]


@pytest.mark.parametrize(("names", "genders", "message"), FOLDERS)
def test_folders_of_several_bodies(settings: Path, names: list[str], genders: set[str], message: str | None) -> None:
    """Files of other families are left out; two for a gender are refused."""
    for name in names:
        path = settings / "models" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        save_npz(path.parent, smpl_arrays() if "SMPL_" in name else {"nothing": np.zeros(1)}, path.name)
    result = CliRunner().invoke(mesh_app, ["body", "set", "smpl", str(settings / "models")])
    if message is None:
        assert result.exception is None, result.output
    else:
        with pytest.raises(PosecliError, match=message):
            raise result.exception or AssertionError(result.output)
    assert set(remembered("smpl")) == genders


def test_a_path_of_another_folder(
    settings: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """What a config names and is not there is taken from what is remembered, and that is said; else both are named."""
    stored, regressor = Path("models/SMPL_NEUTRAL.npz"), Path("regressor.npy")
    monkeypatch.chdir(settings)
    with pytest.raises(PosecliError, match=r"no SMPL file .*models/SMPL_NEUTRAL.npz .*, and none is remembered:"):
        open_body("smpl", stored)
    path = save_npz(settings, smpl_arrays())
    np.save(settings / "kept.npy", smpl_arrays()["J_regressor"])
    remember("smpl", {"neutral": str(path), "regressor": str(settings / "kept.npy")})
    assert open_body("smpl", stored, regressor=regressor).joints[0] == "right_ankle"
    said = capsys.readouterr().err
    assert f"no file models/SMPL_NEUTRAL.npz (looked for in {settings})" in said
    assert f"is used, {path}" in said
    assert "no file regressor.npy" in said
    path.unlink()
    with pytest.raises(PosecliError, match=r"and the remembered .*SMPL_NEUTRAL.npz is gone too"):
        open_body("smpl", stored)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["anny", "file.npz"], "needs no file"),
        (["smpll", "model.npz"], "no body named 'smpll'; known are capsules, smpl and anny"),
        (["smpl", "model.npz", "--gender", "male", "--regressor", "no.npy"], r"no regressor no.npy: .* a .npy file"),
        (["smpl", "nothing.npz"], "no SMPL file .*nothing.npz"),
        (["smpl", "model.npz"], "does not tell whose body it is"),
        (["smpl", "model.npz", "--gender", "both"], "there are male, female, neutral"),
    ],
)
def test_set_says_what_is_wrong(
    settings: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], message: str
) -> None:
    (settings / "here").mkdir()
    monkeypatch.chdir(settings / "here")
    save_npz(settings / "here", smpl_arrays(), "model.npz")
    result = CliRunner().invoke(mesh_app, ["body", "set", *arguments])
    assert isinstance(result.exception, PosecliError)
    assert result.exception.args
    with pytest.raises(PosecliError, match=message):
        raise result.exception
    assert not remembered_at().exists()


def test_a_spoilt_memory_is_told(settings: Path) -> None:
    remember("smpl", {"neutral": "there.npz"})
    remembered_at().write_text("{")
    with pytest.raises(PosecliError, match="remove it"):
        remembered("smpl")


# --- the built-in body ----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def capsules() -> LinearBody:
    body = open_body("capsules")
    assert isinstance(body, LinearBody)
    return body


def some(count: int, size: float = 0.4) -> tuple[Tensor, Tensor]:
    """Rotations (B, 24, 3, 3) and shapes (B, 10)."""
    generator = torch.Generator().manual_seed(3)
    poses = size * torch.randn(count, 24, 3, generator=generator)
    return turn.from_axis_angle(poses), torch.randn(count, 10, generator=generator)


def test_the_built_in_body_is_a_body(capsules: LinearBody) -> None:
    """An adult of the usual height and volume, upright, with closed limbs whose faces look outward."""
    rest = capsules(torch.eye(3).expand(1, 24, 3, 3), torch.zeros(1, 10)).vertices[0]
    assert 1000 <= len(rest) <= 3000
    assert rest[:, 1].max() - rest[:, 1].min() == pytest.approx(1.74, abs=0.05)  # metres
    corners = rest[capsules.faces]
    volume = (corners[:, 0] * torch.linalg.cross(corners[:, 1], corners[:, 2])).sum() / 6
    assert 0.05 < volume < 0.09  # cubic metres, overlaps counted twice
    edges = torch.cat([capsules.faces[:, [a, b]] for a, b in ((0, 1), (1, 2), (2, 0))])
    forward, backward = (set(map(tuple, pairs.tolist())) for pairs in (edges, edges.flip(1)))
    assert forward == backward  # each edge has a face on both sides, turned alike
    assert len(forward) == len(edges)
    torch.testing.assert_close(capsules.weights.sum(1), torch.ones(len(rest)))
    assert not capsules.state_dict(), "bodies are saved nowhere"


def test_mirrored_poses_are_mirrored_bodies(capsules: LinearBody) -> None:
    rotations, shape = some(3)
    index = torch.tensor(capsules.mirror_index)
    plain = capsules(rotations, shape)
    mirror = capsules(turn.mirrored(rotations, index), shape)
    from posecli.skeleton import house_skeleton

    flip = torch.from_numpy(house_skeleton("body24").flip_index)
    expected = plain.joints[:, flip] * torch.tensor([-1.0, 1.0, 1.0])
    torch.testing.assert_close(mirror.joints, expected, atol=1e-5, rtol=0)


def test_the_root_turns_all(capsules: LinearBody) -> None:
    """A turned root is the same body, turned about its root joint; lengths of bones do not change with the pose."""
    rotations, shape = some(2)
    torch.testing.assert_close(rotations[0, 0] @ rotations[0, 0].T, torch.eye(3), atol=1e-5, rtol=0)
    straight = rotations.clone()
    straight[:, 0] = torch.eye(3)
    before, after = capsules(straight, shape).vertices, capsules(rotations, shape).vertices
    root = capsules.rest(shape)[1][:, :1]
    torch.testing.assert_close(after, (before - root) @ rotations[:, 0].mT + root, atol=1e-5, rtol=0)


def test_shapes_change_what_they_say(capsules: LinearBody) -> None:
    """Stature, then legs, make a body taller, girth does not; each direction moves something."""
    rest = torch.eye(3).expand(11, 24, 3, 3)
    vertices = capsules(rest, torch.cat([torch.zeros(1, 10), torch.eye(10)])).vertices
    heights = vertices[..., 1].amax(1) - vertices[..., 1].amin(1)
    grown = (heights[1:] - heights[0]).tolist()
    assert grown[0] == pytest.approx(0.07, abs=0.01)  # metres for a standard deviation
    assert grown[2] > 0.03
    assert abs(grown[1]) < 0.01
    assert ((vertices[1:] - vertices[0]).norm(dim=-1).amax(1) > 0.005).all()


def test_gradients_reach_pose_and_shape(capsules: LinearBody) -> None:
    """Also at rest, where angles are zero."""
    poses, shape = torch.zeros(1, 24, 3, requires_grad=True), torch.zeros(1, 10, requires_grad=True)
    capsules(turn.from_axis_angle(poses), shape).vertices.square().sum().backward()
    for values in (poses, shape):
        assert values.grad is not None
        assert torch.isfinite(values.grad).all()
        assert values.grad.abs().sum() > 0


def test_skinning_bone_by_bone() -> None:
    """Against the plain definition: transforms multiplied along the chain, vertices moved by each and averaged."""
    generator = torch.Generator().manual_seed(0)
    parents = (-1, 0, 0, 1, 3, 2, 0, 4)  # not sorted by depth
    rotations = turn.from_axis_angle(torch.randn(2, 8, 3, generator=generator, dtype=torch.float64))
    joints, vertices = (torch.randn(2, n, 3, generator=generator, dtype=torch.float64) for n in (8, 5))
    weights = torch.rand(5, 8, generator=generator, dtype=torch.float64)
    weights = weights / weights.sum(1, keepdim=True)
    found = skin(vertices, weights, Chain(parents)(rotations, joints))
    for body in range(2):
        world: list[Tensor] = []
        for bone, parent in enumerate(parents):
            step = torch.eye(4, dtype=torch.float64)
            step[:3, :3] = rotations[body, bone]
            step[:3, 3] = joints[body, bone] - (joints[body, parent] if parent >= 0 else 0)
            world.append(world[parent] @ step if parent >= 0 else step)
        for vertex in range(5):
            moved = sum(
                weights[vertex, bone]
                * (world[bone][:3, :3] @ (vertices[body, vertex] - joints[body, bone]) + world[bone][:3, 3])
                for bone in range(8)
            )
            torch.testing.assert_close(found[body, vertex], moved)


@pytest.mark.parametrize("parents", [(0, 0), (-1, 2, 0), (-1, 0, -1)])
def test_chains_that_are_none(parents: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="bones must follow their parents"):
        Chain(parents)


def test_forms_of_rotations_agree() -> None:
    """There and back through all forms, also near zero and near a half turn."""
    generator = torch.Generator().manual_seed(0)
    axes = torch.nn.functional.normalize(torch.randn(6, 50, 3, generator=generator, dtype=torch.float64), dim=-1)
    angles = torch.tensor([0.0, 1e-5, 1e-3, 1.0, 3.14, torch.pi], dtype=torch.float64)
    matrices = turn.from_axis_angle(axes * angles[:, None, None])
    for there, back in (
        (turn.to_axis_angle, turn.from_axis_angle),
        (turn.to_quaternion, turn.from_quaternion),
        (turn.to_six, turn.from_six),
    ):
        torch.testing.assert_close(back(there(matrices)), matrices, atol=1e-7, rtol=0)
    torch.testing.assert_close(matrices @ matrices.mT, torch.eye(3, dtype=torch.float64).expand_as(matrices))
    assert (torch.linalg.det(matrices) > 0.999).all()


def test_three_rotations_at_once() -> None:
    """A batch of three: torch's cross product once guessed the axis by its length, and the reference still does."""
    six = torch.randn(3, 6, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(turn.from_six(six), torch.cat([turn.from_six(row[None]) for row in six]))


def test_anny() -> None:
    """Where the package is installed: joints of body24, poses that start with arms stretched out, no other topology."""
    pytest.importorskip("anny", reason="needs the extra [mesh]")
    body = open_body("anny")
    assert body.bones == BONES
    found = body(torch.eye(3).expand(1, 24, 3, 3), torch.zeros(1, body.shapes))
    place = dict(zip(body.joints, found.joints[0], strict=True))
    assert place["left_wrist"][0] > place["left_elbow"][0] > place["left_shoulder"][0] > 0
    torch.testing.assert_close(place["left_wrist"][1], place["left_shoulder"][1], atol=1e-4, rtol=0)
    assert place["head_top"][1] > place["nose"][1] > place["neck"][1] > place["pelvis"][1] > place["left_knee"][1]


def test_anny_that_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "anny", None)
    with pytest.raises(PosecliError, match=r"pip install 'posecli\[mesh\]'"):
        open_body("anny")
