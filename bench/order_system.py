"""A reference order system as benchmarks and drills see it: started, loaded, looked at and stopped by Kennel's own
commands, and never left behind."""

import json
import os
import re
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

LUNCH = Path(__file__).parent / "../scenarios/library/experiments/lunch-40.yaml"


def stop_on_signals():
    """Lets `with` blocks end as they should when the program is told to stop."""

    def stop(number, _):
        sys.exit(128 + number)

    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, stop)


class CommandFailed(Exception):
    """A command of Kennel ended in a way that nobody asked for."""


class OrderSystem:
    """The system of one directory, which is also Kennel's data directory; down when its `with` block ends."""

    def __init__(self, kennel, directory, tier="embedded", seed=None, options=()):
        self.kennel, self.directory, self.tier = str(kennel), Path(directory), tier
        self.up = ["--tier", tier, *(["--seed", str(seed)] if seed is not None else []), *options]
        self.state = None

    def __enter__(self):
        try:
            self.state = self.read(["system", "up", "--json", *self.up], within=180)
        except BaseException:
            # A start that was cut short may have left processes.
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        self.run(["system", "down"], within=60)

    def run(self, arguments, within):
        """Runs a command to its end; gives its exit code and both of its outputs."""
        environment = {**os.environ, "KENNEL_DATA": str(self.directory)}
        command = [self.kennel, *arguments]
        child = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment)
        try:
            out, err = child.communicate(timeout=within)
        except BaseException:
            # SIGTERM, so that it takes along what it has started.
            child.terminate()
            child.wait()
            raise
        return child.returncode, out.decode(), err.decode()

    def read(self, arguments, within, codes=(0,)):
        """Runs a command that prints JSON."""
        code, out, err = self.run(arguments, within)
        if code not in codes or not out.strip():
            raise CommandFailed(f"kennel {' '.join(arguments)} ended with {code}:\n{err}{out}")
        return json.loads(out)

    def turn(self, switches):
        """Sets switches, each given as NAME=VALUE."""
        for name, _, value in (one.partition("=") for one in switches):
            self.read(["system", "switch", name, value, "--json"], within=30)

    def status(self):
        # 1: something is not ready, which the rows tell.
        return self.read(["system", "status", "--json"], within=30, codes=(0, 1))["instances"]

    def audit(self, wait="60s"):
        return self.read(["system", "audit", "--json", "--wait", wait], within=180, codes=(0, 1, 3))

    def experiment(self, text, within):
        """Runs an experiment, whatever its verdict; gives the finished run."""
        file = self.directory / "experiment.yaml"
        file.write_text(text)
        # Passed, failed, inconclusive, halted, could not be carried out: all of them have a run to show.
        return self.read(["run", str(file), "--json"], within, codes=(0, 1, 3, 4, 5))

    def processes(self):
        """Every process of the system by its name: roles, servers with what they started, fault proxy and supervisor."""
        found = {}
        for name in os.listdir("/proc"):
            try:
                command = Path(f"/proc/{name}/cmdline").read_bytes().split(b"\0") if name.isdigit() else []
            except OSError:
                continue
            words = [word.decode(errors="replace") for word in command]
            if str(self.directory) in " ".join(words) and "--dir" in words and "--instance" in words:
                found[words[words.index("--instance") + 1]] = int(name)
        return found


def make_directory(prefix, inside=None):
    """A new directory for a system; the accounts of its servers must get through to their own folders."""
    path = Path(tempfile.mkdtemp(prefix=prefix, dir=inside))
    path.chmod(0o755)
    return path


def lunch(rate=None, seconds=None, warm_up=None, seed=None, users=None, faults="", objectives=None):
    """The experiment lunch-40 of the library, with another rate of orders, length or seed, and with faults."""
    text = LUNCH.read_text()

    def put(pattern, value):
        nonlocal text
        text, count = re.subn(pattern, lambda found: found[1] + value, text, count=1, flags=re.MULTILINE)
        if count == 0:
            sys.exit(f"{LUNCH.name} has nothing that looks like {pattern}")

    if rate is not None:
        # Of 111 arrivals, 20 are orders.
        put(r"(rate: )[\d.]+(?=/s)", f"{rate * 111 / 20:.2f}")
    for pattern, value in [(r"(duration: )\S+(?= \})", seconds), (r"(^  warm_up: )\S+", warm_up)]:
        if value is not None:
            put(pattern, f"{value}s")
    for pattern, value in [(r"(^  seed: )\d+", seed), (r"(^  max_users: )\d+", users)]:
        if value is not None:
            put(pattern, str(value))
    if objectives is not None:
        # What is expected to fail must not be halted.
        put(r"(^guards:\n)(?:  - .*\n)+", "  - error_rate <= 100% over 60s\n")
        put(r"(^objectives:\n)(?:  - .*\n)+", "".join(f"  - {one}\n" for one in objectives))
    return text + faults


def table_row(cells, widths):
    """One line of a table: the first columns to the left, those of negative width to the right."""
    fitted = [str(cell).rjust(-width) if width < 0 else str(cell).ljust(width) for cell, width in zip(cells, widths)]
    return "  ".join(fitted).rstrip()
