"""One loop per live run: observe, reduce, plan, act; and the handlers that wake it."""
