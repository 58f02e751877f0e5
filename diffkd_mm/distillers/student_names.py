"""The student's names: to the outside, a distiller looks like the student that it holds."""

from collections.abc import Container, Iterator
from typing import Any, NamedTuple

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
    ``__setattr__``           hooks that switch something in a     the student goes on as before
                              model, such as DenseCL's loss
    ``named_parameters``      optimizer constructors               rules by a parameter's name
                                                                   (``paramwise_cfg``) miss the
                                                                   student's parameters
    ``get_layer_depth``       MMPretrain's layer-wise decay of     parameters are named
                              the learning rate                    ``student.…`` and get a wrong
                                                                   depth
    ``_load_from_state_dict`` ``load_state_dict``, also MMEngine's a plain student's checkpoint
                              own loader                           does not load here
    hook after loading        the same                             missing and unexpected keys are
                                                                   reported as ``student.…``
    state dict hook           ``state_dict``, so checkpoint and    a checkpoint from here does not
                              EMA hooks                            load into the plain student
    ========================= ==================================== ===============================
    """

    student: nn.Module

    def give_student_its_names(self) -> None:
        """Renames in every state dict from now on; called once, when the model is built."""
        self._register_state_dict_hook(_give_student_its_names)
        self.register_load_state_dict_post_hook(_report_under_student_names)
        self._goes_by_student_names = True

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError:
            # Code that reaches into a model (hooks, optimizer constructors) means the student.
            return getattr(super().__getattr__('student'), name)

    def __setattr__(self, name: str, value: Any) -> None:
        """Sets what is the student's in the student, as hooks expect that change a model."""
        if self.__dict__.get('_goes_by_student_names') and not self._has_own(name):
            student = self._modules['student']
            if hasattr(student, name):
                setattr(student, name, value)
                return
        super().__setattr__(name, value)

    def _has_own(self, name: str) -> bool:
        places = (self.__dict__, self._modules, self._parameters, self._buffers)
        return hasattr(type(self), name) or any(name in place for place in places)

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
        real_names = self._real_names()
        for key in [k for k in state_dict if self._is_students(k, prefix, real_names)]:
            state_dict[prefix + _STUDENT + key.removeprefix(prefix)] = state_dict.pop(key)
        # Versions are looked up by whoever holds the dict, so theirs stay and ours go afterwards.
        versions = {
            (prefix + _STUDENT + key.removeprefix(prefix)).removesuffix('.'): metadata[key]
            for key in metadata or ()
            if self._is_students(key, prefix)
        }
        added = [key for key in versions if key not in metadata]
        for key in added:
            metadata[key] = versions[key]
        self.__dict__['_loading'] = _Loading(prefix, metadata, added, errors=args[-1])
        super()._load_from_state_dict(state_dict, prefix, local_metadata, *args)

    def _real_names(self) -> set[str]:
        """The names that the student's tensors have as a child's, which some hooks save by."""
        modules = dict(nn.Module.named_modules(self.student, remove_duplicate=False))
        return {
            '.'.join(filter(None, (_STUDENT[:-1], path, name)))
            for path, module in modules.items()
            for name in (*module._parameters, *module._buffers)
        }

    @staticmethod
    def _is_students(key: str, prefix: str, real_names: Container[str] = ()) -> bool:
        """Whether a key of a state dict is one of the student's own names."""
        name = key.removeprefix(prefix)
        return (
            key.startswith(prefix) and not name.startswith(_DISTILLATION) and name not in real_names
        )


class _Loading(NamedTuple):
    """What :func:`_report_under_student_names` needs to know of a loading that is under way."""

    prefix: str
    metadata: dict | None
    added: list[str]
    errors: list[str]


def _report_under_student_names(module: StudentNames, incompatible_keys: Any) -> None:
    """Hook after loading: keys are reported by the student's names, the caller's dict is as was."""
    prefix, metadata, added, errors = module.__dict__.pop('_loading')
    for key in added:
        del metadata[key]
    own = prefix + _STUDENT
    for keys in incompatible_keys:
        keys[:] = [prefix + k.removeprefix(own) if k.startswith(own) else k for k in keys]
    errors[:] = [error.replace(f' for {own}', f' for {prefix}') for error in errors]


def _give_student_its_names(module: nn.Module, state_dict: dict, prefix: str, *args) -> None:
    """State dict hook: ``student.backbone.…`` becomes ``backbone.…``."""
    metadata = getattr(state_dict, '_metadata', {})
    for names in (state_dict, metadata):
        for key in list(names):
            if key.startswith(prefix + _STUDENT):
                names[prefix + key.removeprefix(prefix + _STUDENT)] = names.pop(key)
