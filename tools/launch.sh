# Sourced by the launchers: which Python to run, and how to start its processes. These take the launcher's
# place (exec), so that what ends the launcher ends them.

TOOLS=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)

# $PYTHON, else that of the active environment, else that of the .venv made by `make install`.
if [ -z "${PYTHON:-}" ]; then
    PYTHON=python
    if [ -z "${VIRTUAL_ENV:-}${CONDA_PREFIX:-}" ] && [ -x "$TOOLS/../.venv/bin/python" ]; then
        PYTHON=$TOOLS/../.venv/bin/python
    fi
fi

# torchrun_tool GPUS TOOL ARGUMENTS...: one process per GPU, on this node of NNODES.
torchrun_tool() {
    case $1 in
    *[!0-9]* | 0* | '')
        echo "error: GPUS is the number of processes, 1 or more, not '$1'" >&2
        exit 2
        ;;
    esac
    exec "$PYTHON" -m torch.distributed.run \
        --nnodes="${NNODES:-1}" \
        --node-rank="${NODE_RANK:-0}" \
        --nproc-per-node="$1" \
        --master-addr="${MASTER_ADDR:-127.0.0.1}" \
        --master-port="${PORT:-29500}" \
        "$TOOLS/$2" "${@:3}" --launcher pytorch
}

# slurm_tool PARTITION JOB_NAME TOOL ARGUMENTS...: one task per GPU, GPUS in all.
slurm_tool() {
    # shellcheck disable=SC2086  # SRUN_ARGS is a list of options
    exec srun --partition="$1" --job-name="$2" \
        --gres="gpu:${GPUS_PER_NODE:-8}" \
        --ntasks="${GPUS:-8}" --ntasks-per-node="${GPUS_PER_NODE:-8}" \
        --cpus-per-task="${CPUS_PER_TASK:-5}" --kill-on-bad-exit=1 ${SRUN_ARGS:-} \
        "$PYTHON" -u "$TOOLS/$3" "${@:4}" --launcher slurm
}
