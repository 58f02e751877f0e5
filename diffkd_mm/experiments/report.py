"""A comparison as Markdown and as CSV files."""

import statistics

from diffkd_mm.tabular import markdown

from .intervals import Interval, mean_interval
from .results import Summary
from .study import Contrast

LABELS = dict(val='validation', test='test')


def mean_and_deviation(values: list[float]) -> str:
    """Mean ± sample standard deviation."""
    if not values:
        return '–'
    mean = f'{statistics.mean(values):.2f}'
    return mean + (f' ± {statistics.stdev(values):.2f}' if len(values) > 1 else '')


def interval_text(interval: Interval | None, sign: str = '') -> str:
    """The ends of an interval; nothing for a single value."""
    if interval is None or interval.low != interval.low:
        return '–'
    return f'{interval.low:{sign}.2f} to {interval.high:{sign}.2f}'


def arms_table(summaries: list[Summary], metric: str, split: str, reference: Summary | None) -> str:
    """The arms, one a row: metrics in percent with the sample standard deviation over the seeds.

    Args:
        summaries (list[Summary]): The arms.
        metric (str): Name of the metric.
        split (str): Split of the first column; of the test split the final validation follows, of
            the validation split the best one.
        reference (Summary, optional): The arm whose time per iteration is 1.
    """
    on_test = split == 'test'
    head = ['config', f'{metric}, test (%)' if on_test else f'{metric} (%)']
    head += ['validation (%)' if on_test else 'best (%)', 'seeds', 'parameters (M)', 's/iteration']
    head += ['relative time'] * (reference is not None) + ['minutes', '95 % interval']
    rows = []
    for summary in summaries:
        final = summary.final(split)
        seeds = f'{len(final)}' + (
            f' (missing: {", ".join(map(str, summary.missing))})' if summary.missing else ''
        )
        row = [summary.name, mean_and_deviation(final)]
        row += [mean_and_deviation(summary.final() if on_test else summary.best), seeds]
        row += [f'{summary.arm.parameters:.2f}', f'{summary.seconds:.3f}' if final else '–']
        if reference is not None:
            row.append(f'{summary.seconds / reference.seconds:.2f}' if final else '–')
        row.append(f'{summary.minutes:.1f}')
        row.append(interval_text(mean_interval(final) if final else None))
        rows.append(row)
    return markdown(head, rows)


def contrasts_table(contrasts: list[Contrast]) -> str:
    """Differences paired by seed, in percent points."""
    rows = [
        [
            f'{first} − {second}',
            f'{interval.mean:+.2f}' if interval else '–',
            interval_text(interval, '+'),
            str(len(differences)),
        ]
        for first, second, differences, interval in contrasts
    ]
    return markdown(['contrast', 'mean', '95 % interval', 'seeds'], rows)


def tuning_table(summaries: list[Summary], picked: list[str], metric: str) -> str:
    """The grid on the validation split, the picked arms in bold."""
    rows = []
    for summary in summaries:
        mark = '**' if summary.name in picked else ''
        row = [f'{mark}{summary.name}{mark}', mean_and_deviation(summary.final())]
        failed = ', '.join(map(str, summary.missing))
        row += [' '.join(map(str, summary.seeds)) + (f' (failed: {failed})' if failed else '')]
        rows.append([*row, f'{summary.minutes:.1f}'])
    return markdown(['config', f'{metric}, validation (%)', 'seeds', 'minutes'], rows)


def arm_rows(summaries: list[Summary], metric: str, split: str) -> list[dict]:
    """The arms with the final metric of every seed, for ``comparison.csv``."""
    rows = []
    for summary in summaries:
        final, best = summary.final(split), summary.best
        interval = mean_interval(final) if final else Interval(*[float('nan')] * 3)
        rows.append(
            dict(
                config=summary.name,
                metric=metric,
                split=split,
                mean=interval.mean if final else None,
                deviation=statistics.stdev(final) if len(final) > 1 else None,
                low=interval.low if len(final) > 1 else None,
                high=interval.high if len(final) > 1 else None,
                best_mean=statistics.mean(best) if best else None,
                seeds=len(final),
                missing=' '.join(map(str, summary.missing)),
                parameters_m=summary.arm.parameters,
                seconds_per_iteration=summary.seconds,
                minutes=summary.minutes,
                **{f'seed_{seed}': x for seed, x in zip(summary.seeds, final, strict=True)},
            )
        )
    return rows


def contrast_rows(contrasts: list[Contrast], metric: str, split: str) -> list[dict]:
    """The contrasts with the difference of every seed, for ``contrasts.csv``."""
    return [
        dict(
            first=first,
            second=second,
            metric=metric,
            split=split,
            seeds=len(differences),
            **(interval._asdict() if interval else {}),
            **{f'seed_{seed}': x for seed, x in sorted(differences.items())},
        )
        for first, second, differences, interval in contrasts
    ]


def run_rows(summaries: list[Summary], metric: str) -> list[dict]:
    """One row per run and split, for ``runs.csv``: the record of a study.

    ``seconds`` is the time of the run's training iterations.
    """
    return [
        dict(
            arm=summary.arm.config.stem,
            options=' '.join(summary.arm.values),
            seed=result.seed,
            split=LABELS[split],
            metric=metric,
            value=round(value, 4),
            seconds=round(result.seconds, 1),
        )
        for summary in summaries
        for result in summary.results
        for split, value in result.splits.items()
    ]
