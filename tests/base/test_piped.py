"""A process that answers over its pipes: ended whatever it does."""

import subprocess
import sys

from scratchlm.base.piped import end, pipes

ECHO = "import sys; sys.stdout.buffer.write(sys.stdin.buffer.readline()); sys.stdout.flush()"


def started(program: str) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-c", program]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)


def test_it_reads_and_writes():
    process = started(ECHO)
    requests, answers = pipes(process)
    requests.write("你好\n".encode())
    requests.flush()
    assert answers.readline().decode() == "你好\n"
    end(process)


def test_one_that_waits_for_ever_ends_with_what_it_has_not_read():
    process = started("import time; time.sleep(600)")
    requests, answers = pipes(process)
    requests.write(b"x" * 100)  # kept here, and lost
    end(process)
    assert process.returncode
    assert requests.closed
    assert answers.closed
