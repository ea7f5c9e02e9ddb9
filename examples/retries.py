"""Charge the orders of a day at a card service that has a bad morning: python retries.py

Shows what is tried again and what is not, that every try is on record, that the
service is asked for each order once however often it is tried, and how a flow
goes on after a failure. The service runs in this process, on a port of its own;
see `CardService` below for how bad its morning is.
"""

import json
import threading
from collections import Counter
from dataclasses import dataclass
from decimal import Decimal
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import ClassVar
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import kitaru
from kitaru import KitaruClient, Retry, checkpoint, flow


@dataclass(frozen=True)
class Order:
    number: int
    card: str
    amount: Decimal


@dataclass(frozen=True)
class Receipt:
    number: int
    reference: str


class CardDeclined(Exception):
    """The answer of the bank, not a mishap: asking again would not change it."""


class Busy(Exception):
    """The service cannot answer now; `retry_after` counts if it is longer than the backoff."""

    def __init__(self, retry_after: float) -> None:
        super().__init__(f"busy, try again in {retry_after} s")
        self.retry_after = retry_after


# Full jitter, doubling from 0.2 s: orders that failed together do not come back together.
patient = Retry(max_attempts=4, initial_seconds=0.2, max_seconds=5, never_on=(CardDeclined,))


# cache=False: a charge is made for its effect, so a new execution must make its own.
@checkpoint(retries=patient, cache=False)
def charge(order: Order, service: str) -> Receipt:
    request = Request(
        f"{service}/charges",
        data=json.dumps({"card": order.card, "amount": str(order.amount)}).encode(),
        # The same for every try of this call, also for one made after a crash: the service
        # sees that it has charged this order already, even if its answer never reached us.
        headers={"Idempotency-Key": kitaru.current().idempotency_key},
    )
    try:
        with urlopen(request, timeout=10) as answer:
            return Receipt(order.number, json.load(answer)["reference"])
    except HTTPError as error:
        if error.code == 402:
            raise CardDeclined(f"order {order.number}: the card was declined") from error
        if error.code == 503:
            raise Busy(float(error.headers["Retry-After"])) from error
        raise


@flow
def charge_all(orders: list[Order], service: str) -> list[Receipt | None]:
    receipts: list[Receipt | None] = []
    for order in orders:
        try:
            receipts.append(charge(order, service))
        except CardDeclined:
            # The recorded outcome of this call: after a crash it is raised again, not asked again.
            receipts.append(None)
    return receipts


class CardService(BaseHTTPRequestHandler):
    """Busy at the first try of each second order; loses its answer once; declines one card."""

    charged: ClassVar[dict[str, str]] = {}
    asked: ClassVar[Counter[str]] = Counter()
    lock = threading.Lock()

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        key = self.headers["Idempotency-Key"]
        with self.lock:
            self.asked[key] += 1
            tries, orders = self.asked[key], len(self.asked)
        if body["card"] == "4000-0002":
            return self.answer(402, {"error": "declined"})
        if orders % 2 == 0 and tries == 1:
            return self.answer(503, {"error": "busy"}, retry_after="0.3")
        with self.lock:
            reference = self.charged.setdefault(key, f"ch-{len(self.charged) + 1}")
        if orders == 3 and tries == 1:
            # Charged, but the line goes dead: the client cannot know, and must ask again.
            self.close_connection = True
            return None
        return self.answer(200, {"reference": reference})

    def answer(self, code: int, body: dict[str, str], retry_after: str | None = None) -> None:
        self.send_response(code)
        if retry_after:
            self.send_header("Retry-After", retry_after)
        self.end_headers()
        self.wfile.write(json.dumps(body).encode())

    def log_message(self, format: str, *arguments: object) -> None:
        pass


ORDERS = [
    Order(1001, "4242-4242", Decimal("19.90")),
    Order(1002, "4242-1881", Decimal("250.00")),
    Order(1003, "4000-5556", Decimal("8.50")),
    Order(1004, "4000-0002", Decimal("99.00")),
]


def main() -> None:
    server = ThreadingHTTPServer(("127.0.0.1", 0), CardService)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    handle = charge_all.run(ORDERS, f"http://127.0.0.1:{server.server_port}")
    for order, receipt in zip(ORDERS, handle.wait(), strict=True):
        print(f"order {order.number}: {receipt.reference if receipt else 'declined'}")

    # Every failed try is an attempt on record, with its exception.
    for call in KitaruClient().executions.list_checkpoints(handle.exec_id):
        tries = [
            attempt.failure.exception_type.rpartition(".")[2] if attempt.failure else "ok"
            for attempt in call.attempts
        ]
        print(f"{call.name}: {', '.join(tries)}")
    print(f"{len(CardService.charged)} charges at the service")


if __name__ == "__main__":
    main()
