"""The student's names: to the outside, a distiller looks like the student that it holds."""

from collections.abc import Iterator
from typing import Any

from torch import nn

_STUDENT = 'student.'
_DISTILLATION = 'distillation.'


class StudentNames(nn.Module):
    """Mixin for a model that holds a ``student`` and goes by the student's names.

    ========================= ==================================== ===============================
    override                  called by                            without it
    ========================= ==================================== ===============================
    ``__getattr__``           hooks, optimizer constructors and    an attribute such as
                              test-time code that reach into a     ``bbox_head`` is not found
                              model
    ``named_parameters``      optimizer constructors               rules by a parameter's name
                                                                   (``paramwise_cfg``) miss the
                                                                   student's parameters
    ``get_layer_depth``       MMPretrain's layer-wise decay of     parameters are named
                              the learning rate                    ``student.…`` and get a wrong
                                                                   depth
    ``_load_from_state_dict`` ``load_state_dict``, also MMEngine's a plain student's checkpoint
                              own loader                           does not load here
    state dict hook           ``state_dict``, so checkpoint and    a checkpoint from here does not
                              EMA hooks                            load into the plain student
    ========================= ==================================== ===============================
    """

    student: nn.Module

    def give_student_its_names(self) -> None:
        """Renames in every state dict from now on; called once, when the model is built."""
        self._register_state_dict_hook(_give_student_its_names)

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError:
            # Code that reaches into a model (hooks, optimizer constructors) means the student.
            return getattr(super().__getattr__('student'), name)

    def named_parameters(self, prefix: str = '', *args, **kwargs) -> Iterator:
        """As for any module, but with the student's parameters under their own names.

        Optimizer constructors choose learning rates by these names.
        """
        own = f'{prefix}.{_STUDENT}' if prefix else _STUDENT
        for name, parameter in super().named_parameters(prefix, *args, **kwargs):
            if name.startswith(own):
                name = own.removesuffix(_STUDENT) + name.removeprefix(own)
            yield name, parameter

    def get_layer_depth(self, param_name: str) -> tuple[int, int]:
        """The student's depth of a parameter, by the name that it has as a child's.

        MMPretrain's layer-wise decay of the learning rate finds parameters by walking through the
        children. A connector counts as the head does.
        """
        return self.student.get_layer_depth(param_name.removeprefix(_STUDENT))

    def _load_from_state_dict(self, state_dict, prefix, local_metadata, *args) -> None:
        metadata = getattr(state_dict, '_metadata', None)
        for names in (state_dict, metadata):
            for key in list(names or ()):
                if key.startswith(prefix) and not key.startswith(prefix + _DISTILLATION):
                    renamed = prefix + _STUDENT + key.removeprefix(prefix)
                    # Versions are looked up by whoever holds the dict, so they stay as well.
                    names[renamed] = names.pop(key) if names is state_dict else names[key]
        super()._load_from_state_dict(state_dict, prefix, local_metadata, *args)


def _give_student_its_names(module: nn.Module, state_dict: dict, prefix: str, *args) -> None:
    """State dict hook: ``student.backbone.…`` becomes ``backbone.…``."""
    metadata = getattr(state_dict, '_metadata', {})
    for names in (state_dict, metadata):
        for key in list(names):
            if key.startswith(prefix + _STUDENT):
                names[prefix + key.removeprefix(prefix + _STUDENT)] = names.pop(key)
