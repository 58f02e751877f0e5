"""DiffKD's layers without its diffusion: the control, and a connector in its own right."""

from typing import Literal

from ..options import NonNegativeFloat, PositiveInt
from ..registry import MODELS
from .base import Channels
from .diffkd import DiffKDConnector


@MODELS.register_module()
class DeepProjectorConnector(DiffKDConnector):
    """A deep projector: the layers of :class:`DiffKDConnector`, trained by the point's loss alone.

    The student feature passes projection, denoiser (N times, with the scales of the DDIM steps) and
    output projection as in DiffKD, but nothing teaches the denoiser to denoise and no noise is
    added: ``loss_diff_weight=0`` and ``noise_adapter=None``. What DiffKD gains beyond it is
    what the diffusion is worth, see ``docs/study.md``. Not in the paper.

    Args:
        student_channels (int | Sequence[int], optional): As in :class:`DiffKDConnector`.
        teacher_channels (int | Sequence[int], optional): As in :class:`DiffKDConnector`.
        num_levels (int, optional): Number of levels. None: found by the distiller.
        shared (bool): One set of modules for all levels. Defaults to False.
        latent_channels (int, optional): As in :class:`DiffKDConnector`. Defaults to None.
        denoiser (dict, optional): The layers that are passed N times, as in
            :class:`DiffKDConnector`.
        num_inference_steps (int): How often they are passed, N. Defaults to 5.
        initial_timestep (int): As in :class:`DiffKDConnector`. Defaults to 500.
        timestep_spacing (str): As in :class:`DiffKDConnector`. A single pass needs ``'trailing'``:
            with ``'leading'`` it is at t = 0, where the feature is hardly changed. Defaults to
            ``'leading'``.
        output_projection (bool): 1×1 conv and norm after them. Defaults to True.
        standardize (str, optional): As in :class:`DiffKDConnector`. Defaults to None.
        norm_cfg (dict, optional): Normalisation of all modules. Defaults to ``dict(type='BN')``.
        with_cp (bool): Activation checkpointing. Defaults to False.
        loss_ae_weight (float): Weight of ``loss_ae``, with ``latent_channels``. Defaults to 1.0.
        vectors (bool): As in :class:`DiffKDConnector`. Found by the distiller. Defaults to False.

    Raises:
        DistillationError: If a number of channels is left open, or does not fit the levels.
    """

    def __init__(
        self,
        student_channels: Channels | None = None,
        teacher_channels: Channels | None = None,
        num_levels: PositiveInt | None = None,
        shared: bool = False,
        latent_channels: PositiveInt | None = None,
        denoiser: dict | None = None,
        num_inference_steps: PositiveInt = 5,
        initial_timestep: PositiveInt = 500,
        timestep_spacing: Literal['leading', 'trailing'] = 'leading',
        output_projection: bool = True,
        standardize: Literal['channel', 'scale'] | None = None,
        norm_cfg: dict | None = None,
        with_cp: bool = False,
        loss_ae_weight: NonNegativeFloat = 1.0,
        vectors: bool = False,
    ) -> None:
        super().__init__(
            student_channels,
            teacher_channels,
            num_levels,
            shared=shared,
            latent_channels=latent_channels,
            denoiser=denoiser,
            noise_adapter=None,
            num_inference_steps=num_inference_steps,
            initial_timestep=initial_timestep,
            timestep_spacing=timestep_spacing,
            output_projection=output_projection,
            standardize=standardize,
            norm_cfg=norm_cfg,
            with_cp=with_cp,
            loss_diff_weight=0,
            loss_ae_weight=loss_ae_weight,
            vectors=vectors,
        )
