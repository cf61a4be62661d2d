"""Makes some orders on a reference system, multiplies their rows, and measures how long audits take. Run by bench/audit."""

import argparse
import concurrent.futures
import http.client
import json
import os
import re
import resource
import shlex
import sqlite3
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from urllib.parse import urlsplit

OPENING_WALLET_FEN = 1_000_000
# Sequence numbers of copies are this far apart; the slots in the low bits of an ID stay.
STRIDE = 1 << 34


def system(*arguments):
    return [*shlex.split(os.environ["SYSTEM"]), *arguments]


def up(directory):
    told = subprocess.run(system("up", "--json", "--dir", directory), check=True, stdout=subprocess.PIPE, text=True)
    return json.loads(told.stdout)


def down(directory):
    subprocess.run(system("down", "--dir", directory), check=True, capture_output=True)


class Client:
    def __init__(self, gateway):
        self.connection = http.client.HTTPConnection(urlsplit(gateway).netloc, timeout=30)

    def ask(self, method, path, body, key):
        text = None if body is None else json.dumps(body)
        deadline = time.monotonic() + 60
        while True:
            self.connection.request(method, path, text, {"x-req-id": key, "content-type": "application/json"})
            answer = self.connection.getresponse()
            told = json.loads(answer.read())
            if answer.status == 200:
                return told
            # A busy machine is late; a request with the same key may come again. A step that was taken cannot be again.
            if key != "read" and answer.status == 409 and told.get("code") == "wrong_status":
                return told
            again = answer.status >= 500 or told.get("code") == "locked"
            if not again or time.monotonic() > deadline:
                raise RuntimeError(f"{method} {path}: {answer.status} {told}")
            time.sleep(0.2)


def journey(gateway, n):
    client, user, restaurant = Client(gateway), n % 4_000 + 1, n % 1_500 + 1
    post = lambda path, body=None: client.ask("POST", path, body, f"bench-{n}")
    items = [{"dish_id": restaurant * 100 + 3, "quantity": 2}]
    quote = post("/quote", {"user_id": user, "restaurant_id": restaurant, "coupon_id": None, "items": items})
    wish = {"user_id": user, "restaurant_id": restaurant, "address": "5 Bench Road", "quote_token": quote["quote_token"]}
    order = post("/orders", wish)["order_id"]
    post(f"/orders/{order}/pay")
    deadline = time.monotonic() + 60
    while client.ask("GET", f"/orders/{order}", None, "read")["status"] != 0:
        if time.monotonic() > deadline:
            raise RuntimeError(f"order {order} is not paid after a minute")
        time.sleep(0.02)
    if n % 10 == 0:
        return post(f"/orders/{order}/cancel")
    post(f"/restaurants/{restaurant}/orders/{order}/accept")
    post(f"/orders/{order}/delivered")
    return post(f"/orders/{order}/confirm")


def multiply(data, times):
    # An order with a refund of its own number, as the one that a start tests itself with, is not like another.
    with sqlite3.connect(data / "rev.db") as refunds:
        refunded = {order for (order,) in refunds.execute("SELECT order_id FROM requests")}
    refunds.close()
    for path in sorted(data.glob("*.db")):
        store = sqlite3.connect(path)
        tables = [name for (name,) in store.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        for table in tables:
            columns = [row[1] for row in store.execute(f"PRAGMA table_info({table})")]
            (made,) = store.execute("SELECT sql FROM sqlite_master WHERE name = ?", (table,)).fetchone()
            # Those that number themselves are given anew.
            kept = [c for c in columns if not re.search(rf"\b{c} INTEGER PRIMARY KEY", made)]
            if table == "tasks" or not {"order_id", "event_id", "message_id"} & set(columns):
                continue
            rows = store.execute(f"SELECT {', '.join(kept)} FROM {table}").fetchall()
            places = ", ".join("?" * len(kept))
            insert = f"INSERT INTO {table} ({', '.join(kept)}) VALUES ({places})"
            for k in range(1, times):
                store.executemany(insert, filter(None, (copy(dict(zip(kept, row)), k, refunded) for row in rows)))
        # What follows from the rows.
        if "wallets" in tables:
            store.execute(
                "UPDATE wallets SET balance_fen = ? + coalesce((SELECT sum(amount_fen) FROM ledger WHERE account = 'user:' || user_id), 0)",
                (OPENING_WALLET_FEN,),
            )
        if "stock" in tables:
            taken = "SELECT sum(quantity) FROM reservations WHERE reservations.dish_id = stock.dish_id AND state IN (0, 1)"
            store.execute(f"UPDATE stock SET opening = remaining + coalesce(({taken}), 0)")
        store.commit()
        store.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        store.close()


def copy(row, k, left_out):
    old = row.get("order_id")
    if old is None:
        found = re.match(r"(\d{10,})\.", row.get("event_id") or row.get("message_id") or "")
        old = int(found[1]) if found else None
    if not old or old in left_out:
        return None
    new = old + k * STRIDE
    for column, value in row.items():
        if column == "order_id":
            row[column] = new
        elif column == "req_id":
            row[column] = f"{value}x{k}"
        elif column == "number" and value is not None:
            row[column] = value + 1_000 * k
        elif isinstance(value, str):
            row[column] = value.replace(str(old), str(new))
    return list(row.values())


def audit(directory):
    before = time.monotonic()
    process = subprocess.Popen(system("audit", "--json", "--wait", "60s", "--dir", directory), stdout=subprocess.PIPE)
    report = json.loads(process.stdout.read())
    _, _, used = os.wait4(process.pid, 0)
    if report["verdict"] != "valid":
        wrong = [one for one in report["invariants"] if one["verdict"] != "valid"]
        sys.exit(f"the audit is {report['verdict']}: {json.dumps(wrong, indent=1)[:4000]}")
    return report["orders"], time.monotonic() - before, used.ru_maxrss / 1024


def peak_of(pid):
    status = Path(f"/proc/{pid}/status").read_text()
    return int(re.search(r"VmHWM:\s+(\d+) kB", status)[1]) / 1024


def tell(where, orders, seconds, megabytes):
    print(f"| {where} | {orders:,} | {seconds:.2f} | {megabytes:.0f} |", flush=True)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--orders", type=int, default=20_000)
    parser.add_argument("--real-orders", type=int, default=200, help="made through the gateway; the rest are copies")
    wanted = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        directory = f"{place}/system"
        state = up(directory)
        try:
            with concurrent.futures.ThreadPoolExecutor(4) as pool:
                list(pool.map(lambda n: journey(state["gateway"], n), range(wanted.real_orders)))
            audit(directory)
        finally:
            down(directory)
        print("| | orders | s | peak MB |\n|---|--:|--:|--:|")
        tell("from files", *audit(directory))
        multiply(Path(directory, "data"), wanted.orders // wanted.real_orders)
        tell("from files", *audit(directory))
        state = up(directory)
        try:
            status = json.loads(
                subprocess.run(system("status", "--json", "--dir", directory), check=True, capture_output=True).stdout
            )
            auditor = next(one["pid"] for one in status["instances"] if one["instance"] == "auditor-1")
            orders, seconds, _ = audit(directory)
            tell("by the auditor of a running system", orders, seconds, peak_of(auditor))
        finally:
            down(directory)


if __name__ == "__main__":
    main()
