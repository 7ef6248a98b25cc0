"""A value of a second process is that of this one, and a second process that fails or is stopped leaves nothing."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from functools import partial
from typing import Any

import pytest

from lottery.meanwhile import Meanwhile, divided

pytestmark = pytest.mark.skipif(
    sys.platform != "linux" or len(os.sched_getaffinity(0)) < 2, reason="processes are forked on Linux with two cores"
)


def told(script: str) -> Any:
    """What a process without torch prints as JSON."""
    begun = "import json, logging, os, signal, time\nfrom lottery.meanwhile import Ahead, Meanwhile, divided\n"
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


def test_two_processes_divide_tasks_from_both_ends_and_give_them_in_order() -> None:
    found = told("""
def task(number):
    time.sleep(0.02 * (number < 2))
    return number, os.getpid()
made = divided([lambda number=number: task(number) for number in range(12)])
print(json.dumps({"made": made, "own": os.getpid()}))
""")
    assert [number for number, _ in found["made"]] == list(range(12))
    makers = [maker for _, maker in found["made"]]
    own = makers.count(found["own"])
    assert 0 < own < 12 and set(makers[:own]) == {found["own"]} and len(set(makers[own:])) == 1


def test_tasks_that_a_second_process_took_and_did_not_finish_are_done_by_the_first() -> None:
    found = told("""
own = os.getpid()
def task(number):
    if os.getpid() != own and number == 2:
        os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(0.1)
    return number, os.getpid()
made = divided([lambda number=number: task(number) for number in range(4)])
print(json.dumps({"made": made, "own": own}))
""")
    assert found["made"] == [[number, found["own"]] for number in range(4)]


def test_tasks_are_done_in_order_where_no_process_can_be_forked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lottery.meanwhile.can_fork", lambda: False)
    done: list[int] = []

    def task(number: int) -> int:
        done.append(number)
        return 2 * number

    assert divided([partial(task, number) for number in range(5)]) == [0, 2, 4, 6, 8]
    assert done == [0, 1, 2, 3, 4] and divided([]) == []


def test_a_process_that_was_forked_ahead_has_imported_modules_and_computes_one_value() -> None:
    found = told("""
import sys
ahead = Ahead("wave")
first, second = (Meanwhile(function, ahead) for function in (os.getpid, lambda: os.getpid()))
modules = Meanwhile(lambda: "wave" in sys.modules)
print(json.dumps({"made": [first.value(), second.value()], "own": os.getpid(), "modules": modules.value()}))
""")
    assert len({*found["made"], found["own"]}) == 3 and found["modules"] is False
    found = told("""
from functools import partial
ahead = Ahead("wave")
print(json.dumps({"modules": Meanwhile(partial(eval, "'wave' in __import__('sys').modules"), ahead).value()}))
""")
    assert found["modules"] is True


def test_what_a_process_that_was_forked_ahead_cannot_give_is_made_here() -> None:
    found = told("""
ahead = Ahead("no_such_module")
time.sleep(0.2)
print(json.dumps({"made": Meanwhile(os.getpid, ahead).value(), "own": os.getpid()}))
""")
    assert found["made"] == found["own"] and found["said"] == ""


def test_an_error_is_raised_where_the_value_is_asked_for() -> None:
    def fail() -> int:
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        Meanwhile(fail).value()


LEFT = """
import multiprocessing
filters, files = len(logging.getLogger("lottery").filters), len(os.listdir("/proc/self/fd"))
def left():
    children = len(multiprocessing.active_children())
    filtered = len(logging.getLogger("lottery").filters) - filters
    return [children, filtered, len(os.listdir("/proc/self/fd")) - files]
"""


def test_an_error_in_a_task_is_raised_and_leaves_nothing_behind() -> None:
    found = told(f"""{LEFT}
def fail():
    raise ValueError("no")
try:
    divided([lambda: 1, fail, lambda: time.sleep(50), lambda: time.sleep(50)])
except ValueError as error:
    print(json.dumps({{"error": str(error), "left": left()}}))
""")
    assert found["error"] == "no" and found["left"] == [0, 0, 0]


def test_a_second_process_that_is_not_asked_for_its_value_leaves_nothing_behind() -> None:
    found = told(f"""{LEFT}
with Ahead("wave"), Meanwhile(lambda: time.sleep(50)):
    during = left()
with Ahead("wave") as ahead, Meanwhile(os.getpid, ahead) as other:
    other.value()
print(json.dumps({{"during": during[:2], "left": left()}}))
""")
    assert found["during"] == [2, 1] and found["left"] == [0, 0, 0]


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
