"""Backbones and heads: what they say of themselves holds, and published weights arrive checked."""

from __future__ import annotations

import builtins
import hashlib
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
import torchvision.models
from torch import Tensor

from posecli.config import BackboneConfig
from posecli.console import PosecliError
from posecli.nn import config, pretrained
from posecli.nn.heads import HeatmapHead, PyramidHead, RegressionHead, SimCCHead, StackedHead
from posecli.nn.hrnet import Exchange
from posecli.nn.pretrained import download, load_published, published_weights
from posecli.nn.torchvision import ViT, vit

BACKBONES: list[tuple[BackboneConfig, tuple[int, ...], tuple[int, ...]]] = [
    # config, channels, strides
    (config.ResNetConfig(depth=18), (64, 128, 256, 512), (4, 8, 16, 32)),
    (config.ResNetConfig(depth=34), (64, 128, 256, 512), (4, 8, 16, 32)),
    (config.ResNetConfig(depth=50), (256, 512, 1024, 2048), (4, 8, 16, 32)),
    (config.ResNetConfig(depth=101), (256, 512, 1024, 2048), (4, 8, 16, 32)),
    (config.ResNetConfig(depth=152), (256, 512, 1024, 2048), (4, 8, 16, 32)),
    (config.ResNeXtConfig(depth=50), (256, 512, 1024, 2048), (4, 8, 16, 32)),
    (config.ResNeXtConfig(depth=101), (256, 512, 1024, 2048), (4, 8, 16, 32)),
    (config.MobileNetV2Config(), (24, 32, 96, 1280), (4, 8, 16, 32)),
    (config.MobileNetV3Config(size="small"), (16, 24, 48, 576), (4, 8, 16, 32)),
    (config.MobileNetV3Config(size="large"), (24, 40, 112, 960), (4, 8, 16, 32)),
    *((config.VGGConfig(depth=depth), (256, 512, 512, 512), (4, 8, 16, 32)) for depth in (11, 13, 16, 19)),
    (config.VGGConfig(depth=11, batch_norm=False), (256, 512, 512, 512), (4, 8, 16, 32)),
    (config.ViTConfig(variant="b_16"), (768,), (16,)),
    (config.ViTConfig(variant="b_32"), (768,), (32,)),
    (config.HRNetConfig(width=18, maps="all"), (18, 36, 72, 144), (4, 8, 16, 32)),
    (config.HRNetConfig(width=32), (32,), (4,)),
    (config.HRNetConfig(width=48), (48,), (4,)),
]


@pytest.mark.parametrize(("description", "channels", "strides"), BACKBONES, ids=lambda value: str(value)[:40])
def test_maps_are_as_announced(
    description: BackboneConfig, channels: tuple[int, ...], strides: tuple[int, ...]
) -> None:
    """Every map has the channels and stride the backbone names, in both memory formats, for a size of no square."""
    torch.manual_seed(0)
    backbone = description.build().eval()
    assert (backbone.channels, backbone.strides) == (channels, strides)
    images = torch.randn(2, 3, 128, 96)
    with torch.inference_mode():
        maps = backbone(images)
        again = backbone(images.to(memory_format=torch.channels_last))
    shapes = [tuple(features.shape) for features in maps]
    assert shapes == [(2, width, 128 // stride, 96 // stride) for width, stride in zip(channels, strides, strict=True)]
    for first, second in zip(maps, again, strict=True):
        assert first.std() > 0
        torch.testing.assert_close(first, second, rtol=1e-3, atol=1e-3 * first.abs().max().item())


@pytest.mark.parametrize("name", ["resnet18", "mobilenet_v3_small", "vgg11_bn"])
def test_features_are_torchvisions(name: str) -> None:
    """With the same weights torchvision's classifier sees the same features, so its published weights are worth it."""
    torch.manual_seed(0)
    network = torchvision.models.get_model(name, weights=None).eval()
    described = {
        "resnet18": config.ResNetConfig(depth=18),
        "mobilenet_v3_small": config.MobileNetV3Config(size="small"),
        "vgg11_bn": config.VGGConfig(depth=11),
    }[name]
    backbone = described.build().eval()
    report = backbone.load_state_dict(network.state_dict(), strict=False)
    assert report.missing_keys == []
    assert all(key.startswith(pretrained.CLASSIFIERS) for key in report.unexpected_keys)
    images = torch.randn(1, 3, 224, 224)
    with torch.inference_mode():
        torch.testing.assert_close(_classes(name, network, backbone(images)[-1]), network(images), rtol=1e-4, atol=1e-4)


def _classes(name: str, network: Any, features: Tensor) -> Tensor:
    """What torchvision's classifier makes of our last map."""
    pooled = network.avgpool(features).flatten(1)
    result: Tensor = network.fc(pooled) if name == "resnet18" else network.classifier(pooled)
    return result


def test_vit_lays_tokens_out_in_reading_order() -> None:
    """Of torchvision's own encoder, token by token."""
    torch.manual_seed(0)
    backbone = vit("b_32").eval()
    images = torch.randn(1, 3, 224, 224)
    with torch.inference_mode():
        (features,) = backbone(images)
        patches = backbone.conv_proj(images).flatten(2).transpose(1, 2)
        tokens = backbone.encoder(torch.cat([backbone.class_token, patches], dim=1))[:, 1:]  # type: ignore[operator]
    for row, column in ((0, 0), (0, 6), (3, 2), (6, 6)):
        torch.testing.assert_close(features[0, :, row, column], tokens[0, row * 7 + column])


def test_vit_position_embedding_is_interpolated() -> None:
    backbone = vit("b_16")
    assert isinstance(backbone, ViT)
    own = backbone.encoder.pos_embedding
    assert backbone.position(14, 14) is own
    assert backbone.position(16, 12).shape == (1, 1 + 16 * 12, 768)
    with torch.no_grad():  # an embedding that grows from left to right still does
        own[:, 1:] = torch.arange(14.0).repeat(14)[None, :, None]
    wide = backbone.position(16, 12)[0, 1:, 0].reshape(16, 12)
    assert torch.equal(wide[0], wide[-1]) or (wide[0] - wide[-1]).abs().max() < 1e-4
    assert (wide[:, 1:] > wide[:, :-1]).all()
    with pytest.raises(PosecliError, match="must be a multiple of the patch"):
        backbone(torch.zeros(1, 3, 100, 96))


def test_hrnet_takes_sizes_that_do_not_halve_evenly() -> None:
    backbone = config.HRNetConfig(width=18, maps="all").build().eval()
    with torch.inference_mode():
        assert [tuple(features.shape[-2:]) for features in backbone(torch.zeros(1, 3, 100, 76))] == [
            (25, 19),
            (13, 10),
            (7, 5),
            (4, 3),
        ]


@pytest.mark.parametrize("model", ["resnet10t", "swin_tiny_patch4_window7_224"])
def test_timm(model: str) -> None:
    pytest.importorskip("timm", reason="needs the extra posecli[timm]")
    backbone = config.TimmConfig(model=model).build().eval()
    with torch.inference_mode():
        maps = backbone(torch.zeros(1, 3, 224, 224))
    for features, channels, stride in zip(maps, backbone.channels, backbone.strides, strict=True):
        assert features.shape == (1, channels, 224 // stride, 224 // stride)


def test_timm_errors(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("timm", reason="needs the extra posecli[timm]")
    with pytest.raises(PosecliError, match="no network 'resnet50dd'; did you mean 'resnet5"):
        config.TimmConfig(model="resnet50dd").build()
    with pytest.raises(PosecliError, match="without a hash"):
        config.TimmConfig(pretrained=True).build()
    real = builtins.__import__

    def without_timm(name: str, *arguments: Any, **options: Any) -> Any:
        if name == "timm":
            raise ImportError("No module named 'timm'")
        return real(name, *arguments, **options)

    monkeypatch.setattr(builtins, "__import__", without_timm)
    with pytest.raises(PosecliError, match=r"pip install 'posecli\[timm\]'"):
        config.TimmConfig().build()


# --- heads ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("kernels", "factor"), [((), 1), ((2,), 2), ((3, 3), 4), ((4, 4, 4), 8)])
@pytest.mark.parametrize("final_kernel", [1, 3])
def test_heatmap_head(kernels: tuple[int, ...], factor: int, final_kernel: int) -> None:
    head = HeatmapHead(16, 5, [8] * len(kernels), kernels, final_kernel)
    assert head(torch.randn(2, 16, 8, 6)).shape == (2, 5, 8 * factor, 6 * factor)


def test_heatmap_head_without_final_layer() -> None:
    assert HeatmapHead(16, 5, (5,), (4,), final_kernel=0)(torch.randn(2, 16, 8, 6)).shape == (2, 5, 16, 12)


def test_simcc_head() -> None:
    across, down = SimCCHead(16, 5, (12, 16), (96, 128), (8,), (4,))(torch.randn(2, 16, 8, 6))
    assert (across.shape, down.shape) == ((2, 5, 96), (2, 5, 128))


def test_finer_maps_join_where_the_backbone_has_them() -> None:
    """Of maps at strides 4, 8 and 32 the doublings of 32 meet 16, which is not there, and 8, which is."""
    torch.manual_seed(0)
    head = PyramidHead((5, 6, 7), (4, 8, 32), 3, (8, 9)).eval()
    maps = [torch.randn(2, c, 32 // s, 64 // s) for c, s in ((5, 4), (6, 8), (7, 32))]
    heatmaps = head(maps)
    assert heatmaps.shape == (2, 3, 4, 8)
    assert torch.equal(head([torch.zeros_like(maps[0]), *maps[1:]]), heatmaps)
    assert not torch.equal(head([maps[0], torch.zeros_like(maps[1]), maps[2]]), heatmaps)


def test_all_maps_are_stacked() -> None:
    """HRNetV2's head, written out."""
    torch.manual_seed(0)
    head = StackedHead((3, 4, 5), 2).eval()
    torch.nn.init.normal_(head.final_layer.bias)  # type: ignore[arg-type]
    maps = [torch.randn(2, c, 16 // s, 24 // s) for c, s in ((3, 1), (4, 2), (5, 4))]
    bilinear = partial(F.interpolate, size=(16, 24), mode="bilinear", align_corners=False)
    stacked = torch.cat([maps[0], bilinear(maps[1]), bilinear(maps[2])], dim=1)
    convolution, norm, _ = head.conv_layers
    mixed = torch.einsum("oc,bchw->bohw", convolution.weight[..., 0, 0], stacked) + convolution.bias[:, None, None]  # type: ignore[index, operator]
    mixed = torch.relu(norm(mixed))
    expected = torch.einsum("oc,bchw->bohw", head.final_layer.weight[..., 0, 0], mixed)
    expected = expected + head.final_layer.bias[:, None, None]  # type: ignore[index]
    torch.testing.assert_close(head(maps), expected)


def test_hrnet_enlarges_as_told() -> None:
    """What a coarser branch adds to a finer one, alone: its own path's output, enlarged."""
    torch.manual_seed(0)
    maps = [torch.zeros(1, 4, 8, 8), torch.randn(1, 8, 4, 4)]
    for enlarging, options in (("nearest", {}), ("bilinear", {"align_corners": False})):
        exchange = Exchange((4, 8), 1, enlarging).eval()  # type: ignore[arg-type]
        with torch.no_grad():
            fine = exchange.branches[0](maps[0])
            coarse = exchange.fuse_layers[0][1](exchange.branches[1](maps[1]))  # type: ignore[index]
            enlarged = F.interpolate(coarse, (8, 8), mode=enlarging, **options)  # type: ignore[arg-type]
            torch.testing.assert_close(exchange(maps)[0], torch.relu(fine + enlarged))


def test_regression_head_averages_the_map() -> None:
    head = RegressionHead(16, 5)
    features = torch.randn(2, 16, 8, 6)
    assert head(features).shape == (2, 5, 2)
    torch.testing.assert_close(head(features), head(features.mean((2, 3), keepdim=True)))


def test_heads_start_as_published() -> None:
    """Standard deviations of the reference's heads: 0.001 for convolutions, 0.01 for the regression layer."""
    torch.manual_seed(0)
    heatmap, regression = HeatmapHead(256, 17), RegressionHead(2048, 17)
    cases = [(heatmap.deconv_layers[0], 0.001), (heatmap.final_layer, 0.001), (regression.fc, 0.01)]
    for layer, deviation in cases:
        assert layer.weight.std().item() == pytest.approx(deviation, rel=0.05)  # type: ignore[operator, union-attr]
    assert not heatmap.final_layer.bias.any()  # type: ignore[operator, union-attr]
    assert not regression.fc.bias.any()


@pytest.mark.parametrize(("filters", "kernels"), [((8,), (4, 4)), ((8,), (5,))])
def test_wrong_heads(filters: tuple[int, ...], kernels: tuple[int, ...]) -> None:
    with pytest.raises(PosecliError, match="heatmap head"):
        HeatmapHead(16, 5, filters, kernels)


# --- published weights ----------------------------------------------------------------------------------------------


def publish(folder: Path, state: Any) -> str:
    """A file with its hash in its name, as torchvision publishes them, and its address."""
    folder.mkdir(parents=True, exist_ok=True)
    torch.save(state, folder / "raw")
    digest = hashlib.sha256((folder / "raw").read_bytes()).hexdigest()[:8]
    path = (folder / "raw").rename(folder / f"net-{digest}.pth")
    return path.as_uri()


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache of downloads."""
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "hub"))
    return tmp_path / "hub" / "checkpoints"


def test_published_weights_are_loaded_without_the_classifier(hub: Path, tmp_path: Path) -> None:
    source = torchvision.models.resnet18()
    backbone = config.ResNetConfig(depth=18).build()
    url = publish(tmp_path / "site", source.state_dict())
    load_published(backbone, url)
    assert torch.equal(backbone.state_dict()["layer4.1.conv2.weight"], source.layer4[1].conv2.weight)
    assert len(list(hub.iterdir())) == 1  # one file, nothing half-made
    Path(url.removeprefix("file://")).unlink()
    load_published(backbone, url)  # from the local copy


def test_pretrained_asks_for_torchvisions_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    monkeypatch.setattr("posecli.nn.torchvision.load_published", lambda _, url: asked.append(url))
    published = {
        "resnet50-0676ba61.pth": config.ResNetConfig(pretrained=True),
        "resnext50_32x4d-7cdf4587.pth": config.ResNeXtConfig(pretrained=True),
        "mobilenet_v2-b0353104.pth": config.MobileNetV2Config(pretrained=True),
        "mobilenet_v3_small-047dcff4.pth": config.MobileNetV3Config(size="small", pretrained=True),
        "vgg11-8a719046.pth": config.VGGConfig(depth=11, batch_norm=False, pretrained=True),
        "vit_b_32-d86f8d99.pth": config.ViTConfig(variant="b_32", pretrained=True),
    }
    for described in published.values():
        described.build()
    assert [Path(url).name for url in asked] == list(published)
    assert all(url.startswith("https://download.pytorch.org/models/") for url in asked)


def test_a_changed_file_is_refused(hub: Path, tmp_path: Path) -> None:
    url = publish(tmp_path / "site", {"a": torch.zeros(1)})
    path = download(url)
    path.write_bytes(path.read_bytes() + b"x")
    with pytest.raises(PosecliError, match="is damaged"):
        download(url)


def test_no_network_names_address_file_and_folder(hub: Path) -> None:
    url = "http://127.0.0.1:9/models/resnet18-f37072fd.pth"  # the discard port: nobody answers
    with pytest.raises(PosecliError) as caught:
        published_weights(url)
    for part in (url, "resnet18-f37072fd.pth", str(hub)):
        assert part in str(caught.value)
    assert list(hub.iterdir()) == []


def test_an_address_without_a_hash_is_not_downloaded(hub: Path, tmp_path: Path) -> None:
    with pytest.raises(PosecliError, match="without a hash"):
        download((tmp_path / "net.pth").as_uri())
    with pytest.raises(PosecliError, match="hrnet: no weights are published with a hash"):
        config.HRNetConfig(pretrained=True).build()


def test_published_files_with_code_are_not_run(hub: Path, tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self) -> Any:
            return exec, (f"open({str(tmp_path / 'executed')!r}, 'w')",)

    with pytest.raises(PosecliError, match="does not hold plain weights"):
        published_weights(publish(tmp_path / "site", {"a": Evil()}))
    assert not (tmp_path / "executed").exists()


def test_weights_of_another_network_are_refused(hub: Path, tmp_path: Path) -> None:
    with pytest.raises(PosecliError, match="do not fit this network"):
        load_published(config.ResNetConfig(depth=18).build(), publish(tmp_path / "site", {"a": torch.zeros(1)}))
