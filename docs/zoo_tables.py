"""The model zoo as Markdown tables, read from the metafiles beside the configs."""

from pathlib import Path

from diffkd_mm.experiments.paper_tables import read_yaml
from diffkd_mm.experiments.report import markdown

# What the figures are by data set, in the metafiles' order.
FIGURES = {
    'COCO': 'AP / AP50 / AP75 / APs / APm / APl',
    'Cityscapes': 'mIoU val / test',
    'ImageNet-1k': 'top-1 / top-5',
    'ImageNet-100': 'top-1',
    'CIFAR-100': 'top-1, deviation',
}


def zoo_tables(root: Path) -> str:
    """The tables of all metafiles in ``model-index.yml``, one for each metafile and data set.

    Args:
        root (Path): The repository's root.
    """
    text = ''
    for metafile in read_yaml(root / 'model-index.yml')['Import']:
        models = read_yaml(root / metafile)['Models']
        for dataset in dict.fromkeys(map(dataset_of, models)):
            rows = [row(model) for model in models if dataset_of(model) == dataset]
            text += f'## {Path(metafile).parent.as_posix()}: {dataset}\n\n'
            text += f'Figures are {FIGURES[dataset]}.\n\n'
            text += '{.zoo}\n'
            text += (
                markdown(['config', 'student ← teacher', 'schedule', 'paper', 'ours'], rows) + '\n'
            )
    return text


def dataset_of(model: dict) -> str:
    """The data set that a model is evaluated on."""
    return model['Results'][0]['Dataset']


def row(model: dict) -> list[str]:
    """A model's row."""
    metadata = model.get('Metadata', {})
    pair = ' ← '.join(metadata[key] for key in ('Student', 'Teacher') if key in metadata)
    length = [
        f'{metadata[key]} {key.lower()}' for key in ('Epochs', 'Iterations') if key in metadata
    ]
    figures = ['–' if x == 'null' else x for x in model.get('Paper Results', [])]
    name = f'[{model["Name"]}](../{model["Config"]})'
    if 'Weights' in model:
        name += f', [weights]({model["Weights"]})'
    ours = ' / '.join(str(x) for x in model['Results'][0]['Metrics'].values())
    return [name, pair or '–', ', '.join(length), ' / '.join(figures) or '–', ours or '–']
