"""A trainer and a tester that only pretend, for tests of tools/compare.py."""

WEIGHT = 'model.points.fpn.loss.loss_weight'
# Logs what its config, the weight and the seed make of it, unless there is nothing left to train.
TRAINER = """
import json, pathlib, sys
config = {}
exec(pathlib.Path(sys.argv[1]).read_text(), config)
work_dir = pathlib.Path(sys.argv[sys.argv.index('--work-dir') + 1])
pairs = sys.argv[sys.argv.index('--cfg-options') + 1:]
options = dict(pair.split('=') for pair in pairs if '=' in pair)  # a launcher's options may follow
weight = float(options.get('model.points.fpn.loss.loss_weight', 0))
seed = int(options['randomness.seed'])
value = config['base'] - abs(weight - config.get('best', 0)) + seed * config.get('slope', 1)
with (work_dir / 'starts').open('a') as file:
    file.write('.')
(work_dir / 'pairs').write_text(' '.join(pairs))
if not (work_dir / 'iter_4.pth').exists():
    folder = work_dir / '20250101_000000' / 'vis_data'
    folder.mkdir(parents=True)
    entries = [
        {'loss': 1.0, 'time': 9.0, 'step': 2},
        {'mIoU': value - 1, 'mAcc': 1.0, 'time': 0.1, 'step': 2},
        {'loss': 1.0, 'time': config['seconds'], 'step': 4},
    ]
    if not config.get('validation_fails'):
        entries.append({'mIoU': value, 'mAcc': 2.0, 'time': 0.1, 'step': 4})
    (folder / 'scalars.json').write_text(''.join(json.dumps(x) + chr(10) for x in entries))
    (work_dir / 'iter_4.pth').touch()
    (work_dir / 'last_checkpoint').write_text('/moved/since/iter_4.pth')
    if config.get('validation_fails'):
        raise SystemExit('no room for predictions')
"""
# Finds on the test split 10 less than on the validation split.
TESTER = """
import json, pathlib, sys
folder = pathlib.Path(sys.argv[sys.argv.index('--work-dir') + 1])
split = sys.argv[sys.argv.index('--split') + 1]
checkpoint = pathlib.Path(sys.argv[2])
assert checkpoint.is_file()
with (checkpoint.parent / 'tests').open('a') as file:
    file.write(split)
seed = next(int(x.split('=')[1]) for x in sys.argv if x.startswith('randomness.seed='))
(folder / '20250102_000000').mkdir(parents=True)
value = 40 + seed - 10 * (split == 'test')
(folder / '20250102_000000' / '20250102_000000.json').write_text(json.dumps({'mIoU': value}))
"""
POINT = 'model = dict(points=dict(fpn=dict(loss=dict())))'
CONFIGS = dict(
    student='base, seconds = 40, 0.5',
    fitnet=f'base, best, seconds, slope = 50, 0.5, 0.5, 2\n{POINT}',
    diffkd=f'base, best, seconds = 60, 5, 0.75\n{POINT}',
)


def count(tmp_path, file):
    return {
        str(p.parent.relative_to(tmp_path / 'out')): len(p.read_text())
        for p in tmp_path.rglob(file)
    }
