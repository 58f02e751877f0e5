"""Pictures of student, denoised student and teacher features beside the image (DiffKD, Fig. 2)."""

import argparse
from copy import deepcopy
from pathlib import Path

import matplotlib

matplotlib.use('Agg')

import matplotlib.pyplot as plt
import numpy as np
import torch
from mmengine.config import Config, DictAction
from mmengine.registry import MODELS, init_default_scope
from mmengine.runner import Runner, load_checkpoint
from torch import Tensor, nn

from diffkd_mm.checkpoints.reading import read_all_safely
from diffkd_mm.distillers import Distiller
from diffkd_mm.distillers.preprocessing import Pixels
from diffkd_mm.errors import DistillationError
from diffkd_mm.launch import command_config
from diffkd_mm.taps import outputs, run_to_taps


def saliency(feature: Tensor, tau: float = 0.5) -> Tensor:
    """Feature saliency H·W·softmax(mean_c X / τ) (DiffKD, eq. 10).

    Args:
        feature (Tensor): Feature of shape (B, C, H, W).
        tau (float): Temperature τ. Defaults to 0.5.

    Returns:
        Tensor: Saliency of shape (B, H, W) whose mean is 1.
    """
    batch, _, height, width = feature.shape
    logits = feature.float().mean(dim=1).flatten(1) / tau
    return height * width * logits.softmax(dim=1).view(batch, height, width)


@torch.no_grad()
def features_of(model: nn.Module, point_name: str, data: dict) -> dict[str, list[Tensor]]:
    """Student, denoised student and teacher features of a batch, level by level.

    The connector runs in training mode, as the loss sees it: on the batch's own statistics.

    Args:
        model (nn.Module): The distiller, on its device.
        point_name (str): Name of a distillation point with a connector.
        data (dict): A batch of the data loader.

    Returns:
        dict[str, list[Tensor]]: Features of shape (B, C, H, W) per level.
    """
    point = model.distillation[point_name]
    data = model.data_preprocessor(data, False)
    inputs, data_samples = data['inputs'], data['data_samples']
    records = model.run_teacher(inputs, data_samples, points=[point_name])
    teachers = outputs(records[point_name], point.options.teacher, 'teacher')
    records = run_to_taps(model.student.eval(), [point.options.student_tap], inputs, data_samples)
    students = outputs(records[point.options.student_tap], point.options.student, 'student')
    refined, targets, _ = point.train().refine(students, teachers)
    return {
        'student': point.select(students, 'student'),
        'denoised student': refined,
        'teacher': targets,
    }


def draw(images: list[np.ndarray], columns: dict[str, Tensor], path: Path) -> None:
    """Draws one row per image: the image and the saliency of each feature.

    Args:
        images (list[np.ndarray]): RGB images.
        columns (dict[str, Tensor]): Features of shape (B, C, H, W) by title.
        path (Path): The PNG to write.
    """
    maps = {title: saliency(feature).cpu().numpy() for title, feature in columns.items()}
    figure, axes = plt.subplots(
        len(images),
        1 + len(maps),
        figsize=(2.2 * (1 + len(maps)), 2.2 * len(images)),
        squeeze=False,
    )
    for row, image in enumerate(images):
        axes[row][0].imshow(image)
        for axis, values in zip(axes[row][1:], maps.values()):
            axis.imshow(values[row], cmap='viridis')
    for axis, title in zip(axes[0], ['image', *maps]):
        axis.set_title(title)
    for axis in axes.flat:
        axis.set_axis_off()
    figure.tight_layout()
    figure.savefig(path, dpi=120)
    plt.close(figure)


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('config', help='config of a distillation')
    parser.add_argument('checkpoint', help='checkpoint of that distillation, with its connectors')
    parser.add_argument('--point', help='distillation point; default: the first with a connector')
    parser.add_argument('--level', type=int, default=0, help='level of the point; default: 0')
    parser.add_argument('--num-images', type=int, default=4, help='test images; default: 4')
    parser.add_argument('--out', type=Path, default=Path('features.png'), help='PNG to write')
    parser.add_argument('--device', default='cuda' if torch.cuda.is_available() else 'cpu')
    parser.add_argument(
        '--trust', action='store_true', help='read checkpoints even if they could run code'
    )
    parser.add_argument('--cfg-options', nargs='+', action=DictAction)
    return parser.parse_args()


def load_model(cfg: Config, args: argparse.Namespace) -> nn.Module:
    """The distiller with the checkpoint's weights and its teacher.

    Raises:
        SystemExit: If config or checkpoint have no connectors.
    """
    if not args.trust:
        read_all_safely()
    init_default_scope(cfg.get('default_scope', 'mmdet'))
    if 'data_preprocessor' in cfg:
        cfg.model.setdefault('data_preprocessor', cfg.data_preprocessor)
    model = MODELS.build(cfg.model).to(args.device)
    if not isinstance(model, Distiller):
        raise SystemExit(f'{args.config} distils nothing: its model is a {type(model).__name__}.')
    checkpoint = load_checkpoint(model, args.checkpoint, map_location=args.device)
    if not any(key.startswith('distillation.') for key in checkpoint.get('state_dict', {})):
        raise SystemExit(f'{args.checkpoint} has no connectors: it is a plain student.')
    model.build_teacher()
    return model


def main() -> None:
    args = parse_args()
    cfg = command_config(args.config, args.cfg_options)
    try:
        model = load_model(cfg, args)
    except DistillationError as error:
        raise SystemExit(f'{type(error).__name__}: {error}') from error
    names = [
        name
        for name, point in model.distillation.items()
        if point.connector is not None and point.chain is None and point.options.regions is None
    ]
    point = args.point or (names[0] if names else None)
    if point not in names:
        raise SystemExit(
            f'{args.config}: points with a connector, and without chain and regions: '
            f'{", ".join(names) or "none"}.'
        )
    loader = deepcopy(cfg.test_dataloader)
    loader.update(batch_size=args.num_images, num_workers=0, persistent_workers=False)
    data = next(iter(Runner.build_dataloader(loader)))
    columns = features_of(model, point, data)
    number = len(columns['teacher'])
    if not 0 <= args.level < number:
        raise SystemExit(f'--level {args.level}: point {point} has {number} levels, 0 the first.')
    if any(level.dim() != 4 for levels in columns.values() for level in levels):
        raise SystemExit(f'{args.config}: point {point} compares vectors, which are no images.')
    # Loaded as BGR, which the model's data preprocessor turns round if it wants RGB; or as RGB.
    order = -1 if Pixels.of(model.student.data_preprocessor).reversed else 1
    images = [x.permute(1, 2, 0).cpu().numpy()[..., ::order] for x in data['inputs']]
    args.out.parent.mkdir(parents=True, exist_ok=True)
    draw(images, {title: levels[args.level] for title, levels in columns.items()}, args.out)
    print(f'{args.out}: point {point}, level {args.level}, {len(images)} images')


if __name__ == '__main__':
    main()
