"""`python -m dbt_operator.runner`, for trying the runner without its archive."""

from __future__ import annotations

from dbt_operator.runner.main import main

if __name__ == "__main__":
    main()
