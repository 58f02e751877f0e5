"""What MMEngine needs to know about the maintained fork of the OpenMMLab packages.

MMEngine resolves ``_base_ = 'mmseg::…'`` by the name of the *distribution* that upstream
MMSegmentation is published under. The fork ships the same module under another distribution
name, so the inheritance fails and ``mmengine.hub.get_config`` goes on to install upstream
MMSegmentation over the fork. Looked up by its module name, the package is found under either
distribution.
"""

from importlib.metadata import PackageNotFoundError, distribution
from importlib.util import find_spec

from mmengine.config.utils import MODULE2PACKAGE


def _is_distribution(name: str) -> bool:
    try:
        distribution(name)
    except PackageNotFoundError:
        return False
    return True


def find_packages_by_module() -> None:
    """Lets MMEngine find packages whose distribution name is not the one it expects."""
    for module, package in MODULE2PACKAGE.items():
        if not _is_distribution(package) and find_spec(module) is not None:
            MODULE2PACKAGE[module] = module


find_packages_by_module()
