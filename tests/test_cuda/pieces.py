"""Every loss, connector, chain and network of the package with a small input."""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import torch
from computed import Values
from mmengine.structures import BaseDataElement, InstanceData, PixelData
from torch import Tensor, nn

from diffkd_mm.distillers import LossBalance
from diffkd_mm.distillers.guidance import guidance_loss
from diffkd_mm.registry import build_model
from diffkd_mm.reparam import Branches

BATCH, CHANNELS, TEACHER_CHANNELS = 4, 16, 24
SIZES = [(12, 16), (6, 8)]
CLASSES = 5


class Inputs(nn.Module):
    """A student's tensors, as parameters for their gradients, and a teacher's."""

    def __init__(self, shapes: list[tuple], teacher_shapes: list[tuple]) -> None:
        super().__init__()
        self.students = nn.ParameterList(2 * torch.randn(x) + 0.5 for x in shapes)
        for i, shape in enumerate(teacher_shapes):
            self.register_buffer(f'teacher_{i}', 3 * torch.randn(shape) - 1)

    @property
    def teachers(self) -> list[Tensor]:
        return list(self.buffers())


class Piece(NamedTuple):
    """A module, its input, and how it is called."""

    module: nn.Module
    inputs: Inputs
    call: Callable[[nn.Module, Inputs], Values]

    def together(self) -> nn.ModuleDict:
        return nn.ModuleDict(dict(module=self.module, inputs=self.inputs))

    def forward(self, together: nn.ModuleDict) -> Values:
        return self.call(together['module'], together['inputs'])


def shapes(channels: int, form: str) -> list[tuple]:
    if form == 'vectors':
        return [(4 * BATCH, channels)]
    return [(BATCH, channels, *size) for size in SIZES]


def compared(predictions: list[Tensor], targets: list[Tensor]) -> Values:
    """A loss, and what it is of."""
    pairs = list(zip(predictions, targets, strict=True))
    found = {f'prediction {i}': x for i, (x, _) in enumerate(pairs)}
    found |= {f'target {i}': y for i, (_, y) in enumerate(pairs)}
    return found | dict(loss_kd=sum((x.float() - y.float()).square().mean() for x, y in pairs))


def connector(form: str = 'maps', **options) -> Piece:
    def call(module: nn.Module, inputs: Inputs) -> Values:
        predictions, targets, losses = module(list(inputs.students), inputs.teachers)
        return {**compared(predictions, targets), **losses}

    options = dict(type='DiffKDConnector') | options
    if options['type'] == 'DiffKDConnector':
        options = dict(num_inference_steps=2) | options
    if form == 'vectors':
        options |= dict(vectors=True) if options['type'] != 'ConvConnector' else {}
    levels = shapes(CHANNELS, form), shapes(TEACHER_CHANNELS, form)
    if options.get('shared') is not None:
        levels = levels[0], levels[0]
    module = build_model(
        dict(
            student_channels=CHANNELS,
            teacher_channels=levels[1][0][1],
            num_levels=len(levels[0]),
            **options,
        )
    )
    return Piece(module, Inputs(*levels), call)


def chain(form: str = 'maps', **options) -> Piece:
    def call(module: nn.Module, inputs: Inputs) -> Values:
        predictions, targets = module(list(inputs.students), inputs.teachers[0])
        return compared(predictions, targets)

    shape = shapes(CHANNELS, form)[0]
    module = build_model(dict(dict(type='KDiffusionChain'), **options))
    return Piece(module, Inputs([shape] * 3, [shape]), call)


def guidance(layer: nn.Module, form: str = 'maps') -> Piece:
    """Target guidance by a layer of the teacher."""

    def call(module: nn.Module, inputs: Inputs) -> Values:
        scales = [x.movedim(1, -1).flatten(0, -2).std(0) for x in inputs.teachers]
        return dict(loss=guidance_loss(module, list(inputs.students), inputs.teachers, scales))

    levels = shapes(CHANNELS, form)
    return Piece(layer.requires_grad_(False), Inputs(levels, levels), call)


def loss(type: str, form: str = 'maps', samples: Callable | None = None, **options) -> Piece:
    def call(module: nn.Module, inputs: Inputs) -> Values:
        student, teacher = inputs.students[0], inputs.teachers[0]
        more = () if samples is None else (samples(student.device),)
        return dict(loss=module(student, teacher, *more))

    channels = options.pop('of', CHANNELS)
    return Piece(
        build_model(dict(type=type, **options)),
        Inputs(shapes(channels, form)[:1], shapes(options.get('teacher_channels', channels), form)),
        call,
    )


def boxes(device: torch.device) -> list[BaseDataElement]:
    """Two objects in each image of 96×128, none in the last."""
    at = torch.tensor([[8.0, 8.0, 60.0, 50.0], [30.0, 20.0, 110.0, 90.0]], device=device)
    samples = [BaseDataElement(metainfo=dict(batch_input_shape=(96, 128))) for _ in range(BATCH)]
    for i, sample in enumerate(samples):
        sample.gt_instances = InstanceData(bboxes=at + i if i < BATCH - 1 else at[:0])
    return samples


def labels(device: torch.device) -> list[BaseDataElement]:
    """Labels of each pixel, some of them 255."""
    drawn = torch.arange(BATCH * 24 * 32).view(BATCH, 1, 24, 32) // 37 % (CLASSES + 1)
    drawn[drawn == CLASSES] = 255
    return [BaseDataElement(gt_sem_seg=PixelData(data=x)) for x in drawn.to(device)]


def balance(by: str) -> Piece:
    def call(module: nn.Module, inputs: Inputs) -> Values:
        tap = inputs.students[0] * 1.5
        own, loss_kd = tap.float().square().mean(), (tap - inputs.teachers[0]).abs().mean()
        return dict(module(own, loss_kd, [tap]), loss_own=own)

    shape = shapes(CHANNELS, 'maps')[:1]
    return Piece(LossBalance(ratio=0.5, by=by), Inputs(shape, shape), call)


def branches() -> Piece:
    def call(module: nn.Module, inputs: Inputs) -> Values:
        return compared([module(inputs.students[0])], [inputs.teachers[0]])

    shape = shapes(CHANNELS, 'maps')[:1]
    conv, norm = nn.Conv2d(CHANNELS, CHANNELS, 3, padding=1), nn.BatchNorm2d(CHANNELS)
    return Piece(Branches(conv, norm, 3, 'norm'), Inputs(shape, shape), call)


def cirkd() -> Piece:
    sizes = dict(pixel_queue_size=64, region_queue_size=16, num_pixels=40, num_regions=20)
    return loss(
        'CIRKDLoss',
        samples=labels,
        student_channels=CHANNELS,
        teacher_channels=TEACHER_CHANNELS,
        num_classes=CLASSES,
        **sizes,
    )


PIECES: dict[str, Callable[[], Piece]] = {
    'DiffKD': partial(connector, num_inference_steps=5),
    'DiffKD, latent, standardised': partial(
        connector, latent_channels=8, standardize='channel', loss_align_weight=1.0
    ),
    'DiffKD, with_cp': partial(connector, with_cp=True),
    'DiffKD, denoiser not through the student': partial(
        connector, kd_trains_denoiser=False, output_projection=False, timestep_spacing='trailing'
    ),
    'DiffKD, GN, one for all levels': partial(connector, norm_cfg=dict(type='GN'), shared=True),
    'DiffKD, SyncBN alone': partial(connector, norm_cfg=dict(type='SyncBN'), standardize='scale'),
    'DiffKD, U-Net': partial(
        connector, denoiser=dict(type='UNetDenoiser', block_out_channels=(8, 16))
    ),
    'DiffKD, scheduled noise': partial(
        connector, noise_adapter=dict(type='ScheduledNoise', start=0.2, end=0.9, iters=4)
    ),
    'DiffKD, random projection': partial(
        connector, latent_channels=8, autoencoder=dict(type='RandomProjection')
    ),
    'DiffKD, vectors': partial(connector, 'vectors'),
    'deep projector': partial(connector, type='DeepProjectorConnector'),
    'score guidance': partial(connector, type='ScoreGuidanceConnector'),
    'score guidance, vectors': partial(
        connector, 'vectors', type='ScoreGuidanceConnector', latent_channels=8
    ),
    'FitNet': partial(connector, type='ConvConnector', standardize='channel'),
    'FitNet, vectors': partial(connector, 'vectors', type='ConvConnector'),
    'KDiffusion': chain,
    'KDiffusion, posterior, linear': partial(
        chain, state='posterior', schedule='linear', detach_noise=False, shuffle=False
    ),
    'target guidance by a linear layer': lambda: guidance(nn.Linear(CHANNELS, 7)),
    'target guidance by a convolution': lambda: guidance(nn.Conv2d(CHANNELS, 8, 3, padding=1)),
    'target guidance, vectors': lambda: guidance(nn.Linear(CHANNELS, 7), 'vectors'),
    'average of branches': partial(chain, type='AverageChain'),
    'branches': branches,
    'MSE': partial(loss, 'MSELoss'),
    'MSE, vectors': partial(loss, 'MSELoss', 'vectors'),
    'MSE, spatial attention': partial(loss, 'MSELoss', attention='spatial'),
    'MSE, channel attention': partial(loss, 'MSELoss', attention='channel'),
    'KL': partial(loss, 'KLDivLoss', tau=4.0),
    'KL, vectors': partial(loss, 'KLDivLoss', 'vectors'),
    'DIST': partial(loss, 'DISTLoss'),
    'DIST, vectors': partial(loss, 'DISTLoss', 'vectors', tau=2.0),
    'CWD': partial(loss, 'CWDLoss', tau=4.0),
    'PKD': partial(loss, 'PKDLoss'),
    'cosine': partial(loss, 'CosineLoss'),
    'Wasserstein': partial(loss, 'WassersteinLoss'),
    'FGD': partial(loss, 'FGDLoss', samples=boxes, channels=CHANNELS, global_weight=1e-3),
    'MasKD': partial(loss, 'MasKDLoss', samples=labels, of=CLASSES, channels=CLASSES),
    'CIRKD': cirkd,
    'balance by the loss': partial(balance, 'loss'),
    'balance by the gradient': partial(balance, 'gradient'),
}


def build(name: str) -> Piece:
    """A piece with weights that are not those of the initialisation, on the CPU."""
    torch.manual_seed(0)
    piece = PIECES[name]()
    for parameter in piece.module.parameters():
        parameter.data += 0.05 * torch.randn_like(parameter)
    return piece
