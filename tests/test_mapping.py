"""One skeleton's joints from another's."""

from __future__ import annotations

import numpy as np
import pytest

from posecli.console import PosecliError
from posecli.mapping import house_rules, map_skeleton
from posecli.skeleton import Skeleton, house_skeleton, house_skeletons
from posecli.types import People

COCO, H36M = house_skeleton("coco"), house_skeleton("h36m")


def person(seed: int = 0, skeleton: Skeleton = COCO) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(seed)
    return generator.uniform(0, 500, (3, len(skeleton), 2)), generator.uniform(0.2, 1, (3, len(skeleton)))


DERIVED = [  # joint of Human3.6M, weights of COCO's, note
    ("root", {"left_hip": 0.5, "right_hip": 0.5}, "midway between the hips"),
    ("thorax", {"left_shoulder": 0.5, "right_shoulder": 0.5}, "midway between the shoulders"),
    (
        "spine",
        {"left_hip": 0.25, "right_hip": 0.25, "left_shoulder": 0.25, "right_shoulder": 0.25},
        "midway between two derived joints",
    ),
    ("left_foot", {"left_ankle": 1.0}, "another name"),
    ("right_elbow", {"right_elbow": 1.0}, "the same name"),
]


@pytest.mark.parametrize(("joint", "weights", "note"), DERIVED)
def test_coco_feeds_human36m(joint: str, weights: dict[str, float], note: str) -> None:
    keypoints, scores = person()
    placed, sure = map_skeleton(COCO, H36M)(keypoints, scores)
    expected = sum(weight * keypoints[:, COCO.names.index(name)] for name, weight in weights.items())
    least = np.min([scores[:, COCO.names.index(name)] for name in weights], axis=0)
    np.testing.assert_allclose(placed[:, H36M.names.index(joint)], expected, err_msg=note)
    np.testing.assert_allclose(sure[:, H36M.names.index(joint)], least, err_msg=note)


def test_all_joints_of_human36m_are_near_where_they_are_on_a_synthetic_body() -> None:
    """Bodies have both skeletons: COCO's points and the joints that Human3.6M's are called after."""
    from posecli.datasets.synthetic_motion import as_human36m
    from posecli.datasets.synthetic_scene import synthetic_scenes

    scenes = synthetic_scenes(np.arange(200), 3)
    found, _ = map_skeleton(house_skeleton("synthetic"), H36M)(scenes.keypoints_3d, np.ones((200, 17)))
    apart = np.linalg.norm(found - as_human36m(scenes.joints), axis=-1).mean(axis=0)  # (17,) millimetres
    assert apart.max() < 90, dict(zip(H36M.names, apart.round(), strict=True))


def test_a_missing_joint_leads_to_the_next_way_row_by_row() -> None:
    keypoints, scores = person()
    ear, nose = COCO.names.index("left_ear"), COCO.names.index("nose")
    scores[1, ear] = 0
    keypoints[2, [ear, nose]] = np.nan
    placed, sure = map_skeleton(COCO, H36M)(keypoints, scores)
    neck = H36M.names.index("neck_base")
    np.testing.assert_allclose(placed[1, neck], keypoints[1, nose])
    assert np.isnan(placed[2, neck]).all()
    assert sure[2, neck] == 0
    assert np.isfinite(placed[0]).all()


def test_lost_joints_stay_lost() -> None:
    keypoints, scores = person()
    scores[:, COCO.names.index("left_hip")] = 0
    _, sure = map_skeleton(COCO, H36M)(keypoints, scores)
    for joint in ("left_hip", "root", "spine"):
        assert (sure[:, H36M.names.index(joint)] == 0).all(), joint
    assert (sure[:, H36M.names.index("thorax")] > 0).all()


@pytest.mark.parametrize("name", ["coco", "h36m", "mpi_inf_3dhp", "lsp", "synthetic", "coco_wholebody"])
def test_a_skeleton_stands_for_itself(name: str) -> None:
    skeleton = house_skeleton(name)
    keypoints, scores = person(1, skeleton)
    placed, sure = map_skeleton(skeleton, skeleton)(keypoints, scores)
    np.testing.assert_array_equal(placed, keypoints)
    np.testing.assert_array_equal(sure, scores)


def test_mirrored_joints_are_made_alike() -> None:
    """Mapping and mirroring may be done in any order."""
    keypoints, scores = person()
    mapping = map_skeleton(COCO, H36M)
    placed, _ = mapping(keypoints, scores)
    mirrored, _ = mapping(keypoints[:, COCO.flip_index], scores[:, COCO.flip_index])
    np.testing.assert_allclose(mirrored, placed[:, H36M.flip_index])


def test_people_keep_what_does_not_belong_to_joints() -> None:
    keypoints, scores = person()
    extra = {"track_id": np.array([4, 5, 6]), "keypoints_3d": np.ones((3, 17, 3), np.float32)}
    people = People(keypoints, scores, np.zeros((3, 4)), np.ones(3), extra)
    mapped = map_skeleton(COCO, H36M).people(people)
    assert mapped.extra["track_id"].tolist() == [4, 5, 6]
    np.testing.assert_allclose(mapped.extra["keypoints_3d"], 1)
    assert mapped.boxes is not None
    assert mapped.keypoints.shape == (3, 17, 2)


def test_what_cannot_be_derived_is_named() -> None:
    with pytest.raises(PosecliError, match=r"'lsp' cannot stand for 'coco': it has no nose, left_eye.* and 1 more"):
        map_skeleton(house_skeleton("lsp"), COCO)


def test_ways_are_affine() -> None:
    """Weights add up to 1, so that moving and mapping may be done in any order; and they name known joints."""
    known = {name for skeleton in house_skeletons().values() for name in skeleton.names} | set(house_rules().names)
    for joint, ways in house_rules().ways.items():
        for way in ways:
            assert np.isclose(sum(way.values()), 1), joint
            assert set(way) <= known, joint
