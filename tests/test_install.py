"""The installer's decisions: what it caches, patches, skips and refuses. Nothing is installed."""

import os
import re
import subprocess
import sys
import threading
import time
from importlib import metadata
from pathlib import Path

import patience
import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / 'tools'))

import install  # noqa: E402
from installer import environment, mmcv_ops, wheel_cache  # noqa: E402
from installer.environment import InstallError  # noqa: E402

FACTS = mmcv_ops.Facts(
    python='cp311',
    platform='linux-x86_64',
    torch='2.14.1+cu130',
    gpus=[],
    nvcc=True,
    aten='#error C++20 or later compatible compiler is required to use ATen.',
    include='/usr/include/python3.11',
)


def fake_venv(path: Path, *packages: str) -> environment.Venv:
    for package in packages:
        (path / 'lib/python3.11/site-packages' / f'{package}.dist-info').mkdir(parents=True)
    return environment.Venv(path)


def test_wheel_key_holds_everything_the_ops_depend_on():
    keys = {
        mmcv_ops.wheel_key(FACTS, '2.3.6', 'cpu'),
        mmcv_ops.wheel_key(FACTS._replace(python='cp312'), '2.3.6', 'cpu'),
        mmcv_ops.wheel_key(FACTS._replace(torch='2.14.1+cpu'), '2.3.6', 'cpu'),
        mmcv_ops.wheel_key(FACTS._replace(torch='2.13.0+cu130'), '2.3.6', 'cpu'),
        mmcv_ops.wheel_key(FACTS._replace(platform='linux-aarch64'), '2.3.6', 'cpu'),
        mmcv_ops.wheel_key(FACTS, '2.3.7', 'cpu'),
        mmcv_ops.wheel_key(FACTS, '2.3.6', 'cuda-8.0'),
        mmcv_ops.wheel_key(FACTS, '2.3.6', 'cuda-9.0'),
    }
    assert len(keys) == 8
    assert all(Path(key).name == key for key in keys)


@pytest.mark.parametrize(
    'env, folder',
    [
        ({'DIFFKD_MM_CACHE': '/a', 'XDG_CACHE_HOME': '/b'}, Path('/a')),
        ({'XDG_CACHE_HOME': '/b'}, Path('/b/diffkd_mm')),
        ({}, Path.home() / '.cache' / 'diffkd_mm'),
    ],
)
def test_cache_folder(env, folder):
    assert wheel_cache.cache_folder(env) == folder


@pytest.mark.parametrize(
    'gpus, env, device',
    [
        ([], {}, 'cpu'),
        (['9.0'], {}, 'cuda-9.0'),
        (['9.0'], {'FORCE_CUDA': '0'}, 'cpu'),
        ([], {'FORCE_CUDA': '1'}, 'cuda-all'),
        ([], {'FORCE_CUDA': '1', 'TORCH_CUDA_ARCH_LIST': '8.0;9.0+PTX'}, 'cuda-8.0_9.0+PTX'),
    ],
)
def test_ops_device(gpus, env, device):
    assert mmcv_ops.ops_device(FACTS._replace(gpus=gpus), env) == device


def test_gpu_without_nvcc_is_an_error_that_names_the_ways_out():
    with pytest.raises(InstallError, match='nvcc was not found.*CUDA_HOME.*FORCE_CUDA=0'):
        mmcv_ops.ops_device(FACTS._replace(gpus=['9.0'], nvcc=False), {})


@pytest.mark.parametrize(
    'aten, standard',
    [
        (FACTS.aten, 20),
        ('#error C++17 or later compatible compiler is required to use ATen.', 17),
        ('#pragma once', 17),
    ],
)
def test_required_standard(aten, standard):
    assert mmcv_ops.required_standard(aten) == standard


def test_patch_raises_every_standard_and_nothing_else():
    setup_py = "cxx = ['-std=c++14', '-std=c++17', '/std:c++17']  # needs c++14\n"
    assert mmcv_ops.patch_standard(setup_py, 17) == setup_py
    assert mmcv_ops.patch_standard(setup_py, 20) == (
        "cxx = ['-std=c++20', '-std=c++20', '/std:c++20']  # needs c++14\n"
    )


def test_missing_compiler_is_named(monkeypatch):
    monkeypatch.setenv('CXX', 'no-such-compiler')
    with pytest.raises(InstallError, match='no-such-compiler was not found: g\\+\\+ 11'):
        mmcv_ops.check_compiler(FACTS)


def test_old_compiler_is_named(monkeypatch, tmp_path):
    compiler = tmp_path / 'c++'
    compiler.write_text('#!/bin/sh\nexit 1\n')
    compiler.chmod(0o755)
    monkeypatch.setenv('CXX', str(compiler))
    with pytest.raises(InstallError, match='cannot compile C\\+\\+20, as torch demands'):
        mmcv_ops.check_compiler(FACTS)


def test_job_count_is_bounded_by_memory_and_by_the_user(monkeypatch):
    assert mmcv_ops.job_count({'MAX_JOBS': '7'}) == 7
    monkeypatch.setattr(os, 'sched_getaffinity', lambda pid: set(range(64)), raising=False)
    pages = {'SC_PAGE_SIZE': 1, 'SC_PHYS_PAGES': 5 * 2**30}
    monkeypatch.setattr(os, 'sysconf', pages.__getitem__)
    assert mmcv_ops.job_count({}) in (1, 2)


def test_ops_are_optimised_unless_the_user_says_otherwise():
    assert mmcv_ops.compiler_flags({})['CFLAGS'] == '-O2 -DNDEBUG -g0'
    assert mmcv_ops.compiler_flags({'CXXFLAGS': '-O3 -march=native'}) == {
        'CFLAGS': '-O2 -DNDEBUG -g0',
        'CXXFLAGS': '-O3 -march=native -g0',
    }


def test_requirements_without_comments_and_in_normal_form(tmp_path):
    path = tmp_path / 'some.txt'
    path.write_text('# a comment\n\nScikit_Learn==1.9.1  # why\ntorch\n')
    assert environment.read_requirements([path]) == {'scikit-learn': '1.9.1', 'torch': None}


both_stacks = pytest.mark.parametrize('stack', install.STACKS.values(), ids=install.STACKS)
ONEDL = install.STACKS['onedl']


@both_stacks
def test_every_requirement_has_a_tested_version(stack):
    pins = environment.read_requirements([stack.constraints])
    wanted = {*environment.read_requirements(stack.requirements), *install.BUILD_TOOLS}
    assert [name for name in sorted(wanted) if not pins.get(name)] == []


def test_lacks_only_what_is_missing_or_of_another_version(tmp_path):
    venv = fake_venv(tmp_path, 'torch-2.14.1+cpu', 'scikit_learn-1.9.0', 'onedl_mmcv-2.3.6')
    pins = {'torch': '2.14.1', 'scikit-learn': '1.9.1', 'onedl-mmcv': '2.3.6', 'ruff': '0.17.5'}
    assert venv.lacks(pins, pins) == ['scikit-learn', 'ruff']


def test_fingerprint_follows_the_packages_and_the_device(tmp_path, monkeypatch):
    monkeypatch.delenv('FORCE_CUDA', raising=False)
    before = install.fingerprint(fake_venv(tmp_path, 'torch-2.14.1'), ONEDL)
    assert install.fingerprint(environment.Venv(tmp_path), ONEDL) == before
    after = install.fingerprint(fake_venv(tmp_path, 'opencv_python-4.12.0.88'), ONEDL)
    assert after != before
    monkeypatch.setenv('FORCE_CUDA', '1')
    assert install.fingerprint(environment.Venv(tmp_path), ONEDL) != after


@pytest.mark.parametrize(
    'built_with, has_cuda, device, works',
    [
        (None, False, 'cpu', True),
        ('2.14.1+cu130', False, 'cpu', True),
        ('2.14.1+cu130', True, 'cpu', True),
        ('2.14.1+cu130', False, 'cuda-9.0', False),
        ('2.13.0+cu130', False, 'cpu', False),
        ('2.14.1+cu130', None, 'cpu', False),
    ],
    ids=['unknown torch', 'fits', 'CUDA does CPU too', 'no CUDA', 'other torch', 'does not load'],
)
def test_working_ops(tmp_path, monkeypatch, built_with, has_cuda, device, works):
    venv = fake_venv(tmp_path, 'onedl_mmcv-2.3.6')
    (tmp_path / 'lib/python3.11/site-packages/mmcv').mkdir()
    (tmp_path / 'lib/python3.11/site-packages/mmcv/_ext.so').touch()
    if built_with:
        venv.ops_torch.write_text(built_with)
    monkeypatch.setattr(venv, 'ask', lambda code, *args: has_cuda)
    assert mmcv_ops.working_ops(venv, FACTS, 'onedl-mmcv', '2.3.6', device) is works
    assert not mmcv_ops.working_ops(venv, FACTS, 'onedl-mmcv', '2.3.7', device)


@pytest.mark.parametrize(
    'stack, found',
    [('onedl', ('mmcv-2.1.0', 'mmdet-3.3.0')), ('openmmlab', ('onedl_mmcv-2.3.6',))],
)
def test_another_stack_is_never_overwritten(tmp_path, stack, found):
    venv = fake_venv(tmp_path, *found, 'numpy-1.26.4')
    names = ', '.join(x.rpartition('-')[0].replace('_', '-') for x in found)
    with pytest.raises(InstallError, match=f'has {names}, which .*pip install --no-deps -e'):
        install.refuse_other_stack(venv, install.STACKS[stack])
    (own,) = set(install.STACKS) - {stack}
    install.refuse_other_stack(venv, install.STACKS[own])


def test_failed_command_shows_the_reason_and_the_log(tmp_path, capsys):
    venv = environment.Venv(tmp_path)
    code = 'print("x.cpp:1: error: the reason"); print("noise\\n" * 40); raise SystemExit(1)'
    with pytest.raises(InstallError, match=r'it broke \(exit code 1\); .*install.log'):
        venv.run([sys.executable, '-c', code], failure='it broke')
    printed = capsys.readouterr().out.splitlines()
    assert 'x.cpp:1: error: the reason' in printed and len(printed) < 30


def test_progress_of_a_build_is_read_from_its_log(tmp_path):
    log = tmp_path / 'log'
    log.write_text('$ one\n  [9/9] c++\n$ two\n  [1/170] c++ a\n  [2/170] c++ b\n  warning\n')
    assert environment.compiled_files(log) == 'compiled 2 of 170 files'
    log.write_text('  [9/9] c++\n$ two\n')
    assert environment.compiled_files(log) == ''


def test_nothing_is_run_when_nothing_changed(tmp_path, monkeypatch):
    venv = fake_venv(tmp_path, 'torch-2.14.1')
    venv.stamp.write_text(install.fingerprint(venv, ONEDL))
    monkeypatch.setattr(subprocess, 'Popen', pytest.fail)
    monkeypatch.setattr(subprocess, 'run', pytest.fail)
    install.install(venv)


@both_stacks
def test_every_pinned_package_has_hashes(stack):
    """Those of the same version; `make hashes` brings them up to date."""
    pins = environment.read_requirements([stack.constraints])
    hashes = environment.read_hashes(stack.hashes)
    assert hashes.keys() == pins.keys()
    for name, requirement in hashes.items():
        version = requirement.split()[0].partition('==')[2]
        assert version == pins[name], name
        assert requirement.count('--hash=sha256:') >= 1, name


@pytest.fixture
def commands(monkeypatch):
    """What pip would be called with, and the requirements it would read."""
    calls = []

    def pip(venv, *args, failure, env=None):
        args = list(map(str, args))
        if '-r' in args:
            args.append(Path(args[args.index('-r') + 1]).read_text())
        calls.append(args)
        return failure is not None  # what may fail does

    monkeypatch.setattr(environment.Venv, 'pip', pip)
    return calls


def test_packages_are_installed_by_their_hashes(tmp_path, commands):
    pins = environment.read_requirements([ONEDL.constraints])
    hashes = environment.read_hashes(ONEDL.hashes)
    venv = fake_venv(tmp_path, f'rich-{pins["rich"]}', 'numpy-1.0')
    install.install_packages(venv, pins, hashes, install.BUILD_TOOLS, step='2')
    install.install_torch(venv, ONEDL, pins, hashes)
    install.install_the_rest(venv, pins, hashes)
    tools, torch, others = commands
    for command in commands:
        assert '--require-hashes' in command and '--no-deps' in command
    assert 'setuptools==' in tools[-1] and 'numpy==' in tools[-1]
    names = set(re.findall(r'^([\w.-]+)==', others[-1], re.MULTILINE))
    assert {'onedl-mmdetection', 'pytest', 'opencv-python-headless'} < names
    assert not names & {'rich', 'torch', 'triton', 'onedl-mmcv', 'opencv-python', 'nvidia-nvtx'}
    names = set(re.findall(r'^([\w.-]+)==', torch[-1], re.MULTILINE))
    assert {'torch', 'torchvision', 'triton', 'nvidia-nvtx', 'cuda-toolkit'} < names


@pytest.mark.parametrize('gpu', [False, True])
def test_another_build_of_torch_on_demand(tmp_path, commands, monkeypatch, gpu):
    """Without a GPU, one for the CPU is tried before."""
    monkeypatch.setenv('DIFFKD_MM_ANY_TORCH', '1')
    monkeypatch.setenv('FORCE_CUDA', str(int(gpu)))
    monkeypatch.setattr(install.shutil, 'which', lambda name: None)
    pins = dict(torch='2.14.1', torchvision='0.29.1')
    install.install_torch(fake_venv(tmp_path), ONEDL, pins, {})
    command = ['install', '-c', str(ONEDL.constraints)]
    cpu = [*command, 'torch==2.14.1+cpu', 'torchvision==0.29.1+cpu']
    assert commands == [*([] if gpu else [cpu]), [*command, 'torch', 'torchvision']]


def test_what_torch_imports_is_there_before_the_ops_are_compiled():
    needs = [x for x in metadata.requires('torch') if 'extra ==' not in x]
    needs = {environment.normalise(re.match(r'[\w.-]+', need)[0]) for need in needs}
    needs = {need for need in needs if not need.startswith(install.CUDA)}
    assert needs <= {*install.TORCH_NEEDS, *install.BUILD_TOOLS}


class TestCompilingWhileDownloading:
    @pytest.fixture
    def both(self, tmp_path, monkeypatch):
        def run(ops, rest) -> None:
            monkeypatch.setattr(install, 'install_ops', lambda venv, *args: ops(venv))
            monkeypatch.setattr(install, 'install_the_rest', lambda venv, *args: rest(venv))
            tmp_path.joinpath('bin').mkdir(exist_ok=True)
            names = {ONEDL.mmcv: ''}
            install.install_while_compiling(environment.Venv(tmp_path), ONEDL, names, names)

        return run

    @staticmethod
    def fail(venv) -> None:
        time.sleep(0.5)
        raise InstallError('the reason')

    def test_at_a_time(self, both):
        compiling, downloading = threading.Event(), threading.Event()

        def meet(mine, other) -> None:
            mine.set()
            assert other.wait(patience.SECONDS)

        both(lambda venv: meet(compiling, downloading), lambda venv: meet(downloading, compiling))

    @pytest.mark.parametrize('first', ['ops', 'rest'])
    def test_the_first_that_fails_ends_the_other(self, both, first):
        """At once, with its own message."""
        slept = []

        def sleep(venv) -> None:
            venv.run(['sleep', '300'], failure='it did not sleep')
            slept.append(True)

        parts = (self.fail, sleep) if first == 'ops' else (sleep, self.fail)
        with pytest.raises(InstallError, match='^the reason$'):
            both(*parts)
        assert not slept


@pytest.mark.parametrize('found, loads', [(False, True), (True, False), (True, True)])
def test_wheels_that_others_built(tmp_path, monkeypatch, found, loads):
    """One that is there and loads; otherwise the ops are compiled."""
    venv = fake_venv(tmp_path)

    def pip(command, *args, failure, env=None):
        assert command == 'download' and failure is None and '--no-index' in args
        if found:
            (Path(args[args.index('-d') + 1]) / 'onedl_mmcv-2.3.6.whl').touch()
        return found

    monkeypatch.setattr(venv, 'pip', pip)
    monkeypatch.setattr(mmcv_ops, 'install_wheel', lambda *args: loads)
    wheels = str(tmp_path)
    assert mmcv_ops.prebuilt(venv, FACTS, 'onedl-mmcv', '2.3.6', 'cpu', wheels) is (found and loads)
    assert not mmcv_ops.prebuilt(venv, FACTS, 'onedl-mmcv', '2.3.6', 'cpu', None)


def test_each_stack_installs_its_own_mmcv_by_ops_alone(tmp_path, commands):
    """pip would compile it before torch is there."""
    for stack in install.STACKS.values():
        pins = environment.read_requirements([stack.constraints])
        assert {stack.mmcv, *install.BUILD_TOOLS, *install.TORCH_NEEDS} <= pins.keys()
        install.install_the_rest(fake_venv(tmp_path), pins, environment.read_hashes(stack.hashes))
        names = set(re.findall(r'^([\w.-]+)==', commands[-1][-1], re.MULTILINE))
        assert names and not names & {'mmcv', 'onedl-mmcv', 'opencv-python'}


@pytest.fixture
def cached(tmp_path):
    """A wheel in the cache, as the installer puts it there."""
    built = tmp_path / 'build' / 'onedl_mmcv-2.3.6.whl'
    built.parent.mkdir()
    built.write_bytes(b'a wheel')
    return wheel_cache.keep(built, tmp_path / 'cache' / 'wheels' / 'key')


def replace(cached):
    cached.write_bytes(b'another wheel')


def truncate(cached):
    cached.write_bytes(b'a whe')


def open_up(cached):
    cached.chmod(0o666)


def link(cached):
    cached.rename(cached.with_name('elsewhere'))
    cached.symlink_to(cached.with_name('elsewhere'))


def forget_digest(cached):
    wheel_cache.digest_file(cached).unlink()


@pytest.mark.parametrize(
    'change, reason',
    [
        (replace, 'it is not as it was built'),
        (truncate, 'it is not as it was built'),
        (open_up, 'others may write to'),
        (link, 'others may write to'),
        (forget_digest, 'there is no digest beside it'),
    ],
    ids=lambda x: getattr(x, '__name__', ''),
)
def test_a_bad_wheel_counts_as_absent(cached, capsys, change, reason):
    assert list(wheel_cache.wheels(cached.parent)) == [cached]
    change(cached)
    assert list(wheel_cache.wheels(cached.parent)) == []
    assert reason in capsys.readouterr().out


def test_a_wheel_of_another_owner_counts_as_absent(cached, monkeypatch):
    owner = os.getuid()
    monkeypatch.setattr(os, 'getuid', lambda: owner + 1)
    assert wheel_cache.objection(cached) == f'{cached.name} belongs to another user'
    with pytest.raises(InstallError, match='cache .* belongs to another user.*DIFFKD_MM_CACHE'):
        list(wheel_cache.wheels(cached.parent))


def test_nobody_else_may_write_into_the_cache(cached):
    for folder in cached.parents[:3]:
        folder.chmod(0o777)
    list(wheel_cache.wheels(cached.parent))
    wheel_cache.keep(cached, cached.parent)
    assert [folder.stat().st_mode & 0o777 for folder in cached.parents[:3]] == [0o755] * 3


@pytest.mark.parametrize(
    'stack, python, refusal',
    [
        ('onedl', (3, 10), 'need Python 3.11 or newer'),
        ('onedl', (3, 12), None),
        ('openmmlab', (3, 10), 'need Python 3.11 or newer'),
        ('openmmlab', (3, 11), None),
        ('openmmlab', (3, 12), 'constraints-openmmlab.txt need Python 3.11: PYTHON=python3.11'),
    ],
)
def test_a_python_without_files_of_the_stack_is_refused(stack, python, refusal):
    if refusal is None:
        install.check_python(install.STACKS[stack], python)
        return
    with pytest.raises(InstallError, match=refusal):
        install.check_python(install.STACKS[stack], python)


@pytest.mark.parametrize('name', ['file', 'file/below'])
def test_an_environment_cannot_be_a_file(tmp_path, name):
    (tmp_path / 'file').touch()
    with pytest.raises(InstallError, match=f'--venv .*{name}: no such folder can be made'):
        install.install(environment.Venv(tmp_path / name))
