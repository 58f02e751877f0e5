"""Structural re-parameterisation: layers that are several in training and one afterwards."""

from .branches import STATES, Branches
from .folding import check_folded, fold, fold_state_dict, is_unfolded
from .surgery import Surgery

__all__ = [
    'STATES',
    'Branches',
    'Surgery',
    'check_folded',
    'fold',
    'fold_state_dict',
    'is_unfolded',
]
