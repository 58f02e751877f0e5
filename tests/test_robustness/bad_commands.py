"""Command lines that cannot be right."""

from pathlib import Path

from table import Row, run_tool

MODEL = "model = dict(type='RetinaNet')\n"
# Content of a config file, and what is said of it.
CONFIGS = {
    'empty': ('', "has no 'model'"),
    'no-python': ('model = dict(', 'cannot load the config'),
    'name': ('model = modle\n', 'cannot load the config.*modle'),
    'key': ("model = {}['backbone']\n", 'cannot load the config.*backbone'),
    'type': ("model = 'a' + 1\n", 'cannot load the config'),
    'division': ('model = 1 / 0\n', 'cannot load the config.*zero'),
    'no-dict': ("model = 'RetinaNet'\n", "has no 'model'"),
    'itself': ("_base_ = './config.py'\n", 'inherits from itself'),
    'base-missing': ("_base_ = './no.py'\n", r'cannot load the config.*no\.py'),
    'base-package': ("_base_ = 'mmdet::no/such.py'\n", 'cannot load the config'),
    'base-number': ('_base_ = 5\n', 'cannot load the config'),
    'import-missing': (
        MODEL + "custom_imports = dict(imports=['no_such_module'], allow_failed_imports=False)\n",
        'cannot load the config.*no_such_module',
    ),
    'distiller-watch': (
        "model = dict(type='diffkd_mm.Distiller', student={}, watch='no')\n",
        "model: watch='no', but Distiller takes True or False",
    ),
    'distiller-option': (
        "model = dict(type='diffkd_mm.Distiller', student={}, pionts={})\n",
        "model: Distiller has no option 'pionts'.*Did you mean 'points'",
    ),
}
READERS = {
    'train.py': [],
    'test.py': ['no.pth'],
    'analysis_tools/feature_gap.py': ['no.pth'],
    'analysis_tools/visualize_features.py': ['no.pth'],
    'analysis_tools/get_flops.py': [],
    'analysis_tools/benchmark.py': [],
    'analysis_tools/list_taps.py': [],
}
# Read by all tools in one way: every kind for one of them, these for the others.
SHORT = ('empty', 'name', 'base-missing', 'distiller-option')
OPTIONS = {
    'custom_imports.imports=no_such_module': 'no_such_module',
    'model.type.depth=5': '--cfg-options',
}


def write(folder: Path, content: str) -> Path:
    path = folder / 'config.py'
    path.write_text(content)
    return path


def rows() -> list[Row]:
    def with_config(tool: str, content: str):
        return lambda folder: run_tool(tool, write(folder, content), *READERS[tool])

    def with_option(tool: str, option: str):
        return lambda folder: run_tool(
            tool, write(folder, MODEL), *READERS[tool], '--cfg-options', option
        )

    found = []
    for tool in READERS:
        name = Path(tool).stem
        found += [
            Row(f'{name}-config-{kind}', with_config(tool, content), sentence)
            for kind, (content, sentence) in CONFIGS.items()
            if tool == 'train.py' or kind in SHORT
        ]
        found += [
            Row(f'{name}-option-{i}', with_option(tool, option), sentence)
            for i, (option, sentence) in enumerate(OPTIONS.items())
        ]
        found.append(
            Row(
                f'{name}-config-missing',
                lambda folder, tool=tool: run_tool(tool, folder / 'no.py', *READERS[tool]),
                r'cannot load the config.*no\.py',
            )
        )
        found.append(
            Row(
                f'{name}-config-folder',
                lambda folder, tool=tool: run_tool(tool, folder, *READERS[tool]),
                'cannot load the config',
            )
        )
    return found


ROWS = rows()
