"""Small models of many families, as files of configs, and a step of what is written for them."""

import sys
from pathlib import Path

import tiny
from mmengine.config import Config

from diffkd_mm.configs import load_config

sys.path.insert(0, str(Path(__file__).parents[1] / 'test_distillers'))

from test_segmentors import segmentor  # noqa: E402

_ZOO = dict(
    fcos='fcos/fcos_r50-caffe_fpn_gn-head_1x_coco.py',
    gfl='gfl/gfl_r50_fpn_1x_coco.py',
    atss='atss/atss_r50_fpn_1x_coco.py',
    faster='faster_rcnn/faster-rcnn_r50_fpn_1x_coco.py',
    mask='mask_rcnn/mask-rcnn_r50_fpn_1x_coco.py',
    cascade='cascade_rcnn/cascade-rcnn_r50_fpn_1x_coco.py',
    reppoints='reppoints/reppoints-moment_r50_fpn-gn_head-gn_1x_coco.py',
    yolof='yolof/yolof_r50-c5_8xb8-1x_coco.py',
    yolox='yolox/yolox_tiny_8xb8-300e_coco.py',
    rtmdet='rtmdet/rtmdet_tiny_8xb32-300e_coco.py',
    deformable='deformable_detr/deformable-detr_r50_16xb2-50e_coco.py',
)


def _narrow(cfg, widths):
    """The config with other numbers of channels in neck and heads."""
    if isinstance(cfg, dict):
        return {
            key: widths.get(value, value)
            if 'channels' in key and isinstance(value, int)
            else _narrow(value, widths)
            for key, value in cfg.items()
        }
    return [_narrow(item, widths) for item in cfg] if isinstance(cfg, list) else cfg


def detector(name: str, **changes) -> dict:
    """A detector of MMDetection's zoo with a small backbone, neck and head."""
    cfg = load_config(f'mmdet::{_ZOO[name]}').model
    if name in ('yolox', 'rtmdet'):  # a network of its own
        cfg.backbone.init_cfg = cfg.data_preprocessor.batch_augments = None
        return cfg.to_dict()
    cfg = tiny.shrink(cfg)
    if name == 'deformable':
        cfg.encoder.num_layers = cfg.decoder.num_layers = 1
        cfg.num_queries = 10
        return cfg.to_dict()
    cfg = cfg.to_dict()
    for part in ('neck', 'bbox_head', 'rpn_head', 'roi_head'):
        if part in cfg:
            cfg[part] = _narrow(cfg[part], {256: 32, 512: 64, 1024: 32})
    if 'stacked_convs' in cfg.get('bbox_head', {}):
        cfg['bbox_head']['stacked_convs'] = 1
    cfg.update(changes)
    return cfg


def agnostic_faster() -> dict:
    cfg = detector('faster')
    cfg['roi_head']['bbox_head']['reg_class_agnostic'] = True
    return cfg


def classifier(num_classes: int = 10, **backbone) -> dict:
    cfg = tiny.classifier(num_classes)
    cfg['backbone'].update(backbone)
    cfg['head']['in_channels'] = 8 * cfg['backbone']['base_channels']
    return cfg


def without_neck(backbone: dict, channels: int, num_classes: int = 10) -> dict:
    """A classifier whose backbone outputs a vector."""
    cfg = tiny.classifier(num_classes)
    cfg.update(backbone=backbone, neck=None)
    cfg['head']['in_channels'] = channels
    return cfg


def vit(kind: str = 'VisionTransformer', patch: int = 16, width: int = 24) -> dict:
    arch = dict(embed_dims=width, num_layers=2, num_heads=2, feedforward_channels=2 * width)
    return without_neck(dict(type=kind, arch=arch, img_size=64, patch_size=patch), width)


def deit() -> dict:
    """A transformer with two tokens before those of the patches."""
    cfg = vit('DistilledVisionTransformer')
    cfg['head']['type'] = 'DeiTClsHead'
    return cfg


def multi_label(**loss) -> dict:
    """A classifier with MMPretrain's head of several labels, which serves for mixed ones too."""
    cfg = tiny.classifier()
    cfg['head'].update(type='MultiLabelLinearClsHead', loss=dict(type='CrossEntropyLoss', **loss))
    return cfg


def tnt() -> dict:
    """A transformer that outputs a vector, and whose blocks output two kinds of tokens."""
    arch = dict(embed_dims_outer=24, embed_dims_inner=8, num_layers=1)
    arch.update(num_heads_outer=2, num_heads_inner=2)
    return without_neck(dict(type='TNT', img_size=48, patch_size=16, arch=arch), 24)


def mask2former() -> dict:
    """A segmentor of queries."""
    config = 'mmseg::mask2former/mask2former_r50_8xb2-90k_cityscapes-512x1024.py'
    cfg = load_config(config).model.to_dict()
    cfg['backbone'] = small_segmentor('fcn')['backbone']
    cfg['backbone'].update(type='ResNet', dilations=(1, 1, 1, 1), strides=(1, 2, 2, 2))
    head = cfg['decode_head']
    head.update(in_channels=[8, 16, 32, 64], num_queries=10)
    head['pixel_decoder']['encoder']['num_layers'] = 1
    head['transformer_decoder']['num_layers'] = 1
    return cfg


def segmenter() -> dict:
    """A segmentor whose class scores are in no layer of its head."""
    config = 'mmseg::segmenter/segmenter_vit-s_mask_8xb1-160k_ade20k-512x512.py'
    cfg = load_config(config).model.to_dict()
    cfg['data_preprocessor'].update(size=(64, 64))
    cfg['pretrained'] = None
    cfg['backbone'].update(img_size=(64, 64), embed_dims=24, num_layers=1, num_heads=2)
    head = dict(in_channels=24, channels=24, embed_dims=24, num_layers=1, num_heads=2)
    cfg['decode_head'].update(head, num_classes=19)
    return cfg


def sparse() -> dict:
    """A detector that does not even predict without annotations."""
    cfg = tiny.shrink(load_config('mmdet::sparse_rcnn/sparse-rcnn_r50_fpn_1x_coco.py').model)
    cfg = cfg.to_dict()
    cfg['rpn_head']['num_proposals'] = 10
    head = cfg['roi_head']
    head.update(num_stages=1, bbox_head=head['bbox_head'][:1], stage_loss_weights=[1])
    cfg['train_cfg']['rcnn'] = cfg['train_cfg']['rcnn'][:1]
    return cfg


def bare() -> dict:
    """A classifier whose head has no layers, as VGG's and Inception's."""
    arch = dict(depths=[1] * 4, channels=[8, 8, 8, 10])
    cfg = without_neck(dict(type='ConvNeXt', arch=arch), 10)
    cfg['head'] = dict(type='ClsHead', loss=dict(type='CrossEntropyLoss'))
    return cfg


def swin() -> dict:
    cfg = tiny.classifier()
    arch = dict(embed_dims=8, depths=[1, 1, 1, 1], num_heads=[1, 1, 2, 2])
    cfg['backbone'] = dict(type='SwinTransformer', arch=arch, pad_small_map=True)
    return cfg


def mobilenet(num_classes: int = 10) -> dict:
    cfg = tiny.classifier(num_classes)
    cfg['backbone'] = dict(type='MobileNetV2', widen_factor=0.1)
    cfg['head']['in_channels'] = 1280
    return cfg


def small_segmentor(name: str, num_classes: int = 19) -> dict:
    cfg = segmentor(name).to_dict()
    heads = [cfg['decode_head'], cfg.get('auxiliary_head') or []]
    for head in (head for x in heads for head in (x if isinstance(x, list) else [x])):
        head['num_classes'] = num_classes
    return cfg


MODELS = dict(
    retinanet=lambda: tiny.retinanet(),
    retinanet24=lambda: tiny.retinanet(channels=24),
    agnostic_faster=agnostic_faster,
    **{name: lambda name=name: detector(name) for name in _ZOO},
    **{
        name: lambda name=name: small_segmentor(name)
        for name in (
            'fcn',
            'pspnet',
            'deeplabv3',
            'segformer',
            'semantic_fpn',
            'bisenetv1',
            'ocrnet',
            'pointrend_r50',
        )
    },
    fcn4=lambda: small_segmentor('fcn', 4),
    resnet18=lambda: classifier(),
    resnet34=lambda: classifier(depth=34, base_channels=16, stem_channels=16),
    resnet100=lambda: classifier(100),
    imagenet18=lambda: classifier(1000),
    imagenet34=lambda: classifier(1000, depth=34),
    mobilenet=mobilenet,
    vit=vit,
    vit8=lambda: vit(patch=8),
    deit=deit,
    multi_label=lambda: multi_label(use_sigmoid=True),
    mixed_label=lambda: multi_label(use_soft=True),
    swin=swin,
    bare=bare,
    tnt=tnt,
    mask2former=mask2former,
    segmenter=segmenter,
    sparse=sparse,
)


def package_of(cfg: dict) -> str:
    kind = cfg['type']
    return {'EncoderDecoder': 'mmseg', 'CascadeEncoderDecoder': 'mmseg'}.get(
        kind, 'mmpretrain' if kind == 'ImageClassifier' else 'mmdet'
    )


def write_model(name: str, folder: Path) -> Path:
    """The config file of a model, as a user has one for training."""
    model = dict(MODELS[name]())
    cfg = dict(default_scope=package_of(model))
    model.pop('_scope_', None)
    if cfg['default_scope'] == 'mmpretrain':  # which keeps it beside the model
        cfg['data_preprocessor'] = model.pop('data_preprocessor')
    cfg.update(
        model=model,
        optim_wrapper=dict(type='OptimWrapper', optimizer=dict(type='SGD', lr=1e-4)),
        param_scheduler=[
            dict(type='LinearLR', start_factor=0.001, by_epoch=False, begin=0, end=500),
            dict(type='MultiStepLR', by_epoch=True, milestones=[8, 11]),
        ],
    )
    path = folder / f'{name}.py'
    Config(cfg).dump(path)
    return path
