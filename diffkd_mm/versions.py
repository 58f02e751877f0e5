"""Refusal of package versions that cannot work, before anything of them is imported."""

import re
from importlib.metadata import PackageNotFoundError, version

# Module, the distributions that bring it (the fork's first), and the first version that works.
MINIMUMS = (
    ('torch', ('torch',), (2, 1)),
    ('mmengine', ('onedl-mmengine', 'mmengine', 'mmengine-lite'), (0, 10)),
    ('mmcv', ('onedl-mmcv', 'mmcv', 'mmcv-lite', 'mmcv-full'), (2, 0)),
    ('mmdet', ('onedl-mmdetection', 'mmdet'), (3, 0)),
    ('mmseg', ('onedl-mmsegmentation', 'mmsegmentation'), (1, 0)),
    ('mmpretrain', ('onedl-mmpretrain', 'mmpretrain'), (1, 0)),
)


def installed_version(distributions: tuple[str, ...]) -> tuple[str, str] | None:
    """Name and version of the first of some distributions that is installed."""
    for name in distributions:
        try:
            return name, version(name)
        except PackageNotFoundError:
            continue
    return None


def numbers(text: str) -> tuple[int, ...]:
    """The numbers that a version begins with, such as (2, 1, 0) of ``2.1.0rc1+cu121``."""
    return tuple(int(x) for x in re.match(r'\d+(?:\.\d+)*|', text)[0].split('.') if x)


def refuse_old_versions() -> None:
    """Refuses installed packages that are older than what works; missing ones are no concern.

    Raises:
        ImportError: That names the package, its version and the one that is needed.
    """
    for _, distributions, minimum in MINIMUMS:
        found = installed_version(distributions)
        if found is not None and numbers(found[1]) < minimum:
            needed = '.'.join(map(str, minimum))
            raise ImportError(
                f'diffkd_mm needs {found[0]} {needed} or newer, and {found[1]} is installed: see '
                'docs/stacks.md for versions that were tested together.'
            )


refuse_old_versions()
