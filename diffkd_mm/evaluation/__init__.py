"""What becomes of predictions beyond the metrics of OpenMMLab."""

from .cityscapes import CityscapesTestZip

__all__ = ['CityscapesTestZip']
