"""Fills a data directory as years of use would, and measures every list page of a server on it. Run by bench/pages."""

import argparse
import gzip
import hashlib
import http.client
import json
import os
import random
import re
import sqlite3
import statistics
import sys
import threading
import time
import uuid
from datetime import datetime, timedelta, timezone
from pathlib import Path
from urllib.parse import quote, urljoin, urlsplit

HERE = Path(__file__).resolve().parent
AREAS = ["checkout", "search", "payments", "stock", "shipping", "accounts", "reviews", "mail", "prices", "returns"]
KINDS = ["smoke", "nightly", "regression", "contract", "resilience"]
MESSAGES = [
    "expected status 200, got 503",
    "connect to 127.0.0.1:{n}: connection refused",
    "AssertionError: expected {n} items, found {m}",
    "timed out after {n} ms waiting for the order to be paid",
]


def rfc3339(moment):
    return moment.strftime("%Y-%m-%dT%H:%M:%S.") + f"{moment.microsecond // 1000:03d}Z"


def uuid7(moment, rng):
    milliseconds = int(moment.timestamp() * 1000)
    number = (milliseconds << 80) | (0x7 << 76) | (rng.getrandbits(12) << 64) | (0b10 << 62) | rng.getrandbits(62)
    return str(uuid.UUID(int=number))


def suite_name(index):
    return f"{AREAS[index % len(AREAS)]}-{KINDS[index // len(AREAS) % len(KINDS)]}-{index:03d}"


def suite_source(name):
    return (
        f"version: 1\nname: {name}\ndescription: What the {name.split('-')[0]} team promises\nlabels: [{name.split('-')[0]}]\n"
        "target: { name: shop, base_url: 'http://127.0.0.1:9', allowed_hosts: ['127.0.0.1'] }\n"
        "steps:\n  - { name: home page answers, check: { url: / } }\n"
        "  - { name: let it settle, wait: 1s }\n  - { name: search answers, check: { url: /search, expect: { status: 200 } } }\n"
    )


def fill(database, runs, suites, tests_per_suite, seed=7):
    """Writes the tables themselves: the same rows that the store writes, thousands a second."""
    rng = random.Random(seed)
    db = sqlite3.connect(database)
    db.execute("PRAGMA synchronous = OFF")
    now = datetime.now(timezone.utc)
    template = db.execute("SELECT * FROM runs WHERE state = 'judged' LIMIT 1")
    columns = [column[0] for column in template.description]
    row = template.fetchone()
    if row is None:
        sys.exit("the data directory needs one finished run of an experiment, as a model for the others")
    model = dict(zip(columns, row))
    judged = db.execute("SELECT detail, series FROM judgements WHERE run = ?", (model["id"],)).fetchone()

    # Experiments: three runs of ten.
    experiments = runs * 3 // 10
    for index in range(experiments):
        moment = now - timedelta(minutes=9 * (experiments - index))
        name = f"{rng.choice(AREAS)} {rng.choice(['frozen', 'slow', 'dead', 'flooded'])}"
        verdict = rng.choices(["passed", "failed", "inconclusive", "halted"], [80, 14, 4, 2])[0]
        reasons = [] if verdict == "passed" else [f"p99 < 400ms was missed: {rng.randint(401, 2000)} ms"]
        identity = uuid7(moment, rng)
        changed = dict(
            model, id=identity, name=name, verdict=verdict, reasons=json.dumps(reasons), created_at=rfc3339(moment),
            started_at=rfc3339(moment + timedelta(seconds=1)), ended_at=rfc3339(moment + timedelta(seconds=130)),
            planned_s=120.0, measured_s=120,
        )
        db.execute(
            f"INSERT INTO runs ({', '.join(columns)}) VALUES ({', '.join('?' * len(columns))})",
            [changed[column] for column in columns],
        )
        # Details are read one at a time: every tenth suffices, and keeps the file small.
        if index % 10 == 0:
            db.execute("INSERT INTO judgements (run, detail, series) VALUES (?, ?, ?)", (identity, *judged))

    tests = {}
    for index in range(suites):
        name = suite_name(index)
        for version in range(1, 4):
            db.execute(
                "INSERT INTO file_versions (kind, name, version, source, author, message, saved_at) VALUES ('suite', ?, ?, ?, 'ann', ?, ?)",
                (name, version, suite_source(name), "Tighten" if version > 1 else "First", rfc3339(now - timedelta(days=40 - version))),
            )
        db.execute("INSERT INTO files (kind, name, version) VALUES ('suite', ?, 3)", (name,))
        tests[name] = []
        for number in range(tests_per_suite):
            cursor = db.execute(
                "INSERT INTO tests (suite, class, name, parameters) VALUES (?, ?, ?, '')",
                (name, f"{name.split('-')[0]}.tests.Group{number % 4}", f"test_{rng.choice(AREAS)}_{number:02d}"),
            )
            tests[name].append(cursor.lastrowid)

    histories = {test: [] for of in tests.values() for test in of}

    # Runs of suites: seven of ten. Each test has its own inclination to fail.
    failing = {test: (0.5 if rng.random() < 0.02 else 0.15 if rng.random() < 0.05 else 0.003) for of in tests.values() for test in of}
    suite_runs = runs - experiments
    for index in range(suite_runs):
        moment = now - timedelta(minutes=4 * (suite_runs - index))
        name = suite_name(rng.randrange(suites) if rng.random() < 0.8 else 0)
        identity = uuid7(moment, rng)
        results = []
        for test in tests[name]:
            outcome = "failed" if rng.random() < failing[test] else "skipped" if rng.random() < 0.01 else "passed"
            message, fingerprint, detail = "", None, ""
            if outcome == "failed":
                pattern = MESSAGES[test % len(MESSAGES)]
                message = pattern.format(n=rng.randint(1000, 9999), m=rng.randint(1, 99))
                fingerprint = hashlib.sha256(pattern.encode()).hexdigest()[:16]
                detail = "Traceback (most recent call last):\n" + "  in tests/test_shop.py\n" * 12 + message
            results.append((identity, test, 1, "steps/0", outcome, rng.uniform(2, 900), message, fingerprint, detail))
        counts = {word: sum(result[4] == word for result in results) for word in ("passed", "failed", "error", "skipped")}
        verdict = "failed" if counts["failed"] else "passed"
        reasons = [f"{counts['failed']} tests failed"] if counts["failed"] else []
        times = [rfc3339(moment + timedelta(seconds=seconds)) for seconds in (0, 1, 95)]
        db.execute(
            "INSERT INTO suite_runs (id, suite, version, source, state, verdict, reasons, origin, started_by, attempt, parameters, labels, "
            "steps_only, priority, created_at, started_at, ended_at, passed, failed, error, skipped, notified) "
            "VALUES (?, ?, 3, ?, 'ended', ?, ?, ?, ?, 1, '{}', '[\"nightly\"]', '[]', 0, ?, ?, ?, ?, ?, ?, ?, 1)",
            (identity, name, suite_source(name), verdict, json.dumps(reasons), rng.choice(["schedule", "schedule", "manual", "import"]),
             rng.choice(["nightly", "ann", "ben"]), *times, counts["passed"], counts["failed"], counts["error"], counts["skipped"]),
        )
        for position, (step, kind) in enumerate([("home page answers", "check"), ("let it settle", "wait"), ("search answers", "check")]):
            outcome = "failed" if counts["failed"] and position == 2 else "passed"
            db.execute(
                "INSERT INTO steps (suite_run, position, path, attempt, name, kind, state, outcome, message, started_at, ended_at) "
                "VALUES (?, ?, ?, 1, ?, ?, 'ended', ?, ?, ?, ?)",
                (identity, position, f"steps/{position}", step, kind, outcome, "expected status 200, got 503" if outcome == "failed" else "", times[1], times[2]),
            )
        db.executemany(
            "INSERT INTO test_results (suite_run, test, attempt, step, outcome, duration_ms, message, fingerprint, detail) "
            "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
            results,
        )
        db.executemany(
            "INSERT INTO test_history (test, suite_run, outcome, on_retry, duration_ms, attempt) VALUES (?, ?, ?, 0, ?, 1)",
            [(result[1], identity, result[4], result[5]) for result in results],
        )
        for result in results:
            histories[result[1]].append((identity, result[4], result[5], result[6], result[7]))
    name_of = {test: name for name, of in tests.items() for test in of}
    db.executemany(
        "INSERT INTO test_standings (test, suite, outcome, last_run, duration_ms, fingerprint, message, failing_since, failing_runs, "
        "last_passed, flaky, score, strip) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        [(test, name_of[test], *standing(history)) for test, history in histories.items() if history],
    )
    for index in range(min(runs, 5000)):
        db.execute(
            "INSERT INTO audit_log (at, who, action, subject, detail) VALUES (?, ?, ?, ?, ?)",
            (rfc3339(now - timedelta(minutes=5 * (5000 - index))), rng.choice(["ann", "ben", "nightly"]), "suite.start", suite_name(rng.randrange(suites)), ""),
        )
    db.commit()
    db.execute("ANALYZE")
    db.close()


def standing(history):
    """A test as its runs left it, from its results in order."""
    streak = []
    for result in reversed(history):
        if result[1] == "passed":
            break
        if result[1] == "failed":
            streak.append(result)
    failures = [result for result in history if result[1] == "failed"]
    passes = [result[0] for result in history if result[1] == "passed"]
    last = history[-30:]
    judged = [result[1] for result in last if result[1] != "skipped"]
    changes = sum(one != other for one, other in zip(judged, judged[1:]))
    score = changes / len(judged) if judged else 0.0
    run, outcome, duration, _, _ = history[-1]
    return (
        outcome, run, duration, failures[-1][4] if failures else None, failures[-1][3] if failures else "",
        streak[-1][0] if streak else None, len(streak), passes[-1] if passes else None, int(changes >= 3), score,
        json.dumps([{"run": result[0], "outcome": result[1], "on_retry": False} for result in last]),
    )


def routes():
    """Every page's address that needs no name of anything, read from the router's source."""
    found = set()
    for file in (HERE.parent / "web" / "src").rglob("*.rs"):
        for route, methods in re.findall(r'\.route\(\s*"(/[^"]*)",\s*((?:[^()]|\([^()]*\))*)\)', file.read_text()):
            if "get(" in methods and "{" not in route and route != "/favicon.ico":
                found.add(route)
    return found


class Client:
    """One connection that stays open, as a browser's."""

    def __init__(self, url, headers):
        self.base, self.headers = url, dict(headers)
        self.connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=30)

    def get(self, path):
        began = time.perf_counter()
        self.connection.request("GET", path, headers={"accept-encoding": "gzip", "accept": "text/html,*/*", **self.headers})
        answer = self.connection.getresponse()
        body = answer.read()
        took = (time.perf_counter() - began) * 1000
        plain = gzip.decompress(body) if answer.headers.get("content-encoding") == "gzip" else body
        return answer, took, len(body), plain


def assets_of(client, address, html):
    """What the first view loads besides the page: style sheets, scripts and the modules that those import."""
    waiting = re.findall(r'<(?:link|script)[^>]*?(?:href|src)="(/static/[^"]+)"', html.decode())
    seen = set()
    while waiting:
        asset = urljoin(address, waiting.pop())
        if asset in seen:
            continue
        seen.add(asset)
        _, _, _, text = client.get(asset)
        if asset.endswith(".js"):
            waiting += [urljoin(asset, name) for name in re.findall(r'(?:from|import)\s*\(?["\'](\.[^"\']+)["\']', text.decode())]
    return seen


def sizes(client, addresses):
    """Bytes on the wire of each page with everything that its first view loads, and those of the page alone."""
    of_asset, found = {}, {}
    for address in addresses:
        answer, _, page, html = client.get(address)
        if answer.status != 200 or "text/html" not in answer.headers.get("content-type", ""):
            continue
        total = page
        for asset in assets_of(client, address, html):
            if asset not in of_asset:
                of_asset[asset] = client.get(asset)[2]
            total += of_asset[asset]
        found[address] = (total, page)
    return found


def percentile(values, share):
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def cpu_seconds(pid):
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def live(url, headers, addresses, pid, seconds):
    """Share of a core that the server spends on a browser that asks anew for each of these pages every second."""
    stop = threading.Event()

    def watch(address):
        client = Client(url, headers)
        while not stop.wait(1):
            client.get(address)

    watchers = [threading.Thread(target=watch, args=(address,)) for address in addresses]
    for watcher in watchers:
        watcher.start()
    time.sleep(1)
    before, began = cpu_seconds(pid), time.monotonic()
    time.sleep(seconds)
    share = (cpu_seconds(pid) - before) / (time.monotonic() - began)
    stop.set()
    for watcher in watchers:
        watcher.join()
    return share


def details(database):
    """Addresses of pages about one thing: the busiest suite, the newest run of a suite."""
    db = sqlite3.connect(f"file:{database}?mode=ro", uri=True)
    suite, run = db.execute("SELECT suite, MAX(id) FROM suite_runs WHERE suite = ?", (suite_name(0),)).fetchone()
    failed = db.execute("SELECT MAX(suite_run), test FROM test_results WHERE outcome = 'failed'").fetchone()
    pages = [f"/suites/{quote(suite)}", f"/suite-runs/{run}", f"/suite-runs/{failed[0]}", f"/tests/{failed[1]}"]
    deep = db.execute("SELECT id FROM runs ORDER BY id LIMIT 1 OFFSET 1000").fetchone()
    return pages + ([f"/?before={deep[0]}"] if deep else [])


def measure(arguments):
    headers = dict(header.split(":", 1) for header in arguments.header)
    client = Client(arguments.url, headers)
    database = Path(arguments.data) / "kennel.db"
    addresses = sorted(routes()) + details(database)
    measured = sizes(client, addresses)
    missed = []
    print(f"| page | p50 ms | p95 ms | page kB | with assets kB |\n|---|--:|--:|--:|--:|")
    for address in addresses:
        if address not in measured:
            answer = client.get(address)[0]
            print(f"| {address} | {answer.status}, not a page | | | |")
            continue
        times = [client.get(address)[1] for _ in range(arguments.rounds)]
        total, page = measured[address]
        p95 = percentile(times, 0.95)
        print(f"| {address} | {statistics.median(times):.1f} | {p95:.1f} | {page / 1000:.1f} | {total / 1000:.1f} |")
        if p95 >= 50:
            missed.append(f"{address}: p95 {p95:.1f} ms, the bound is 50 ms")
        if total >= 150_000:
            missed.append(f"{address}: {total / 1000:.1f} kB, the bound is 150 kB")
    if arguments.pid:
        for address in ["/", *[page for page in details(database)[:2] if page in measured]]:
            share = live(arguments.url, headers, [address], arguments.pid, arguments.live_seconds)
            print(f"\n{address} asked for anew every second: {share * 100:.2f} % of a core")
            if share >= 0.05:
                missed.append(f"{address} each second: {share * 100:.1f} % of a core, the bound is 5 %")
    for line in missed:
        print(f"MISSED {line}", file=sys.stderr)
    return 1 if missed else 0


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    filling = commands.add_parser("fill")
    filling.add_argument("data")
    filling.add_argument("--runs", type=int, default=10_000)
    filling.add_argument("--suites", type=int, default=200)
    filling.add_argument("--tests", type=int, default=20)
    for name in ("measure", "sizes"):
        command = commands.add_parser(name)
        command.add_argument("url")
        command.add_argument("data")
        command.add_argument("--header", action="append", default=[])
        command.add_argument("--rounds", type=int, default=100)
        command.add_argument("--pid", type=int)
        command.add_argument("--live-seconds", type=float, default=20)
    arguments = parser.parse_args()
    if arguments.command == "fill":
        fill(Path(arguments.data) / "kennel.db", arguments.runs, arguments.suites, arguments.tests)
        return 0
    if arguments.command == "sizes":
        client = Client(arguments.url, dict(header.split(":", 1) for header in arguments.header))
        found = sizes(client, sorted(routes()) + details(Path(arguments.data) / "kennel.db"))
        print(json.dumps({address: {"total": total, "page": page} for address, (total, page) in found.items()}))
        return 0
    return measure(arguments)


if __name__ == "__main__":
    sys.exit(main())
