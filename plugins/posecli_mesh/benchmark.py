"""`posecli benchmark mesh`: bodies a second of the SMPL layer, against the package smplx or a plain loop."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

    from posecli.measures import Measure
    from posecli_mesh.bodies import LinearBody

VERTICES, FACES = 6890, 13776  # SMPL's
CLOSE = 1e-4  # metres that both layers may differ by


def mesh(
    batch: Annotated[int, typer.Option(help="Bodies at once.", min=1)] = 64,
    repeats: Annotated[int, typer.Option(help="Times that each is measured; the median counts.", min=1)] = 15,
    json: Annotated[bool, typer.Option("--json", help="One JSON object on standard output.")] = False,
) -> None:
    """Bodies a second of the SMPL layer, against the package smplx where it is installed, else a plain loop."""
    from posecli.measures import show_measures

    show_measures(measure_layer(batch, repeats), json)


def measure_layer(batch: int = 64, repeats: int = 15) -> list[Measure]:
    """A body of SMPL's size, made of random numbers, with both layers on the same poses; they must agree."""
    import torch

    from posecli.measures import Measure, interleave
    from posecli_mesh.rotations import from_axis_angle

    fields = random_smpl()
    body = as_body(fields)
    generator = torch.Generator().manual_seed(0)
    pose = torch.randn(batch, 24, 3, generator=generator) * 0.3
    shape = torch.randn(batch, 10, generator=generator)
    rotations = from_axis_angle(pose)
    other, name = smplx_layer(fields, batch), "smplx"
    if other is None:
        other, name = plain_layer(fields), "a plain loop over the bones (smplx is not installed)"
    with torch.inference_mode():
        apart = (body(rotations, shape).vertices - other(pose, rotations, shape)).abs().max().item()
        assert apart < CLOSE, f"the layers differ by {apart} metres"
        seconds = interleave([lambda: body(rotations, shape), lambda: other(pose, rotations, shape)], repeats)
    rates = [batch / taken for taken in seconds]
    note = f"batch {batch}, {VERTICES} vertices, {torch.get_num_threads()} threads; vertices agree to {apart:.0e} m"
    return [Measure(f"SMPL layer ÷ {name}", rates[0], rates[1], "bodies/s", 1.0, note=note)]


def random_smpl(seed: int = 0) -> dict[str, np.ndarray]:
    """The arrays of an SMPL file with random numbers of the usual sizes: a point cloud that moves as SMPL does."""
    import numpy as np

    from posecli_mesh.bodies import PARENTS

    generator = np.random.default_rng(seed)
    weights = generator.random((VERTICES, 24)) ** 8
    regressor = generator.random((24, VERTICES)) ** 20
    return {
        "v_template": generator.normal(0, 0.4, (VERTICES, 3)),
        "shapedirs": generator.normal(0, 0.01, (VERTICES, 3, 10)),
        "posedirs": generator.normal(0, 0.005, (VERTICES, 3, 207)),
        "J_regressor": regressor / regressor.sum(axis=1, keepdims=True),
        "weights": weights / weights.sum(axis=1, keepdims=True),
        "kintree_table": np.array([PARENTS, range(24)], dtype=np.int64),
        "f": generator.integers(0, VERTICES, (FACES, 3)),
    }


def as_body(fields: dict[str, np.ndarray]) -> LinearBody:
    """The layer that is measured, made as it is of a file."""
    import numpy as np

    from posecli_mesh.bodies import BONES, PARENTS, LinearBody

    regressor = fields["J_regressor"]
    return LinearBody(
        fields["v_template"],
        fields["shapedirs"],
        regressor @ fields["v_template"],
        np.einsum("jv,vks->jks", regressor, fields["shapedirs"]),
        bones=BONES,
        parents=PARENTS,
        faces=fields["f"],
        weights=fields["weights"],
        joints=BONES,
        of_joints=np.eye(24),
        pose_directions=fields["posedirs"],
    )


Layer = Callable[["Tensor", "Tensor", "Tensor"], "Tensor"]
"""Axes times angles (B, 24, 3), the same as matrices (B, 24, 3, 3) and shapes (B, 10) to vertices (B, V, 3)."""


def smplx_layer(fields: dict[str, np.ndarray], batch: int) -> Layer | None:
    """The same body in the package smplx, None where that is not installed."""
    import contextlib
    import io

    try:
        import smplx
    except ImportError:
        return None
    data: Any = smplx.utils.Struct(**fields)
    with contextlib.redirect_stdout(io.StringIO()):  # it greets
        layer = smplx.SMPLLayer(model_path="", data_struct=data, batch_size=batch, num_betas=10)

    def vertices(pose: Tensor, rotations: Tensor, shape: Tensor) -> Tensor:
        found: Tensor = layer(betas=shape, body_pose=rotations[:, 1:], global_orient=rotations[:, :1]).vertices
        return found

    return vertices


def plain_layer(fields: dict[str, np.ndarray]) -> Layer:
    """Linear blend skinning written down as in the paper: bone after bone, then every vertex's mean transform."""
    import torch

    from posecli_mesh.bodies import PARENTS

    arrays = {name: torch.tensor(values, dtype=torch.float32) for name, values in fields.items() if name != "f"}

    def vertices(pose: Tensor, rotations: Tensor, shape: Tensor) -> Tensor:
        shaped = arrays["v_template"] + torch.einsum("bs,vks->bvk", shape, arrays["shapedirs"])
        joints = torch.einsum("jv,bvk->bjk", arrays["J_regressor"], shaped)
        turned = (rotations[:, 1:] - torch.eye(3)).flatten(1)
        shaped = shaped + torch.einsum("bp,vkp->bvk", turned, arrays["posedirs"])
        worlds: list[Tensor] = []
        for bone, parent in enumerate(PARENTS):
            offset = joints[:, bone] - (joints[:, parent] if bone else 0)
            own = torch.eye(4).repeat(len(shape), 1, 1)
            own[:, :3, :3], own[:, :3, 3] = rotations[:, bone], offset
            worlds.append(worlds[parent] @ own if bone else own)
        transforms = torch.stack(worlds, dim=1)
        rest = torch.einsum("bpij,bpj->bpi", transforms[..., :3, :3], joints)
        moved = torch.cat([transforms[..., :3, :3], (transforms[..., :3, 3] - rest)[..., None]], dim=-1)
        blended = torch.einsum("vp,bpij->bvij", arrays["weights"], moved)
        return torch.einsum("bvij,bvj->bvi", blended[..., :3], shaped) + blended[..., 3]

    return vertices
