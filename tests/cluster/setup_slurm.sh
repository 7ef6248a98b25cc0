#!/bin/bash
# A Slurm of one node on this machine, without systemd, for `pytest -m cluster`: Debian's packages, as root, in a
# container too. It starts munged, slurmctld and slurmd; run it again after a reboot. `setup_slurm.sh stop` ends them.
#
#     sudo tests/cluster/setup_slurm.sh [slots]       # slots: CPUs that Slurm believes the node has, 8 if not given
set -euo pipefail

if [ "${1:-}" = stop ]; then
    for daemon in slurmctld slurmd munged; do
        if [ -s "/run/$daemon.pid" ]; then kill "$(cat "/run/$daemon.pid")" || true; fi
    done
    exit
fi

slots=${1:-8}
host=$(hostname -s)
state=/var/spool/slurm-test
export DEBIAN_FRONTEND=noninteractive
command -v slurmctld munged > /dev/null || { apt-get update -qq && apt-get install -qq -y --no-install-recommends slurm-wlm munge; }

# munged refuses folders that others can write to
install -d -m 0711 -o munge -g munge /run/munge /var/lib/munge
install -d -m 0700 -o munge -g munge /etc/munge /var/log/munge
if [ ! -s /etc/munge/munge.key ]; then
    dd if=/dev/urandom of=/etc/munge/munge.key bs=1024 count=1 status=none
    chown munge:munge /etc/munge/munge.key
    chmod 0400 /etc/munge/munge.key
fi

mkdir -p /etc/slurm "$state/ctld" "$state/d"
# two devices stand for GPUs: Slurm hands them out and sets CUDA_VISIBLE_DEVICES as for real ones
cat > /etc/slurm/gres.conf << END
NodeName=$host Name=gpu File=/dev/null
NodeName=$host Name=gpu File=/dev/zero
END
cat > /etc/slurm/slurm.conf << END
ClusterName=test
SlurmctldHost=$host
SlurmUser=root
AuthType=auth/munge
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
GresTypes=gpu
ReturnToService=2
SlurmdParameters=config_overrides
StateSaveLocation=$state/ctld
SlurmdSpoolDir=$state/d
SlurmctldPidFile=/run/slurmctld.pid
SlurmdPidFile=/run/slurmd.pid
SlurmctldLogFile=$state/slurmctld.log
SlurmdLogFile=$state/slurmd.log
SchedulerParameters=sched_interval=2,sched_min_interval=100000
MinJobAge=60
KillWait=20
JobRequeue=1
NodeName=$host CPUs=$slots RealMemory=64000 Gres=gpu:2 State=UNKNOWN
PartitionName=debug Nodes=ALL Default=YES MaxTime=INFINITE State=UP
PartitionName=gpu Nodes=ALL MaxTime=INFINITE State=UP
END

running() { [ -s "/run/$1.pid" ] && kill -0 "$(cat "/run/$1.pid")" 2> /dev/null; }
if [ ! -S /run/munge/munge.socket.2 ] || ! munge -n > /dev/null 2>&1; then
    setpriv --reuid munge --regid munge --clear-groups munged --force --pid-file /run/munge/munged.pid
    ln -sf /run/munge/munged.pid /run/munged.pid
fi
running slurmctld || slurmctld
running slurmd || slurmd

for _ in $(seq 60); do
    if sinfo --noheader --format=%t 2> /dev/null | grep -qE 'idle|mix|alloc'; then
        sinfo
        exit
    fi
    scontrol update NodeName="$host" State=RESUME 2> /dev/null || true
    sleep 0.5
done
echo "the node does not come up; see $state/slurmctld.log and $state/slurmd.log" >&2
exit 1
