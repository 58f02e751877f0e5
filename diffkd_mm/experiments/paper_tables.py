"""The paper's tables: their rows from ``configs/tables.yml``, their figures from the metafiles."""

from dataclasses import dataclass
from pathlib import Path

import yaml

from diffkd_mm.errors import DistillationError

MISSING = ('', 'null')


@dataclass
class PaperRow:
    """A row of a table.

    Attributes:
        name (str): Name of its config in the metafile.
        label (str): What the row is.
        config (Path): The config file.
        figures (list[str | None]): The paper's figures as it prints them, in the metrics' order;
            None where it has none.
        deviation (str, optional): The deviation over several runs, as the paper prints it.
    """

    name: str
    label: str
    config: Path
    figures: list[str | None]
    deviation: str | None = None


@dataclass
class PaperTable:
    """A table of the paper.

    Attributes:
        name (str): ``'4'``, ``'fig4'``, ``'c2'``.
        title (str): What it is of.
        metrics (dict[str, str | None]): Names under which the figures are logged, by the heads of
            their columns; None if no evaluation on this machine tells.
        rows (list[PaperRow]): The rows.
    """

    name: str
    title: str
    metrics: dict[str, str | None]
    rows: list[PaperRow]

    @property
    def metric(self) -> str:
        """The first metric, by which runs are called finished."""
        return next(metric for metric in self.metrics.values() if metric)


def read_yaml(path: Path) -> dict:
    """A YAML file, every scalar as it is written: 77.00 keeps its zeros."""
    return yaml.load(path.read_text(encoding='utf-8'), yaml.BaseLoader)


def indexed_models(root: Path) -> dict[str, dict]:
    """The entries of all metafiles that ``model-index.yml`` lists, by name.

    Raises:
        DistillationError: If two have one name.
    """
    models: dict[str, dict] = {}
    for metafile in read_yaml(root / 'model-index.yml')['Import']:
        for model in read_yaml(root / metafile)['Models']:
            if model['Name'] in models:
                raise DistillationError(f'{metafile}: there is another {model["Name"]}.')
            models[model['Name']] = model
    return models


def table_names(root: Path) -> list[str]:
    """Names of the tables."""
    return list(read_yaml(root / 'configs/tables.yml'))


def read_table(root: Path, name: str) -> PaperTable:
    """Reads a table.

    Args:
        root (Path): The folder of ``model-index.yml`` and ``configs``.
        name (str): One of :func:`table_names`.

    Returns:
        PaperTable: The table.

    Raises:
        DistillationError: If a row names a config that no metafile lists.
    """
    entry = read_yaml(root / 'configs/tables.yml')[name]
    models = indexed_models(root)
    metrics = {
        head: None if metric in MISSING else metric for head, metric in entry['metrics'].items()
    }
    rows = []
    for config, label in entry['rows'].items():
        if config not in models:
            raise DistillationError(f'configs/tables.yml: table {name}: no metafile has {config}.')
        found = [None if x in MISSING else x for x in models[config].get('Paper Results', [])]
        deviation = None
        if 'deviation' in entry:
            deviation = found[len(metrics)] if len(found) > len(metrics) else None
        figures = [*found, *[None] * len(metrics)][: len(metrics)]
        rows.append(PaperRow(config, label, root / models[config]['Config'], figures, deviation))
    return PaperTable(name, entry['title'], metrics, rows)
