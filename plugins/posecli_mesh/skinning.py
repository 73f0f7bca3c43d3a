"""Linear blend skinning: bones turn, the skin follows; batched and differentiable."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn


class Chain(nn.Module):
    """A tree of bones. Bones of equal depth are turned at once."""

    parents: Tensor  # (P,) int64, 0 for the root
    order: Tensor  # (P,): the bones by depth
    inverse: Tensor  # (P,): where each bone stands in `order`
    parent_places: Tensor  # (P,): where the parent of each bone in `order` stands in it

    def __init__(self, parents: Sequence[int]) -> None:
        """`parents` (P,): the bone each one hangs on, which stands before it; -1 for the root, the first."""
        super().__init__()
        depths: list[int] = []
        for bone, parent in enumerate(parents):
            if not -1 <= parent < bone or (parent == -1) != (bone == 0):
                raise ValueError(f"bone {bone} hangs on {parent}: bones must follow their parents, after one root")
            depths.append(0 if parent < 0 else depths[parent] + 1)
        order = sorted(range(len(parents)), key=lambda bone: depths[bone])
        place = {bone: position for position, bone in enumerate(order)}
        self.levels: list[tuple[int, int]] = []  # first and last position of each depth but the root's, in `order`
        for depth in range(1, max(depths) + 1):
            start = sum(other < depth for other in depths)
            self.levels.append((start, start + depths.count(depth)))
        # index tensors move with the body, so that nothing is copied to the device in each step
        self.register_buffer("parents", torch.tensor([0, *parents[1:]]), persistent=False)
        self.register_buffer("order", torch.tensor(order), persistent=False)
        self.register_buffer("inverse", torch.tensor([place[bone] for bone in range(len(order))]), persistent=False)
        places = torch.tensor([place[max(0, parents[bone])] for bone in order])
        self.register_buffer("parent_places", places, persistent=False)

    def forward(self, rotations: Tensor, joints: Tensor) -> Tensor:
        """From rest to pose for each bone, (B, P, 3, 4): rotation and translation, in the frame the root turns into.

        `rotations` (B, P, 3, 3) are relative to the parent, `joints` (B, P, 3) where the bones turn, at rest. The
        last column of the world position of joint p is `transform[:, :3] @ joint + transform[:, 3]`.
        """
        offsets = torch.cat([joints[:, :1], joints[:, 1:] - joints[:, self.parents[1:]]], dim=1)
        own = torch.cat([rotations, offsets[..., None]], dim=-1)[:, self.order]  # (B, P, 3, 4)
        done = own[:, :1]
        for start, stop in self.levels:
            above = done[:, self.parent_places[start:stop]]
            turned = above[..., :3] @ own[:, start:stop]
            moved = torch.cat([turned[..., :3], turned[..., 3:] + above[..., 3:]], dim=-1)
            done = torch.cat([done, moved], dim=1)
        world = done[:, self.inverse]  # (B, P, 3, 4): where the joint of each bone has gone
        rest = (world[..., :3] @ joints[..., None]).squeeze(-1)
        return torch.cat([world[..., :3], (world[..., 3] - rest)[..., None]], dim=-1)


def skin(vertices: Tensor, weights: Tensor, transforms: Tensor) -> Tensor:
    """Vertices (B, V, 3) moved by the weighted mean of the bones' transforms (B, P, 3, 4); `weights` are (V, P)."""
    columns = transforms.transpose(-1, -2).flatten(-2)  # (B, P, 12): x, y, z axis and translation
    blended = torch.matmul(weights, columns)  # (B, V, 12)
    x, y, z = (vertices[..., axis : axis + 1] for axis in range(3))
    moved = torch.addcmul(blended[..., 9:], blended[..., :3], x)
    moved = torch.addcmul(moved, blended[..., 3:6], y)
    return torch.addcmul(moved, blended[..., 6:9], z)


def move(points: Tensor, transforms: Tensor) -> Tensor:
    """One point a bone (B, P, 3), moved by that bone's transform (B, P, 3, 4)."""
    return (transforms[..., :3] @ points[..., None]).squeeze(-1) + transforms[..., 3]
