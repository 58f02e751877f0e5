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

# torchrun_tool GPUS TOOL ARGUMENTS...: one process per GPU, on this node of NNODES. With MAX_RESTARTS=n, all
# are started anew, n times, when one of them fails: give train.py --resume. See docs/clusters.md.
torchrun_tool() {
    case $1 in
    *[!0-9]* | 0* | '')
        echo "error: GPUS is the number of processes, 1 or more, not '$1'" >&2
        exit 2
        ;;
    esac
    local rank=${NODE_RANK:-0} address=${MASTER_ADDR:-127.0.0.1} port=${PORT:-29500} meeting host=false
    if [ "${MAX_RESTARTS:-0}" = 0 ]; then
        meeting=(--node-rank="$rank" --master-addr="$address" --master-port="$port")
    else
        # Nodes of fixed ranks never learn that another one starts anew.
        [ "$rank" != 0 ] || host=true
        meeting=(--max-restarts="$MAX_RESTARTS" --rdzv-backend=c10d --rdzv-id=diffkd_mm
            --rdzv-endpoint="$address:$port"
            --rdzv-conf="is_host=$host,join_timeout=${JOIN_TIMEOUT:-600}")
        # The agents' own store is shared by attempts, which each agent counts for itself.
        export TORCH_DISABLE_SHARE_RDZV_TCP_STORE=1
        # Where the others find this node; its name unless it is given.
        [ -z "${LOCAL_ADDR:-}" ] || meeting+=(--local-addr="$LOCAL_ADDR")
    fi
    exec "$PYTHON" -m torch.distributed.run --nnodes="${NNODES:-1}" --nproc-per-node="$1" "${meeting[@]}" \
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
