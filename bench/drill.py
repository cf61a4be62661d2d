"""The rounds of bench/drill: clean rounds, each with a population and a load of its own seed, and rounds in which one
random process is killed at a random moment; after each, every invariant must hold and no acknowledged order be lost.

Everything is done by Kennel's commands: `system up`, `run`, `system status`, `system audit`, `system down`.
"""

import argparse
import contextlib
import os
import random
import shutil
import signal
import sys
import threading
import time
from pathlib import Path

from order_system import CommandFailed, OrderSystem, lunch, make_directory, stop_on_signals, table_row

COLUMNS = ["round", "seed", "killed", "at", "back in", "orders", "requests", "failed", "verdict", "took"]
# The fault proxy as `system status` names it, and how long it may take to come back.
PROXY = "proxy"
BACK_WITHIN = 30
WIDTHS = [-5, -11, 15, -6, -7, -7, -8, -6, 8, -6]


class Failed(Exception):
    """Something that must hold does not."""


def arguments():
    parser = argparse.ArgumentParser(description="Clean rounds and rounds with a kill on the reference system.")
    parser.add_argument("--kennel", required=True, help=argparse.SUPPRESS)
    parser.add_argument("--tier", choices=["embedded", "real"], default="embedded")
    parser.add_argument("--seeds", type=int, default=0, metavar="N", help="clean rounds, each on a new system of its own seed")
    parser.add_argument("--kills", type=int, default=0, metavar="N", help="rounds in which one process is killed")
    parser.add_argument("--seed", type=int, help="the seed of the first round; the next ones count up [default: random]")
    parser.add_argument("--only", metavar="INSTANCE", help="kill this instance and no other")
    parser.add_argument("--switch", action="append", default=[], metavar="NAME=VALUE", help="turn a switch first: with a historic flaw, rounds must fail")
    parser.add_argument("--seconds", type=float, help="length of a round's load [default: 4 clean; with a kill 10, on the real tier 20]")
    parser.add_argument("--rate", type=float, default=40, help="orders per second [default: 40]")
    parser.add_argument("--rounds-per-system", type=int, default=10, metavar="N", help="rounds with a kill before a new system is started [default: 10]")
    parser.add_argument("--respawn-after", default="1s", help="how long a killed process stays dead [default: 1s]")
    parser.add_argument("--keep", type=Path, help="where the directories of failed rounds go [default: a new one in the temporary folder]")
    asked = parser.parse_args()
    if asked.seeds + asked.kills == 0:
        asked.seeds, asked.kills = 20, 10
    if asked.seed is None:
        asked.seed = random.SystemRandom().randrange(1 << 30)
    return asked


def broken(report):
    """What does not hold, in a line each."""
    lines = [f"{one['id']} {one['title']}: {one['verdict']}, {one['violations']} of {one['checked']}; {'; '.join(one['examples'][:3])}" for one in report["invariants"] if one["verdict"] != "valid"]
    if report.get("problem"):
        lines.append(report["problem"])
    if report["verdict"] != "valid" and not lines:
        lines.append(f"the audit says {report['verdict']}")
    return lines


def checked(run):
    """How many orders the run's own record promised, and were looked for."""
    found = [one["checked"] for audit in run["audits"] for one in audit["invariants"] if one["id"] == "I1"]
    return found[0] if found else 0


def judge(system, run, faultless):
    """Raises what is wrong after a round."""
    problems = []
    if len(run["audits"]) != 1:
        problems.append(f"the run was not audited: {'; '.join(run['reasons'])}")
    for audit in run["audits"]:
        problems += broken(audit)
    if checked(run) == 0:
        problems.append("no order was acknowledged, so the round proves nothing")
    if faultless and run["verdict"] != "passed":
        problems += run["reasons"]
    for fault in run["faults"]:
        if fault["state"] != "reverted":
            problems.append(f"the fault `{fault['name']}` is {fault['state']}: {fault.get('problem') or ''}")
    if problems:
        raise Failed("\n".join(problems))
    # The run's audit has waited for rest; this one sees what came to rest meanwhile.
    report = system.audit()
    down = [one["instance"] for one in system.status() if not one["ready"]]
    problems = broken(report) + [f"{name} is not ready" for name in down]
    if not report["quiet"]:
        problems.append("the system does not come to rest")
    if problems:
        raise Failed("\n".join(problems))


def kill_of(system, asked, draw, seconds):
    """The process that dies in this round, and when."""
    # With the supervisor all goes.
    instances = sorted(one["instance"] for one in system.status() if one["instance"] != "supervisor")
    victim = draw.choice(instances)
    if asked.only:
        if asked.only not in instances:
            sys.exit(f"there is no instance `{asked.only}`; there are {', '.join(instances)}")
        victim = asked.only
    # Early enough for the load to see it come back.
    return victim, round(draw.uniform(1, max(1.5, seconds / 2)), 3)


class Death:
    """Kills the fault proxy while the `with` block runs. No fault of an experiment does so: faults reach what a target
    declares, and through the proxy they reach its links."""

    def __init__(self, system, moment):
        self.system, self.moment, self.back = system, moment, None
        self.thread = threading.Thread(target=self.kill)
        self.problem = "the fault proxy was not killed"

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.thread.join()

    def proxy(self):
        return next(one for one in self.system.status() if one["instance"] == PROXY)

    def kill(self):
        time.sleep(self.moment)
        try:
            before = self.proxy()["pid"]
            os.kill(before, signal.SIGKILL)
            began = time.monotonic()
            self.problem = f"the fault proxy did not come back within {BACK_WITHIN} s"
            while time.monotonic() < began + BACK_WITHIN:
                now = self.proxy()
                if now["ready"] and now["pid"] not in (None, before):
                    self.back, self.problem = time.monotonic() - began, None
                    return
                time.sleep(0.1)
        except (CommandFailed, StopIteration, OSError, TypeError) as failure:
            self.problem = f"the fault proxy was not killed: {failure}"


def failures(run):
    """Requests, and failed ones, of all phases."""
    rows = [row for row in run["requests"] if row["request"] == "all"]
    whole = [row for row in rows if row.get("phase") is None] or rows
    return sum(row["count"] for row in whole), sum(sum(row["failures"].values()) for row in whole)


def clean_round(asked, seed, directory):
    seconds = asked.seconds or 4
    with OrderSystem(asked.kennel, directory, asked.tier, seed=seed) as system:
        system.turn(asked.switch)
        run = system.experiment(lunch(asked.rate, seconds, warm_up=0, seed=seed), within=seconds + 180)
        judge(system, run, faultless=True)
    return run, None


def kill_round(asked, seed, system):
    seconds = asked.seconds or (20 if asked.tier == "real" else 10)
    victim, moment = kill_of(system, asked, random.Random(seed), seconds)
    if victim == PROXY:
        text = lunch(asked.rate, seconds, warm_up=0, seed=seed, objectives=["error_rate <= 100%"])
        with Death(system, moment) as death:
            run = system.experiment(text, within=seconds + 240)
        if death.problem:
            raise Failed(death.problem)
        judge(system, run, faultless=False)
        return run, (victim, moment, death.back)
    service = victim.rsplit("-", 1)[0]
    fault = f"\nfaults:\n  - {{ name: death, kind: kill, selector: {{ service: {service}, instance: {victim} }}, start: {int(moment * 1000)}ms }}\n"
    # What fails while a process is dead is counted and shown; what must hold is judged afterwards.
    text = lunch(asked.rate, seconds, warm_up=0, seed=seed, faults=fault, objectives=["error_rate <= 100%"])
    run = system.experiment(text, within=seconds + 240)
    judge(system, run, faultless=False)
    return run, (victim, moment, None)


def show(number, seed, run, death, verdict, took):
    requests, failed = failures(run) if run else ("", "")
    victim, moment, back = death or ("–", None, None)
    back = "" if back is None else f"{back:.1f}s"
    if run and run["faults"] and run["faults"][0].get("reverted_at_s") is not None:
        fault = run["faults"][0]
        back = f"{fault['reverted_at_s'] - fault['injected_at_s']:.1f}s"
    at = "" if moment is None else f"{moment:.1f}s"
    cells = [number, seed, victim, at, back, checked(run) if run else "", requests, failed, verdict, f"{took:.0f}s"]
    print(table_row(cells, WIDTHS), flush=True)


class Rounds:
    """Runs rounds one after the other and remembers what failed."""

    def __init__(self, asked):
        self.asked, self.failed, self.count = asked, [], 0
        self.scratch = make_directory("kennel-drill-")

    def directory(self):
        return make_directory("system-", self.scratch)

    def round(self, seed, kind, attempt, directory):
        """One round; `attempt` gives the run and the death, or raises. Whether it went well."""
        began, self.count = time.monotonic(), self.count + 1
        try:
            run, death = attempt()
        except (Failed, CommandFailed) as failure:
            show(self.count, seed, None, None, "INVALID", time.monotonic() - began)
            kept = self.keep(directory, kind, seed)
            again = f"bench/run drill --tier {self.asked.tier} --{kind} 1 --seed {seed} --rate {self.asked.rate:g}"
            again += f" --seconds {self.asked.seconds:g}" if self.asked.seconds else ""
            again += f" --only {self.asked.only}" if self.asked.only else ""
            again += "".join(f" --switch {one}" for one in self.asked.switch)
            print("".join(f"       {line}\n" for line in str(failure).splitlines()), end="")
            print(f"       kept in {kept}\n       again: {again}", flush=True)
            self.failed.append(again)
            return False
        show(self.count, seed, run, death, "valid", time.monotonic() - began)
        return True

    def keep(self, directory, kind, seed):
        """Copies a failed round's directory away: data, logs, experiment."""
        folder = self.asked.keep or make_directory("kennel-drill-kept-")
        self.asked.keep = folder
        kept = folder / f"{kind}-{seed}"
        # Sockets and pid files of a system that still runs come and go.
        shutil.copytree(directory, kept, dirs_exist_ok=True, ignore_dangling_symlinks=True, ignore=shutil.ignore_patterns("*.sock", "*.s.*", "run"))
        return kept

    def clean(self):
        for number in range(self.asked.seeds):
            seed, directory = self.asked.seed + number, self.directory()
            self.round(seed, "seeds", lambda: clean_round(self.asked, seed, directory), directory)
            shutil.rmtree(directory, ignore_errors=True)

    def kills(self):
        left = self.asked.kills
        while left > 0:
            directory, first = self.directory(), self.asked.seed + self.asked.kills - left
            options = ["--respawn-after", self.asked.respawn_after]
            with contextlib.ExitStack() as running:
                system = OrderSystem(self.asked.kennel, directory, self.asked.tier, seed=first, options=options)
                for number in range(min(left, self.asked.rounds_per_system)):
                    seed, left = first + number, left - 1

                    def attempt():
                        if number == 0:
                            running.enter_context(system)
                            system.turn(self.asked.switch)
                        return kill_round(self.asked, seed, system)

                    # What is wrong now would be wrong in the next rounds, too: they get a new system.
                    if not self.round(seed, "kills", attempt, directory):
                        break
            shutil.rmtree(directory, ignore_errors=True)


def main():
    stop_on_signals()
    asked = arguments()
    print(f"{asked.seeds} clean rounds and {asked.kills} with a kill on the {asked.tier} tier, {asked.rate:g} orders/s, from seed {asked.seed}\n")
    print(table_row(COLUMNS, WIDTHS))
    rounds, began = Rounds(asked), time.monotonic()
    try:
        rounds.clean()
        rounds.kills()
    finally:
        shutil.rmtree(rounds.scratch, ignore_errors=True)
    took = time.monotonic() - began
    print(f"\n{rounds.count - len(rounds.failed)} of {rounds.count} rounds valid, {took / 60:.1f} minutes")
    for again in rounds.failed:
        print(f"failed: {again}")
    return 1 if rounds.failed else 0


if __name__ == "__main__":
    sys.exit(main())
