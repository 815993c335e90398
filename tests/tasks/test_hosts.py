"""Two hosts, which are network namespaces of this one: a training over the network between them."""

from __future__ import annotations

import functools
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from tasks.trained import SCHEDULE, Sums, figures

from gatewise.tasks.training import train

HOSTS = r"""
set -e
unshare -n sleep 300 & other=$!
trap 'kill $other' EXIT
until [ "$(readlink /proc/$other/ns/net)" != "$(readlink /proc/$$/ns/net)" ]; do sleep 0.05; done
there() { nsenter -t $other -n "$@"; }
ip link add name one type veth peer name two
ip link set two netns $other
ip link set lo up; ip addr add 10.77.0.1/24 dev one; ip link set one up
there ip link set lo up; there ip addr add 10.77.0.2/24 dev two; there ip link set two up
"""
"""Makes two hosts of a network of their own; ``there`` runs a command on the second."""
TRAIN = r"""
export MASTER_ADDR=10.77.0.1 MASTER_PORT=29533 OMP_NUM_THREADS=1
NODE_RANK=1 there "$@" 2> "$OUT/1.err" & second=$!
NODE_RANK=0 "$@" 2> "$OUT/0.err" || first=$?
wait $second || last=$?
echo ${first:-0} ${last:-0}
"""
LAUNCH = r"""
export OMP_NUM_THREADS=1
launch="$1 -m torch.distributed.run --nnodes 2 --nproc-per-node 1 --master-addr 10.77.0.1 --master-port 29534"
shift
there $launch --node-rank 1 "$@" 2> "$OUT/1.err" & second=$!
$launch --node-rank 0 "$@" 2> "$OUT/0.err" || first=$?
wait $second || last=$?
echo ${first:-0} ${last:-0}
"""
SCRIPT = Path(__file__).with_name("trained.py")


@functools.cache
def allowed() -> bool:
    try:
        done = subprocess.run(["unshare", "-rn", "bash", "-c", HOSTS], capture_output=True, timeout=30)
    except (OSError, subprocess.TimeoutExpired):
        return False
    return done.returncode == 0


@pytest.fixture(autouse=True)
def hosts() -> None:
    if sys.platform != "linux" or not allowed():
        pytest.skip("network namespaces are not allowed here")


def on_both(how: str, out: Path, **asked: Any) -> tuple[list[int], list[str], list[dict[str, Any]]]:
    """Run the training on both hosts: exit codes, standard errors, what was found."""
    asked["out"] = str(out)
    command = [sys.executable, str(SCRIPT), json.dumps(asked)]
    done = subprocess.run(
        ["unshare", "-rn", "env", f"OUT={out}", "bash", "-c", HOSTS + how, "bash", *command],
        capture_output=True,
        text=True,
        timeout=200,
    )
    codes = [int(code) for code in done.stdout.split()]
    errors = [(out / f"{host}.err").read_text() for host in range(2)]
    return codes, errors, [json.loads(p.read_text()) for p in sorted(out.glob("*.json"))]


def check(codes: list[int], errors: list[str], found: list[dict[str, Any]]) -> None:
    assert codes == [0, 0], errors
    alone = figures(train(Sums(), SCHEDULE, 1))
    assert [one["first"] for one in found] == [True, False]
    assert found[0]["figures"] == found[1]["figures"]
    assert found[0]["weights"] == found[1]["weights"]
    for line, expected in zip(found[0]["figures"], alone, strict=True):
        assert line == pytest.approx(expected, rel=1e-4)


def test_two_hosts_train_together_and_the_first_writes(tmp_path: Path) -> None:
    run = tmp_path / "run"
    run.mkdir()
    check(*on_both(TRAIN, tmp_path, num_nodes=2, folder=str(run)))
    assert {path.name for path in run.iterdir()} == {"model.safetensors", "checkpoint.safetensors", "metrics.csv"}


@pytest.mark.slow
def test_a_host_that_loses_its_process_ends_the_other_with_a_sentence(tmp_path: Path) -> None:
    codes, errors, _ = on_both(TRAIN, tmp_path, num_nodes=2, end=[1, 8])
    assert codes == [2, 2]
    assert errors[0].splitlines()[-1].startswith("refused: another process of this training ended, or its host")
    assert errors[1].splitlines()[-1] == "refused: process 1 of 1 of the training was ended by SIGKILL"
    assert "Traceback" not in "".join(errors)


@pytest.mark.slow
def test_two_hosts_by_torchrun(tmp_path: Path) -> None:
    check(*on_both(LAUNCH, tmp_path))
