"""The work, which knows nothing of HTTP: a flow over pydantic models, one checkpoint an invoice."""

from __future__ import annotations

from datetime import date, timedelta
from decimal import Decimal
from pathlib import Path

from pydantic import BaseModel, Field

import kitaru
from kitaru import checkpoint, flow


class Order(BaseModel):
    number: int
    customer: str
    amounts: list[Decimal] = Field(min_length=1)


class Batch(BaseModel):
    issued: date
    orders: list[Order] = Field(min_length=1, max_length=10_000)


class Invoice(BaseModel):
    number: int
    customer: str
    net: Decimal
    tax: Decimal
    total: Decimal
    due: date


TAX = Decimal("0.19")


# An invoice is issued, and may be issued only once: cache=False, because an equal order in
# another batch is another invoice. The effect is idempotent, as effects should be: the same
# number writes the same file, so that a crash between the file and the record does no harm.
@checkpoint(cache=False, retries=2)
def issue(order: Order, issued: date, folder: Path) -> Invoice:
    net = sum(order.amounts, Decimal(0))
    tax = (net * TAX).quantize(Decimal("0.01"))
    invoice = Invoice(
        number=order.number,
        customer=order.customer,
        net=net,
        tax=tax,
        total=net + tax,
        due=issued + timedelta(days=30),
    )
    folder.mkdir(exist_ok=True)
    (folder / f"{order.number}.json").write_text(invoice.model_dump_json(indent=2))
    return invoice


@flow
def bill(batch: Batch) -> list[Invoice]:
    kitaru.log(orders=len(batch.orders))  # for whoever asks how far it is
    return [issue(order, batch.issued, Path("invoices")) for order in batch.orders]
