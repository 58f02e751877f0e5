"""The networks of Table 6 are the paper's: parameters, MACs and dilations (method.md, Sec. 5)."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from mmengine.config import Config
from mmengine.registry import MODELS
from mmengine.runner import Runner
from mmengine.structures import PixelData
from mmseg.structures import SegDataSample
from torch import nn
from torch.nn.modules.dropout import _DropoutNd

from diffkd_mm.analysis.flops import count_model
from diffkd_mm.errors import DistillationError

ROOT = Path(__file__).parents[2]
CONFIGS = ROOT / 'configs' / '_base_' / 'models'
COUNTS = {  # M parameters; G MACs of the convolutions; the same as the paper counts them
    'deeplabv3_r18': (13.61, 517.50, 572.01),
    'pspnet_r18': (12.92, 488.51, 507.35),
    'deeplabv3_mbv2': (3.23, 106.54, 128.92),
    'deeplabv3_r101': (61.12, 2063.35, 2371.66),
}


def build(name, device='cpu'):
    cfg = Config.fromfile(CONFIGS / f'{name}.py').model
    with torch.device(device):
        return MODELS.build(dict(_scope_='mmseg', **cfg))


def run_heads(model, image):
    features = model.backbone(image)
    outputs = [model.decode_head(features)]
    if model.with_auxiliary_head:
        outputs.append(model.auxiliary_head(features))
    return outputs


@pytest.mark.parametrize('name', COUNTS)
def test_counts_are_the_papers(name):
    model = build(name, 'meta').eval()
    outputs = run_heads(model, torch.empty(1, 3, 1024, 2048, device='meta'))
    assert all(x.shape == (1, 19, 128, 256) for x in outputs)
    count = count_model(model, (1024, 2048))
    counts = (count.params / 1e6, count.macs / 1e9, count.undilated_macs / 1e9)
    assert tuple(round(x, 2) for x in counts) == COUNTS[name]


def dilations(modules):
    """Of the 3×3 convolutions, which keep the size of the map."""
    convs = [x for x in modules if isinstance(x, nn.Conv2d) and x.kernel_size == (3, 3)]
    assert all(x.padding == x.dilation for x in convs)
    return [x.dilation[0] for x in convs]


def test_basic_blocks_dilate_both_convolutions():
    backbone = build('deeplabv3_r18', 'meta').backbone
    assert dilations(backbone.layer2.modules()) == [1, 1, 1, 1]
    assert dilations(backbone.layer3.modules()) == [1, 2, 2, 2]
    assert dilations(backbone.layer4.modules()) == [2, 4, 4, 4]


def test_bottlenecks_are_dilated_by_mmsegmentation_already():
    cfg = Config.fromfile(CONFIGS / 'deeplabv3_r101.py').model.backbone
    for model in ('ResNetV1c', 'diffkd_mm.DilatedResNetV1c'):
        with torch.device('meta'):
            backbone = MODELS.build(dict(cfg, _scope_='mmseg', type=model))
        assert dilations(backbone.layer3.modules()) == [1] + [2] * 22
        assert dilations(backbone.layer4.modules()) == [2, 4, 4]


def test_mobilenet_dilates_all_blocks():
    backbone = build('deeplabv3_mbv2', 'meta').backbone
    blocks = [block for name in backbone.layers for block in getattr(backbone, name)]
    assert [dilations(x.modules()) for x in blocks] == [[1]] * 7 + [[2]] * 7 + [[4]] * 3
    strided = [i for i, x in enumerate(blocks, start=1) for m in x.modules() if is_strided(m)]
    assert strided == [2, 4]


def is_strided(module):
    return isinstance(module, nn.Conv2d) and module.stride != (1, 1)


@pytest.mark.parametrize('name', COUNTS)
def test_dropout_is_elementwise(name):
    model = build(name, 'meta')
    assert {type(x) for x in model.modules() if isinstance(x, _DropoutNd)} == {nn.Dropout}
    assert model.decode_head.dropout.p == 0.1
    if name != 'pspnet_r18':
        assert [x.p for x in model.decode_head.bottleneck if isinstance(x, nn.Dropout)] == [0.5]
    if model.with_auxiliary_head:
        assert model.auxiliary_head.dropout.p == 0.1


@pytest.mark.parametrize('ignored', [0.5, 1.0], ids=['half', 'all'])
def test_ignored_pixels_do_not_count(ignored):
    model = build('deeplabv3_r18')
    logits = torch.randn(2, 19, 3, 4)
    labels = torch.randint(19, (2, 17, 25))
    labels[torch.rand(labels.shape) < ignored] = 255
    samples = [SegDataSample(gt_sem_seg=PixelData(data=x[None])) for x in labels]
    resized = F.interpolate(logits, (17, 25), mode='bilinear', align_corners=True)
    expected = F.cross_entropy(resized, labels, ignore_index=255).nan_to_num(0.0)
    for head, weight in ((model.decode_head, 1.0), (model.auxiliary_head, 0.4)):
        loss = head.loss_by_feat(logits, samples)['loss_ce']
        torch.testing.assert_close(loss, weight * expected)


def test_images_stay_bgr_and_are_padded_after_the_mean_is_subtracted():
    preprocessor = build('deeplabv3_r18').data_preprocessor
    image = torch.tensor([104.00698793, 116.66876762, 122.67891434]).view(3, 1, 1) + torch.ones(2)
    sample = SegDataSample(gt_sem_seg=PixelData(data=torch.zeros(1, 1, 2, dtype=torch.long)))
    data = preprocessor(dict(inputs=[image], data_samples=[sample]), training=True)
    expected = torch.zeros(1, 3, 512, 1024)
    expected[..., :1, :2] = 1
    torch.testing.assert_close(data['inputs'], expected)
    labels = data['data_samples'][0].gt_sem_seg.data
    assert (labels == 255).sum() == 512 * 1024 - 2


CIRKD_RESNET = {'conv2.weight': torch.ones(64, 64, 3, 3), 'layer1.0.conv1.weight': torch.ones(1)}
CIRKD_MOBILENET = {'features.1.conv.0.weight': torch.ones(1)}
CIRKD_NETWORK = {'pretrained.conv1.weight': torch.ones(1), 'head.block.4.bias': torch.ones(19)}


@pytest.mark.parametrize(
    ('name', 'weights'),
    [
        ('deeplabv3_r18', CIRKD_RESNET),
        ('deeplabv3_r18', CIRKD_NETWORK),
        ('deeplabv3_mbv2', CIRKD_MOBILENET),
        ('deeplabv3_mbv2', CIRKD_NETWORK),
    ],
)
def test_unconverted_weights_of_a_backbone_are_refused(name, weights, tmp_path):
    """``init_cfg`` would pass over every name with a warning."""
    cfg = Config.fromfile(CONFIGS / f'{name}.py').model.backbone
    torch.save(weights, tmp_path / 'file.pth')
    cfg.init_cfg.checkpoint = str(tmp_path / 'file.pth')
    backbone = MODELS.build(cfg)
    with pytest.raises(DistillationError, match='cirkd2mmseg'):
        backbone.init_weights()
    backbone.load_state_dict(backbone.state_dict())


@pytest.mark.parametrize('prefix', ['', 'module.'])
def test_an_unconverted_network_is_refused(prefix, tmp_path):
    """By every Cityscapes config, whoever the student is."""
    hooks = Config.fromfile(CONFIGS.parents[1] / 'deeplabv3_mbv2_r101_diffkd.py').custom_hooks
    path = tmp_path / 'file.pth'
    torch.save(dict(state_dict={prefix + k: v for k, v in CIRKD_NETWORK.items()}), path)
    with torch.random.fork_rng():
        runner = Runner(
            torch.nn.Linear(1, 1),
            str(tmp_path),
            custom_hooks=hooks,
            load_from=str(path),
            experiment_name=f'unconverted{prefix}',
        )
    with pytest.raises(DistillationError, match='cirkd2mmseg'):
        runner.load_or_resume()
    torch.save(dict(state_dict={'weight': torch.ones(1, 1)}), path)
    runner.load_or_resume()
    assert runner.model.weight.item() == 1


def run(code):
    done = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_networks_are_imported_when_asked_for():
    code = """
import sys
import diffkd_mm
from mmengine.registry import MODELS
assert MODELS.get('diffkd_mm.Distiller')
assert diffkd_mm.registry.MODELS.get('MSELoss') and diffkd_mm.registry.MODELS.get('BN')
print(*(name in sys.modules for name in ('mmdet', 'mmseg', 'mmpretrain')))
MODELS.get('diffkd_mm.DeepLabV3Head')
print('mmseg' in sys.modules)
"""
    # The packages print lines of their own while they are imported.
    printed = run(code)
    assert 'False False False' in printed and printed.split()[-1] == 'True'


def test_detection_does_without_mmsegmentation():
    code = """
import sys
sys.modules['mmseg'] = None
import diffkd_mm
from mmengine.registry import MODELS
MODELS.get('diffkd_mm.Distiller')
assert MODELS.get('diffkd_mm.DeepLabV3Head') is None
"""
    run(code)


def test_others_do_without_mmdetection():
    code = """
import sys
sys.modules['mmdet'] = None
import diffkd_mm
from mmengine.registry import DATASETS, MODELS
assert MODELS.get('diffkd_mm.Distiller') and DATASETS.get('diffkd_mm.InMemoryDataset')
assert MODELS.get('diffkd_mm.MobileNetV1')
assert DATASETS.get('diffkd_mm.DigitsDataset') is None
"""
    run(code)
