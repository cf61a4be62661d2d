"""The measurements of bench/reference-system: how long each tier takes to be ready, what it holds in memory and costs at
rest, how many whole orders per second it stands, and whether its memory stays flat under lunch-40.

Memory is the sum over every process of the system: the supervisor, all that it started, the fault proxy and, on the real
tier, the servers with their own children. PSS counts a shared page once, divided among those that share it; RSS counts it
in each. CPU is user plus system time of the same processes.
"""

import argparse
import os
import resource
import shutil
import statistics
import sys
import threading
import time
from pathlib import Path

from order_system import OrderSystem, lunch, make_directory, stop_on_signals, table_row

READY_BOUND_S = {"embedded": 3, "real": 60}
PSS_BOUND_MIB = {"embedded": 300}
GOAL_ORDERS = 300
# Orders per second: a system that does not hold these holds nothing worth a number.
LEAST_RATE = 2.5
P99_BOUND_MS = 100
# No role may grow faster under an even load, once half of it is over; but for the one whose memory has a bound of its own
# (`kv.maxmem`), and which holds what was cached for five minutes.
FLAT_MIB_PER_MIN = 1.0
BOUNDED_ROLES = {"kv-cache-1"}
TICKS = os.sysconf("SC_CLK_TCK")


def arguments():
    parser = argparse.ArgumentParser(description="Start, memory, cost at rest and orders per second of the reference system.")
    parser.add_argument("--kennel", required=True, help=argparse.SUPPRESS)
    parser.add_argument("--tier", choices=["embedded", "real"], action="append", help="one tier only [default: both]")
    parser.add_argument("--starts", type=int, default=3, help="how often a start is timed [default: 3]")
    parser.add_argument("--rate", type=float, action="append", help="measure these orders per second instead of searching for the most")
    parser.add_argument("--seconds", type=float, default=8, help="length of a run of the search [default: 8]")
    parser.add_argument("--hold", type=float, default=0, metavar="SECONDS", help="hold lunch-40 for so long and watch memory [default: not at all]")
    parser.add_argument("--roles", action="store_true", help="show what each role costs")
    asked = parser.parse_args()
    asked.tier = asked.tier or ["embedded", "real"]
    return asked


class Processes:
    """All processes of a system, by the role that they or their ancestors have."""

    def __init__(self, system):
        named = {pid: name for name, pid in system.processes().items()}
        root = system.state["supervisor_pid"]
        parents = {}
        for entry in os.listdir("/proc"):
            if entry.isdigit() and (fields := stat(int(entry))):
                parents[int(entry)] = int(fields[1])
        self.roles = {}
        for pid in parents:
            ancestors, role = pid, None
            while ancestors in parents and ancestors != root:
                role = role or named.get(ancestors) or ("proxy" if is_proxy(ancestors) else None)
                ancestors = parents[ancestors]
            if ancestors == root:
                self.roles[pid] = role or "supervisor"

    def by_role(self, measure):
        """Sums what `measure` says of each process that still lives."""
        sums = {}
        for pid, role in self.roles.items():
            value = measure(pid)
            if value is not None:
                sums[role] = sums.get(role, 0) + value
        return sums


def stat(pid):
    """The fields of a process's stat after its name: state, parent, …"""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    except (OSError, IndexError):
        return None


def is_proxy(pid):
    """Whether this is the fault proxy, whose command line does not name the system."""
    try:
        return b"proxy" in Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")[1:2]
    except OSError:
        return False


def cpu_s(pid):
    fields = stat(pid)
    return (int(fields[11]) + int(fields[12])) / TICKS if fields else None


def memory_mib(pid, what):
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) / 1024 for line in lines if line.startswith(f"{what}:")), None)


def pss_mib(pid):
    return memory_mib(pid, "Pss")


def rss_mib(pid):
    return memory_mib(pid, "Rss")


def only_orders(rate, seconds):
    """Whole orders and nothing else, at a constant mean rate."""
    return f"""version: 1
name: orders
target: reference-system
load:
  model: open
  arrivals: poisson
  stages: [{{ rate: {rate:.2f}/s, duration: {seconds + 2:g}s }}]
  max_users: {int(rate * 6) + 100}
  warm_up: 2s
  seed: 7
scenarios: [{{ name: lunch, builtin: order-system/lunch }}]
objectives: ['p99 < {P99_BOUND_MS}ms', 'error_rate <= 0%', 'dropped <= 0']
audits: [books]
"""


class Step:
    """One run at one rate, and what it cost."""

    def __init__(self, system, rate, seconds):
        self.rate = rate
        processes = Processes(system)
        before, load_before = processes.by_role(cpu_s), children_cpu_s()
        began = time.monotonic()
        self.run = system.experiment(only_orders(rate, seconds), within=seconds + 240)
        took = time.monotonic() - began
        after = processes.by_role(cpu_s)
        # The commands' own start, and the agent with its web pages, are part of it.
        self.load_cpu = children_cpu_s() - load_before
        self.cpu = {role: after[role] - before.get(role, 0) for role in after}
        self.took = took
        rows = {row["request"]: row for row in self.run["requests"] if row.get("phase") == "steady"}
        self.all, self.rows = rows["all"], rows
        # As many as the load's own record promised, warm-up included.
        self.orders = next((one["checked"] for audit in self.run["audits"] for one in audit["invariants"] if one["id"] == "I1"), 0)

    @property
    def holds(self):
        return self.run["verdict"] == "passed"

    def row(self):
        per_order = 1000 / max(1, self.orders)
        return [
            f"{self.rate:.0f}/s",
            self.orders,
            f"{self.all['count'] / max(1, self.rows['create order']['count']):.1f}",
            f"{self.all['response']['p50']:.1f}",
            f"{self.all['response']['p99']:.1f}",
            sum(self.all["failures"].values()),
            f"{sum(self.cpu.values()) * per_order:.2f}",
            f"{self.load_cpu * per_order:.2f}",
            "holds" if self.holds else "; ".join(self.run["reasons"])[:90],
        ]


STEP_COLUMNS = ["rate", "orders", "calls/order", "p50 ms", "p99 ms", "failed", "system CPU ms/order", "load CPU ms/order", ""]
STEP_WIDTHS = [-7, -7, -11, -7, -8, -6, -19, -17, 1]


def children_cpu_s():
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def search(system, asked):
    """The most orders per second, by doubling or halving until there is one that holds and one that does not, and then halving
    the distance; and each step on the way."""
    best, failing, rate = None, None, 40.0
    print(table_row(STEP_COLUMNS, STEP_WIDTHS))
    for rate_given in asked.rate or []:
        best = measure(system, asked, rate_given)
    if asked.rate:
        return best
    while best is None or failing is None or failing - best.rate > max(2.5, 0.08 * best.rate):
        step = measure(system, asked, rate)
        if not step.holds and best is not None:
            # Once more: a single hiccup of the machine is no limit.
            step = measure(system, asked, rate)
        if step.holds:
            best = step
        elif best is None and rate <= LEAST_RATE:
            return None
        else:
            failing = rate
        if best is None:
            rate /= 2
        else:
            rate = (best.rate + failing) / 2 if failing else rate * 2
    return best


def measure(system, asked, rate):
    step = Step(system, rate, asked.seconds)
    print(table_row(step.row(), STEP_WIDTHS), flush=True)
    return step


def at_rest(system, seconds=5):
    """Share of a core that the system takes while nobody asks anything of it, and its memory."""
    # What its start has left to do is done.
    time.sleep(3)
    processes = Processes(system)
    before, began = processes.by_role(cpu_s), time.monotonic()
    time.sleep(seconds)
    took = time.monotonic() - began
    after = processes.by_role(cpu_s)
    busy = {role: (after[role] - before.get(role, 0)) / took for role in after}
    return busy, processes.by_role(pss_mib), processes.by_role(rss_mib), len(processes.roles)


def slope(points):
    """Least squares: how fast the second value rises per unit of the first."""
    if len(points) < 3:
        return 0.0
    return statistics.linear_regression(*zip(*points)).slope


def hold(system, seconds):
    """lunch-40 for so long; gives the run, and each role's PSS over time."""
    over, samples = threading.Event(), {}

    def watch(began):
        while not over.wait(5):
            now = (time.monotonic() - began) / 60
            for role, mib in Processes(system).by_role(pss_mib).items():
                samples.setdefault(role, []).append((now, mib))

    watcher = threading.Thread(target=watch, args=(time.monotonic(),))
    watcher.start()
    try:
        run = system.experiment(lunch(seconds=seconds), within=seconds + 300)
    finally:
        over.set()
        watcher.join()
    return run, samples


def tell_hold(run, samples, seconds):
    """Prints the table of memory over time; gives what is wrong."""
    print(table_row(["role", "PSS MiB", "slope KiB/min", "at the end"], [14, -9, -14, -12]))
    # The first half fills caches; what comes after the load is the audit's.
    halves = {role: [point for point in points if seconds / 120 <= point[0] <= seconds / 60] for role, points in samples.items()}
    for role, points in sorted(halves.items()):
        print(table_row([role, f"{points[-1][1]:.1f}", f"{slope(points) * 1024:+.0f}", f"{samples[role][-1][1]:.1f}"], [14, -9, -14, -12]))
    moments, last = {}, sum(points[-1][1] for points in samples.values())
    for points in halves.values():
        for moment, mib in points:
            moments[moment] = moments.get(moment, 0) + mib
    rise = slope(list(moments.items()))
    print(table_row(["altogether", f"{list(moments.values())[-1]:.1f}", f"{rise * 1024:+.0f}", f"{last:.1f}"], [14, -9, -14, -12]))
    judged = {role: slope(points) for role, points in halves.items() if role not in BOUNDED_ROLES}
    growing = [f"{role} grows by {rise:.1f} MiB per minute, the bound is {FLAT_MIB_PER_MIN}" for role, rise in sorted(judged.items()) if rise > FLAT_MIB_PER_MIN]
    everything = next(row for row in run["requests"] if row["request"] == "all" and row.get("phase") == "steady")
    failed = sum(everything["failures"].values())
    audits = ", ".join(f"{audit['name']} {audit['verdict']}" for audit in run["audits"])
    print(f"\n{everything['count']} requests, {failed} failed, p99 {everything['response']['p99']:.1f} ms; audit {audits}; verdict {run['verdict']}")
    return growing + ([] if run["verdict"] == "passed" else run["reasons"])


def measure_tier(tier, asked):
    """Everything of one tier; gives the most orders per second and the bounds that were missed."""
    missed, starts, most = [], [], None
    for number in range(max(1, asked.starts)):
        directory, began = make_directory("kennel-bench-"), time.monotonic()
        try:
            with OrderSystem(asked.kennel, directory, tier) as system:
                starts.append(time.monotonic() - began)
                if number + 1 < asked.starts:
                    continue
                busy, pss, rss, count = at_rest(system)
                ready = statistics.median(starts)
                print(f"\n## {tier} tier\n")
                print(f"ready in {ready:.2f} s (median of {len(starts)}; {', '.join(f'{one:.2f}' for one in starts)})")
                print(f"{count} processes: {sum(pss.values()):.0f} MiB PSS, {sum(rss.values()):.0f} MiB RSS; at rest {sum(busy.values()) * 100:.1f} % of a core\n", flush=True)
                if asked.roles:
                    tell_roles(busy, pss)
                if ready > READY_BOUND_S[tier]:
                    missed.append(f"{tier}: ready in {ready:.1f} s, the bound is {READY_BOUND_S[tier]} s")
                if sum(pss.values()) > PSS_BOUND_MIB.get(tier, float("inf")):
                    missed.append(f"{tier}: {sum(pss.values()):.0f} MiB, the bound is {PSS_BOUND_MIB[tier]} MiB")
                if asked.hold:
                    missed += [f"{tier}: {reason}" for reason in tell_hold(*hold(system, asked.hold), asked.hold)]
                else:
                    most = search(system, asked)
                    if most and asked.roles:
                        print()
                        tell_cost(most)
        finally:
            shutil.rmtree(directory, ignore_errors=True)
    return most, missed


def tell_roles(busy, pss):
    print(table_row(["role", "PSS MiB", "% of a core"], [14, -9, -12]))
    for role in sorted(pss, key=pss.get, reverse=True):
        print(table_row([role, f"{pss[role]:.1f}", f"{busy.get(role, 0) * 100:.1f}"], [14, -9, -12]))
    print()


def tell_cost(step):
    print(table_row(["role", "CPU ms/order"], [14, -12]))
    for role, seconds in sorted(step.cpu.items(), key=lambda pair: -pair[1]):
        print(table_row([role, f"{seconds * 1000 / max(1, step.orders):.3f}"], [14, -12]))


def main():
    stop_on_signals()
    asked = arguments()
    print(f"{os.cpu_count()} cores, load average {os.getloadavg()[0]:.1f} before the start")
    missed, most = [], {}
    for tier in asked.tier:
        found, of_tier = measure_tier(tier, asked)
        missed += of_tier
        if found and found.holds:
            most[tier] = found.rate
    if not asked.rate and not asked.hold:
        print()
        for tier in asked.tier:
            print(f"{tier}: {most.get(tier, 0):.0f} whole orders per second at p99 < {P99_BOUND_MS} ms")
        goals = {"embedded": GOAL_ORDERS, "real": GOAL_ORDERS / 2}
        missed += [f"{tier}: {most.get(tier, 0):.0f} orders/s, the goal is {goals[tier]:.0f}" for tier in asked.tier if most.get(tier, 0) < goals[tier]]
    for line in missed:
        print(f"MISSED {line}", file=sys.stderr)
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
