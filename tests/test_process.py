"""The server as a child process: it says one line, comes back on its port, and never outlives its parent."""

import json
import os
import signal
import socket
import subprocess
import sys
import time

import pytest

from helios_world.bridge.client import RemoteSession
from helios_world.bridge.process import ServerProcess
from helios_world.errors import ConnectionLost, UserError


def gone(pid, seconds=3.0):
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return True
        if os.path.exists(f"/proc/{pid}/stat"):
            with open(f"/proc/{pid}/stat") as stat:
                if stat.read().rsplit(")", 1)[1].split()[0] == "Z":  # dead, and nobody of ours has to reap it
                    return True
        time.sleep(0.02)
    return False


@pytest.fixture
def start():
    processes = []

    def start(*args, **options):
        processes.append(ServerProcess(args, **options))
        return processes[-1]

    yield start
    for process in processes:
        process.close()


def test_it_serves_and_closing_leaves_no_process(start):
    process = start("--fake")
    address = process.wait_ready(20)
    assert process.alive and process.poll() == address
    session = RemoteSession(address)
    assert session.reset().index == 0
    session.close()
    process.close()
    process.close()
    assert not process.alive and gone(process.pid)


def test_it_restarts_on_the_same_port(start):
    process = start("--fake")
    address, pid = process.wait_ready(20), process.pid
    os.kill(pid, signal.SIGKILL)
    assert gone(pid)
    process.restart()
    assert process.poll() is None
    assert process.wait_ready(20) == address and process.pid != pid
    process.restart()  # of one that runs
    assert process.wait_ready(20) == address


def test_a_stopped_child_is_closed_too(start):
    process = start("--fake")
    process.wait_ready(20)
    os.kill(process.pid, signal.SIGSTOP)
    process.close()
    assert gone(process.pid)


def test_the_child_ends_when_its_parent_is_killed():
    code = (
        "import time; from helios_world.bridge.process import ServerProcess;"
        "p = ServerProcess(['--fake']); p.wait_ready(20); print(p.pid, flush=True); time.sleep(60)"
    )
    parent = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    child = int(parent.stdout.readline())
    assert not gone(child, 0.1)
    parent.kill()
    parent.wait()
    parent.stdout.close()
    assert gone(child)


def test_a_mistake_in_the_options_is_a_user_error(start):
    taken = socket.create_server(("127.0.0.1", 0))
    with taken, pytest.raises(UserError, match="is in use"):
        start("--fake", "--port", str(taken.getsockname()[1])).wait_ready(20)
    with pytest.raises(UserError, match="beyond this machine, without keys"):
        start("--fake", "--host", "0.0.0.0").wait_ready(20)
    process = start("--fake", "--max-sessions", "0")
    with pytest.raises(UserError, match="max_sessions"):
        process.wait_ready(20)
    assert process._process.wait(5) == 2


def test_a_child_that_dies_or_babbles_is_told_apart(start):
    with pytest.raises(ConnectionLost, match="exit code 7"):
        start(program=[sys.executable, "-c", "raise SystemExit(7)"]).wait_ready(20)
    with pytest.raises(ConnectionLost, match="hello"):
        start(program=[sys.executable, "-c", "print('hello')"]).wait_ready(20)
    with pytest.raises(ConnectionLost, match=r"0\.2 s"):
        start(program=[sys.executable, "-c", "import time; time.sleep(9)"]).wait_ready(0.2)


def test_serve_says_exactly_one_line_to_a_program():
    command = [sys.executable, "-m", "helios_world", "serve", "--fake", "--port", "0", "--announce"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as child:
        words = json.loads(child.stdout.readline())
        assert words["address"].startswith("tcp://127.0.0.1:")
        assert child.communicate(timeout=10)[0] == ""
    assert child.returncode == 0


def test_serve_for_people_says_how_to_join_and_ends_with_ctrl_c():
    command = [sys.executable, "-m", "helios_world", "serve", "--fake", "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as child:
        line = child.stdout.readline()
        address = line.split(" at ")[1].split()[0]
        assert f"helios-world play --connect {address}" in line
        child.send_signal(signal.SIGINT)
        _, errors = child.communicate(timeout=10)
    assert (child.returncode, errors) == (130, "stopped\n")


def test_serve_refuses_bad_options_in_one_line():
    for wrong in (["--port", "99999"], ["--threads", "0"], ["--host", "8.8.8.8"]):
        command = [sys.executable, "-m", "helios_world", "serve", "--fake", *wrong]
        done = subprocess.run(command, capture_output=True, text=True, timeout=20)
        assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1), done.stderr
