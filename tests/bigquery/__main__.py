"""A fake BigQuery by itself, until it is interrupted: what a person or a benchmark can point a profile at."""

import argparse
import contextlib
import sys
import threading

from tests.bigquery.fake import Behaviour, FakeBigQuery
from tests.bigquery.server import serve

if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m tests.bigquery", description=__doc__)
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--seconds", type=float, default=0.0, help="that each job takes")
    asked = parser.parse_args()
    fake = FakeBigQuery(behaviours=[Behaviour(seconds=asked.seconds)])
    with serve(fake, port=asked.port) as server, contextlib.suppress(KeyboardInterrupt):
        sys.stdout.write(f"api_endpoint: {server.url}\n")
        sys.stdout.flush()
        threading.Event().wait()
