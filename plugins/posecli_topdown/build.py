"""The only place where top-down models are put together from their configs."""

from __future__ import annotations

from torch import Tensor, nn

from posecli.codecs.codec import Codec
from posecli.codecs.heatmap import Heatmap
from posecli.codecs.regression import Regression
from posecli.codecs.simcc import SimCC
from posecli.console import PosecliError
from posecli.losses.heatmap import keypoint_mse, keypoint_ohkm
from posecli.losses.regression import l1, smooth_l1, wing
from posecli.losses.simcc import simcc_kl
from posecli.nn.backbone import Backbone
from posecli.nn.heads import HeatmapHead, RegressionHead, SimCCHead
from posecli.skeleton import Skeleton
from posecli.transforms import CropTransform
from posecli_topdown.config import HeatmapConfig, RegressionConfig, SimCCConfig, TopDownConfig
from posecli_topdown.model import Loss, TopDown
