"""The rounds of bench/load: runs the generators by turns against the local server and prints the tables.

CPU is user plus system time of the generator process from its start to its end (wait4), divided by the answers it
counted. The load worker is driven as its agent drives it: an assignment and a start on standard input, frames back.
"""

import argparse
import base64
import json
import os
import re
import resource
import signal
import socket
import statistics
import struct
import subprocess
import sys
import time
import uuid
import zlib
from dataclasses import dataclass

RATIO_BOUND = 1.5
MEMORY_BOUND_MB = 100
MANY_USERS = 1000
RATES = (2000, 5000)


@dataclass
class Measured:
    """What one generator did in one round."""

    requests: int
    cpu_us: float
    seconds: float
    percentiles_ms: tuple = ()
    peak_mb: float = 0.0

    @property
    def cpu_per_request(self):
        return self.cpu_us / self.requests

    @property
    def rate(self):
        return self.requests / self.seconds


class Generator:
    """A running generator; it does not outlive its `with` block."""

    def __init__(self, command):
        self.command = command
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self.usage = None

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.usage is None:
            self.process.kill()
            self.process.wait()

    def end(self):
        """Waits for its end; returns its CPU time in microseconds."""
        _, status, self.usage = os.wait4(self.process.pid, 0)
        self.process.returncode = os.waitstatus_to_exitcode(status)
        if self.process.returncode != 0:
            sys.exit(f"{self.command[0]} failed with exit code {self.process.returncode}")
        return (self.usage.ru_utime + self.usage.ru_stime) * 1e6


def read_to_end(command):
    """Runs a generator; returns its output and its CPU time in microseconds."""
    with Generator(command) as generator:
        generator.process.stdin.close()
        output = generator.process.stdout.read().decode()
        return output, generator.end()


def run_wrk(arguments, seconds):
    """wrk at full speed."""
    output, cpu_us = read_to_end(["wrk", "-t1", f"-c{arguments.connections}", f"-d{seconds}s", arguments.url])
    if problem := re.search(r"Socket errors.*|Non-2xx.*", output):
        sys.exit(f"wrk: {problem[0]}")
    count, took = re.search(r"(\d+) requests in ([\d.]+)s", output).groups()
    return Measured(int(count), cpu_us, float(took))


def run_oha(arguments, seconds, rate=None):
    """oha at full speed, or at a rate with its correction for coordinated omission."""
    pace = ["-q", str(rate), "--latency-correction"] if rate else []
    output, cpu_us = read_to_end(
        [arguments.oha, "--no-tui", "--output-format", "json", "--worker-threads", "1"]
        + ["-c", str(arguments.connections), "-z", f"{seconds}s", *pace, arguments.url]
    )
    report = json.loads(output)
    # What is in flight at the deadline is given up by design; it is not counted.
    errors = {kind: n for kind, n in report["errorDistribution"].items() if "deadline" not in kind}
    statuses = report["statusCodeDistribution"]
    if errors or set(statuses) != {"200"}:
        sys.exit(f"oha: statuses {statuses}, errors {errors}")
    percentiles = report["latencyPercentiles"]
    times = (percentiles["p50"] * 1e3, percentiles["p99"] * 1e3)
    return Measured(statuses["200"], cpu_us, report["summary"]["total"], times)


def run_kennel(arguments, seconds, load):
    """The load worker alone, told what to do as its agent tells it."""
    assignment = {
        "run": str(uuid.uuid4()),
        "agent": "bench",
        "base_url": arguments.url,
        "addresses": [f"127.0.0.1:{arguments.port}"],
        "load": load,
        "scenarios": [{"name": "root", "steps": [{"name": "root", "path": "/"}]}],
        "raw_log": None,
    }
    with Generator([arguments.kennel, "worker"]) as generator:
        worker = generator.process

        def tell(message):
            worker.stdin.write(json.dumps(message).encode() + b"\n")
            worker.stdin.flush()

        tell(assignment)
        requests, peak_mb, counts, failures = 0, 0.0, {}, {}
        for line in worker.stdout:
            try:
                report = json.loads(line)
            except ValueError:
                # Goose may print despite being told to be quiet.
                continue
            if report == "ready":
                tell("start")
            elif report == "ended":
                break
            elif "failed" in report:
                sys.exit(f"kennel worker: {report['failed']}")
            else:
                peak_mb = max(peak_mb, peak_resident_mb(worker.pid))
                for measured in report["frame"]["requests"].values():
                    requests += measured["count"]
                    failures.update(measured.get("failures", {}))
                    add_histogram(counts, measured["response_time"])
        worker.stdin.close()
        cpu_us = generator.end()
    if failures or requests == 0:
        sys.exit(f"kennel worker: {requests} requests, failures {failures}")
    percentiles = (percentile_ms(counts, 50), percentile_ms(counts, 99))
    return Measured(requests, cpu_us, seconds, percentiles, peak_mb)


def closed(users, seconds):
    """A load of users without think time."""
    return {"model": "closed", "users": users, "duration": f"{seconds}s"}


def constant(users, rate, seconds):
    """A load of arrivals at a constant rate."""
    stages = [{"rate": f"{rate}/s", "duration": f"{seconds}s"}]
    return {"model": "open", "max_users": users, "stages": stages}


def peak_resident_mb(pid):
    """Most memory the process ever had resident, in MB (10^6 bytes)."""
    try:
        with open(f"/proc/{pid}/status") as status:
            return int(re.search(r"VmHWM:\s+(\d+) kB", status.read())[1]) * 1024 / 1e6
    except (OSError, TypeError):
        # It has just ended; the frames before told.
        return 0.0


def add_histogram(counts, text):
    """Adds an HdrHistogram in V2 encoding, deflated (three significant digits, unit 1 µs), to counts by value."""
    plain = zlib.decompress(base64.b64decode(text)[8:])
    (length,) = struct.unpack_from(">i", plain, 4)
    payload, at, index = plain[40 : 40 + length], 0, 0
    while at < len(payload):
        zigzag, shift = 0, 0
        while True:
            byte = payload[at]
            at += 1
            # The ninth byte of the encoding has eight bits of value.
            zigzag |= (byte if shift == 56 else byte & 0x7F) << shift
            shift += 7
            if byte < 0x80 or shift == 63:
                break
        count = (zigzag >> 1) ^ -(zigzag & 1)
        if count < 0:
            index -= count
            continue
        bucket = max(index // 1024 - 1, 0)
        value = (index - bucket * 1024) << bucket
        counts[value] = counts.get(value, 0) + count
        index += 1


def percentile_ms(counts, percentile):
    """The percentile of counted microseconds, in milliseconds."""
    rank, seen = percentile / 100 * sum(counts.values()), 0
    for value in sorted(counts):
        seen += counts[value]
        if seen >= rank:
            return value / 1e3
    return 0.0


def table(title, columns, rows):
    """Prints rows under columns, the first to the left and the others to the right."""
    cells = [columns] + rows
    widths = [max(len(row[at]) for row in cells) for at in range(len(columns))]
    print(f"\n{title}\n")
    for row in cells:
        print("  " + "  ".join(c.ljust(w) if at == 0 else c.rjust(w) for at, (c, w) in enumerate(zip(row, widths))))
    sys.stdout.flush()


def rounds(arguments, contestants):
    """Runs all contestants by turns; each round begins with another one."""
    results = {name: [] for name in contestants}
    order = list(contestants)
    for number in range(arguments.rounds):
        turn = number % len(order)
        for name in order[turn:] + order[:turn]:
            results[name].append(contestants[name](arguments.seconds))
    return results


def median(results, value):
    return statistics.median(value(measured) for measured in results)


def spread(results):
    """Least and most CPU per request over the rounds."""
    costs = [measured.cpu_per_request for measured in results]
    return f"{min(costs):.1f}–{max(costs):.1f}"


def full_speed(arguments):
    """CPU per request as fast as it goes. Returns whether the worker is within its bound."""
    connections = arguments.connections
    results = rounds(
        arguments,
        {
            "wrk": lambda seconds: run_wrk(arguments, seconds),
            "oha": lambda seconds: run_oha(arguments, seconds),
            "load worker": lambda seconds: run_kennel(arguments, seconds, closed(connections, seconds)),
        },
    )
    cost = {name: median(of, lambda m: m.cpu_per_request) for name, of in results.items()}
    table(
        f"As many requests as possible: {connections} connections, {arguments.rounds} interleaved rounds of"
        f" {arguments.seconds} s, medians",
        ["generator", "CPU µs/request", "least–most", "requests/s"],
        [[n, f"{cost[n]:.1f}", spread(of), f"{median(of, lambda m: m.rate):,.0f}"] for n, of in results.items()],
    )
    ratio = cost["load worker"] / cost["oha"]
    return verdict(f"load worker ÷ oha: {ratio:.2f} (at most {RATIO_BOUND})", ratio <= RATIO_BOUND)


def fixed_rates(arguments):
    """CPU per request at constant rates."""
    rows = []
    for rate in RATES:
        results = rounds(
            arguments,
            {
                "oha": lambda seconds: run_oha(arguments, seconds, rate),
                "load worker": lambda seconds: run_kennel(
                    arguments, seconds, constant(arguments.connections, rate, seconds)
                ),
            },
        )
        for name, of in results.items():
            rows.append(
                [
                    f"{rate:,}/s {name}",
                    f"{median(of, lambda m: m.rate) / rate:.4f}",
                    f"{median(of, lambda m: m.cpu_per_request):.1f}",
                    spread(of),
                    *(f"{median(of, lambda m: m.percentiles_ms[at]):.2f}" for at in (0, 1)),
                ]
            )
    table(
        f"At a constant rate (open model; oha with latency correction): {arguments.rounds} interleaved rounds of"
        f" {arguments.seconds} s, medians",
        ["generator", "achieved ÷ asked", "CPU µs/request", "least–most", "p50 ms", "p99 ms"],
        rows,
    )


def memory(arguments):
    """Peak memory with many users. Returns whether it is within its bound."""
    measured = run_kennel(arguments, arguments.seconds, closed(MANY_USERS, arguments.seconds))
    print(f"\n{MANY_USERS:,} users without think time, {arguments.seconds} s ({measured.rate:,.0f} requests/s)\n")
    return verdict(
        f"peak resident memory of the load worker: {measured.peak_mb:.1f} MB (under {MEMORY_BOUND_MB})",
        measured.peak_mb < MEMORY_BOUND_MB,
    )


def verdict(statement, holds):
    """Prints a bound and whether it holds."""
    print(f"\n  {'PASS' if holds else 'FAIL'}  {statement}", flush=True)
    return holds


def await_server(port):
    """Waits until the server accepts connections."""
    deadline = time.monotonic() + 10
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            return
        except OSError:
            if time.monotonic() > deadline:
                sys.exit("nginx did not come up within 10 s")
            time.sleep(0.02)


def main():
    parser = argparse.ArgumentParser(prog="bench/run load", description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5, help="how often each generator has its turn")
    parser.add_argument("--seconds", type=int, default=5, help="length of a turn")
    parser.add_argument("--connections", type=int, default=50, help="connections (users) of each generator")
    for name, kind in (("--kennel", str), ("--oha", str), ("--port", int)):
        parser.add_argument(name, type=kind, required=True, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    arguments.url = f"http://127.0.0.1:{arguments.port}/"
    # Ended by the script that started this: leave through the `with` blocks, which end the generator.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    # Room for a connection per user, inherited by the generators.
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    await_server(arguments.port)
    fast_enough = full_speed(arguments)
    fixed_rates(arguments)
    small_enough = memory(arguments)
    sys.exit(0 if fast_enough and small_enough else 1)


if __name__ == "__main__":
    main()
