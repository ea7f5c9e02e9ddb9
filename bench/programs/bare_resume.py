"""The limit of a resume: open a bare database, read and decode 1,000 rows, print the time."""

import json
import os
import time

import apsw

connection = apsw.Connection(os.environ["BENCH_DATABASE"])
values = [json.loads(data) for (data,) in connection.execute("select data from calls order by id")]
assert len(values) == int(os.environ["BENCH_STEPS"]) - 1
print(time.monotonic(), flush=True)
