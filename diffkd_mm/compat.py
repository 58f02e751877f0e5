"""What OpenMMLab's packages need to know about their maintained fork and a distiller's config.

MMEngine resolves ``_base_ = 'mmseg::…'`` by the name of the *distribution* that upstream
MMSegmentation is published under. The fork ships the same module under another distribution
name, so the inheritance fails and ``mmengine.hub.get_config`` goes on to install upstream
MMSegmentation over the fork. Looked up by its module name, the package is found under either
distribution.

MMDetection's ``init_detector`` reads ``config.model.backbone``, which a distiller's config has in
its student.
"""

from importlib.metadata import PackageNotFoundError, distribution
from importlib.util import find_spec
from typing import Any

from mmengine.config import ConfigDict
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


def show_the_students_config() -> None:
    """Lets attributes that a distiller's config lacks be found in its student's.

    As for the models themselves: what code reaches for in a model is the student's. Only attributes
    (``config.model.backbone``) are found so, not keys.
    """
    own_attribute = ConfigDict.__getattr__

    def attribute(self: ConfigDict, name: str) -> Any:
        try:
            return own_attribute(self, name)
        except AttributeError:
            kind = dict.get(self, 'type')
            kind = getattr(kind, '__name__', kind)
            student = dict.get(self, 'student')
            if str(kind).split('.')[-1] != 'Distiller' or not isinstance(student, ConfigDict):
                raise
            return getattr(student, name)

    ConfigDict.__getattr__ = attribute


find_packages_by_module()
show_the_students_config()
