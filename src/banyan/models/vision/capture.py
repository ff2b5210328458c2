"""Capture a tower as a graph. Imports torch; called when no graph is kept on disk.

The tower of Qwen2-VL takes `patches` and `places`, that of Qwen2.5-VL also `present`, as in
`grid_tower.GridVision.forward`; that of LLaVA takes `patches`. The output is `rows`.
"""

import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.export import Dim

from banyan.compiler.capture.export import Names, capture_module
from banyan.compiler.ir.graph import Graph
from banyan.models.fake_module import build_fake
from banyan.models.vision.configuration import GridTower, SquareTower, Tower
from banyan.models.vision.grid_tower import GridVision
from banyan.models.vision.square_tower import SquareVision

MAX_GROUPS = 2**16
MAX_IMAGES = 64


def capture_tower(tower: Tower, *, dtype: str) -> Graph:
    """Trace a tower on fake tensors; no weight takes memory."""
    if isinstance(tower, GridTower):
        return _capture_grid(tower, dtype)
    return _capture_square(tower, dtype)


def _capture_grid(tower: GridTower, dtype: str) -> Graph:
    mode = FakeTensorMode()
    module = build_fake(lambda: GridVision(tower), mode, dtype=getattr(torch, dtype))
    num_groups, size = 7, (max(tower.window_merges, 1) * tower.merge) ** 2
    groups = Dim("num_groups", min=1, max=MAX_GROUPS)
    with mode:
        patches = torch.zeros(num_groups, size, tower.patch_values)
        places = torch.zeros(2, num_groups, size, dtype=torch.int64)
        present = torch.zeros(num_groups, size, dtype=torch.int64)
    arguments = {"patches": patches, "places": places}
    shapes = {"patches": {0: groups}, "places": {1: groups}}
    if tower.window_merges:
        arguments["present"], shapes["present"] = present, {0: groups}
    return capture_module(
        module,
        tuple(arguments.values()),
        name="vision_tower",
        dynamic_shapes=shapes,
        names=Names(arguments=list(arguments), outputs=["rows"]),
    )


def _capture_square(tower: SquareTower, dtype: str) -> Graph:
    mode = FakeTensorMode()
    module = build_fake(lambda: SquareVision(tower), mode, dtype=getattr(torch, dtype))
    with mode:
        patches = torch.zeros(3, tower.side_patches**2, tower.patch_values)
    return capture_module(
        module,
        (patches,),
        name="vision_tower",
        dynamic_shapes={"patches": {0: Dim("num_images", min=1, max=MAX_IMAGES)}},
        names=Names(arguments=["patches"], outputs=["rows"]),
    )
