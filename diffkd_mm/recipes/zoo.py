"""Finding a model by what its package calls it: ``package::path``, a file, or a name of a zoo."""

import difflib
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

from mmengine.fileio import load

from ..configs import load_config, zoo_checkpoint
from ..errors import DistillationError

PACKAGES = ('mmdet', 'mmseg', 'mmpretrain')


class NamedModel(NamedTuple):
    """A model as a config names it.

    Args:
        config (str): ``'package::path'`` or the path of a config file.
        checkpoint (str, optional): ``'zoo'``, or the URL where a name says which weights; None
            where nothing is known of any.
    """

    config: str
    checkpoint: str | None

    @property
    def stem(self) -> str:
        """The name of the config's file."""
        return Path(self.config.split('::')[-1]).stem


def find_model(name: str, side: str) -> NamedModel:
    """Finds a model and the weights that are published for it.

    Args:
        name (str): ``'package::path'``, the path of a config file, or a name of the model zoo of
            MMDetection, MMSegmentation or MMPretrain, with or without ``.py``. Hyphens and
            underscores are alike where that leaves no doubt.
        side (str): ``'student'`` or ``'teacher'``, for messages.

    Returns:
        NamedModel: The config and its weights.

    Raises:
        DistillationError: If there is no such model, or several have the name.
    """
    if '::' in name:
        config = name if name.endswith('.py') else f'{name}.py'
        load_config(config, side)
        return NamedModel(config, _listed(config))
    if Path(name).is_file():
        return NamedModel(name, None)
    if '/' in name:
        raise DistillationError(f'{side}: there is no config file {name!r}.')
    stem = name.removesuffix('.py')
    shipped = dict(_shipped_configs())
    for spell in (str, _plain):
        found = [config for config in shipped if spell(_stem(config)) == spell(stem)]
        if not found:  # MMPretrain's names of weights are not those of its configs
            found = list(_published(stem, shipped, spell))
        if len(found) == 1:
            (model,) = found
            return model if isinstance(model, NamedModel) else NamedModel(model, _listed(model))
        if found:
            raise DistillationError(
                f'{side}: {name!r} is the name of several models: '
                f'{", ".join(sorted(x if isinstance(x, str) else x.config for x in found))}. '
                'Give one of these.'
            )
    near = difflib.get_close_matches(stem, {_stem(config) for config in shipped}, n=3, cutoff=0.5)
    hint = f' Nearest: {", ".join(near)}.' if near else ''
    installed = ', '.join(dict.fromkeys(config.split('::')[0] for config in shipped)) or 'none'
    raise DistillationError(
        f'{side}: {name!r} is neither a config file nor a name in the model zoo of an installed '
        f'package ({installed}).{hint}'
    )


def _stem(config: str) -> str:
    return Path(config.split('::')[1]).stem


def _plain(name: str) -> str:
    return name.lower().replace('-', '_')


def _shipped_configs() -> Iterator[tuple[str, Path]]:
    """Configs of the installed packages as ``package::path``, and their files."""
    for package in PACKAGES:
        spec = find_spec(package)  # which does not import it
        if spec is None or not spec.origin:
            continue
        root = Path(spec.origin).parent / '.mim' / 'configs'
        for path in sorted(root.rglob('*.py')):
            inside = path.relative_to(root)
            if '_base_' not in inside.parts:
                yield f'{package}::{inside.as_posix()}', path


def _published(name: str, shipped: dict[str, Path], spell) -> Iterator[NamedModel]:
    """Models that a metafile lists under a name, with the weights of that entry."""
    by_file = {path.resolve(): config for config, path in shipped.items()}
    folders = sorted({path.parent for path in shipped.values()})
    for metafile in (file for folder in folders for file in sorted(folder.glob('*.y*ml'))):
        if spell(name) not in spell(metafile.read_text()):
            continue
        content = load(str(metafile))
        models = content.get('Models') if isinstance(content, dict) else content
        for model in models or []:
            if isinstance(model, dict) and spell(str(model.get('Name'))) == spell(name):
                root = next(x for x in metafile.parents if x.name == 'configs').parent
                config = by_file.get((root / str(model.get('Config'))).resolve())
                if config is not None:
                    yield NamedModel(config, model.get('Weights'))


def _listed(config: str) -> str | None:
    """``'zoo'`` if the package's metafile lists weights for a config."""
    try:
        zoo_checkpoint(config)
    except DistillationError:
        return None
    return 'zoo'
