"""The gap between student and teacher features of a distiller, stage by stage of a connector."""

from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager

import torch
from torch import Tensor, nn

from ..connectors import DiffKDConnector
from ..distillers import Distiller, points_to_look_at, tap_both
from .gap import Gap, GapMeter

# In the order in which a feature passes them; those of other connectors are the first and the last.
STAGES = {
    'student': 'as the student tap gives it, resized if the point says so',
    'projected': 'in the denoiser’s channels',
    'noised': 'with the noise of the noise adapter: what the denoiser starts from',
    'denoised': 'what the denoiser makes of it',
    'refined': 'what the loss compares',
}
Place = tuple[str, int, str]
"""Name of a point, level, stage."""


@contextmanager
def recorded_stages(connector: nn.Module | None) -> Iterator[dict[str, list[Tensor]]]:
    """Records what a connector makes of its levels, and the teacher's as they come in.

    Yields:
        dict: Per stage but the last, and as ``'teacher'``, a tensor per level.
    """
    found: dict[str, list[Tensor]] = {}

    def note(stage: str, value: Tensor) -> None:
        found.setdefault(stage, []).append(value)

    def coming_in(module: nn.Module, args: tuple) -> None:
        found['student'], found['teacher'] = map(list, args)

    with ExitStack() as stack:
        if connector is not None:
            stack.callback(connector.register_forward_pre_hook(coming_in).remove)
        for level in connector.levels if isinstance(connector, DiffKDConnector) else ():
            handles = [
                level.student_projection.register_forward_hook(
                    lambda module, args, output: note('projected', output)
                )
            ]
            if level.noise_adapter is not None:
                handles.append(
                    level.noise_adapter.register_forward_hook(
                        lambda module, args, output: note('noised', output[0])
                    )
                )
            if not isinstance(level.output_projection, nn.Identity):
                handles.append(
                    level.output_projection.register_forward_pre_hook(
                        lambda module, args: note('denoised', args[0])
                    )
                )
            for handle in handles:
                stack.callback(handle.remove)
        yield found


@torch.no_grad()
def measure_gaps(
    model: Distiller, data: Iterable[dict], point: str | None = None
) -> dict[Place, Gap]:
    """Measures the gap to the teacher over batches, at every stage of every level.

    The student is compared with the teacher's feature, what its connector makes of it with the
    connector's target, which is another thing where that is standardised or compressed. The
    student runs in evaluation mode, the connector in training mode, as the loss sees it: on the
    batch's own statistics. The model's modes and statistics are not put back.

    Args:
        model (Distiller): The distiller with its weights and its teacher, on its device.
        data (Iterable[dict]): Batches of a data loader.
        point (str, optional): Name of the point. Defaults to None: all that can be measured.

    Raises:
        DistillationError: If there is no such point.
    """
    points = points_to_look_at(model, point)
    meters: dict[Place, GapMeter] = {}
    for batch in data:
        for name, taps in tap_both(model, points, batch).items():
            connector = points[name].connector
            with recorded_stages(connector) as stages:
                refined, targets, _ = points[name].train().refine(*taps)
            sources = stages.pop('teacher', targets)
            stages['student' if connector is None else 'refined'] = refined
            for stage in filter(stages.get, STAGES):
                against = sources if stage == 'student' else targets
                for level, pair in enumerate(zip(stages[stage], against)):
                    meters.setdefault((name, level, stage), GapMeter()).update(*pair)
    order = list(points)
    return {
        place: meters[place].result()
        for place in sorted(
            meters, key=lambda x: (order.index(x[0]), x[1], list(STAGES).index(x[2]))
        )
    }


def gap_rows(checkpoint: str, step: int | None, gaps: dict[Place, Gap]) -> list[dict]:
    """The gaps as rows of a table: one for each point, level and stage."""
    return [
        dict(
            checkpoint=checkpoint,
            step=step,
            point=point,
            level=level,
            stage=stage,
            relative_mse=gap.error,
            snr_db=gap.snr,
            cosine=gap.cosine,
            cka=gap.cka,
            fitted_snr_db=gap.fitted_snr,
            frequency_teacher=gap.teacher_frequency,
            frequency_difference=gap.frequency,
            frequency_fitted=gap.fitted_frequency,
        )
        for (point, level, stage), gap in gaps.items()
    ]


def spectrum_rows(checkpoint: str, gaps: dict[Place, Gap]) -> list[dict]:
    """The spectra as rows of a table: one for each point, level, stage and band."""
    return [
        dict(
            checkpoint=checkpoint,
            point=point,
            level=level,
            stage=stage,
            cycles_per_position=band,
            **{key: values[index] for key, values in gap.spectra.items()},
        )
        for (point, level, stage), gap in gaps.items()
        for index, band in enumerate(gap.bands)
    ]
