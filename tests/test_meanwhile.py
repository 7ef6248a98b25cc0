"""A value of a second process is that of this one, and a second process that fails or is stopped leaves nothing."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from typing import Any

import pytest

from lottery.meanwhile import Meanwhile

pytestmark = pytest.mark.skipif(
    sys.platform != "linux" or len(os.sched_getaffinity(0)) < 2, reason="processes are forked on Linux with two cores"
)


def told(script: str) -> Any:
    """What a process without torch prints as JSON."""
    begun = "import json, logging, os, signal, time\nfrom lottery.meanwhile import Meanwhile\n"
    done = subprocess.run(
        [sys.executable, "-c", begun + script], capture_output=True, text=True, timeout=60, check=True
    )
    return json.loads(done.stdout) | {"said": done.stderr}


def test_a_value_comes_from_another_process_and_each_warning_is_said_once() -> None:
    found = told("""
def make():
    for words in ("both", "there"):
        logging.getLogger("lottery").warning(words)
    return [os.getpid(), "value"]
other = Meanwhile(make)
logging.getLogger("lottery").warning("both")
made, value = other.value()
print(json.dumps({"made": made, "own": os.getpid(), "value": value}))
""")
    assert found["value"] == "value" and found["made"] != found["own"]
    assert found["said"].split() == ["both", "there"]


@pytest.mark.parametrize("end", ["raise ValueError", "os.kill(os.getpid(), signal.SIGKILL)", "return lambda: 0"])
def test_what_another_process_cannot_give_is_made_here(end: str) -> None:
    found = told(f"""
own = os.getpid()
def make():
    if os.getpid() != own:
        {end}
    return os.getpid()
print(json.dumps({{"made": Meanwhile(make).value(), "own": own}}))
""")
    assert found["made"] == found["own"] and found["said"] == ""


def test_an_error_is_raised_where_the_value_is_asked_for() -> None:
    def fail() -> int:
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        Meanwhile(fail).value()


def test_a_process_that_ends_before_takes_the_other_with_it() -> None:
    script = """
import os, time
from lottery.meanwhile import Meanwhile
def make():
    print(os.getpid(), flush=True)
    time.sleep(60)
Meanwhile(make).value()
"""
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        other = int(process.stdout.readline())
        assert other != process.pid
        process.send_signal(signal.SIGINT)
        process.wait(30)
        until = time.monotonic() + 10
        while alive(other) and time.monotonic() < until:
            time.sleep(0.02)
        assert not alive(other)


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True
