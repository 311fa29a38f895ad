"""Checks with a BigQuery of yours what dbt-operator rests on there: ids, labels, effects, cancelling, bytes of jobs.

    python check.py --project my-project --dataset a_dataset_for_this --location EU
    python check.py --project my-project --location EU --run nightly       the jobs of a run: was any statement executed twice?

It needs google-cloud-bigquery, which every Python with dbt-bigquery has, and credentials as `gcloud auth application-default
login` leaves them. The first form makes two small relations in the dataset, which has to exist, and removes them again; its
queries read less than the 10 MB that BigQuery bills at least, and one runs until it is cancelled, for a few seconds.
"""

import argparse
import collections
import datetime
import sys
import time
import uuid

from google.api_core.exceptions import Conflict, GoogleAPICallError, NotFound
from google.auth.credentials import AnonymousCredentials
from google.cloud import bigquery

LABELS = {"dbt_operator_run": "check", "dbt_operator_node": "model_shop_a-b_" + "c" * 48}
LONG = "select count(*) from unnest(generate_array(1, 1000000)) as a, unnest(generate_array(1, 1000000)) as b where a * b < 0"
wrong = 0


def check(what: str, holds: bool, seen: object = "") -> None:
    """Print whether something is as it has to be."""
    global wrong
    wrong += not holds
    print(f"{'ok ' if holds else 'NOT'} {what}" + ("" if holds else f": {seen}"), flush=True)


def submit(client, text: str, job_id: str, **config):
    """Ask for a job as the operator does."""
    settings = bigquery.QueryJobConfig(labels=LABELS, **config)
    return client.query(text, job_id=job_id, job_config=settings, job_retry=None)


def ended(client, job):
    """The job, once it has ended, however that was."""
    while (job := client.get_job(job.job_id, project=job.project, location=job.location)).state != "DONE":
        time.sleep(0.5)
    return job


def ids(client, new_id) -> None:
    """One id is one job, also after it has failed."""
    first = submit(client, "select 1 as x", new_id("once"))
    try:
        submit(client, "select 1 as x", first.job_id)
        check("an id that was used is refused", False, "a second job was made")
    except Conflict as error:
        check("an id that was used is refused", True)
        named = f"{first.location}.{first.job_id}" in str(error)
        check("the refusal names the location of the job that is there", named, error)
    again = client.get_job(first.job_id, location=first.location)
    check("the job that is there can be followed, and read", [tuple(row) for row in again.result()] == [(1,)], again.state)
    check("its labels are those that were given", {**again.labels, **LABELS} == again.labels, again.labels)
    check("the table of its result can be looked at", client.get_table(again.destination).created <= again.ended)
    failed = ended(client, submit(client, "select 1/0 as x", new_id("failed")))
    check("a job that has failed says so", bool(failed.error_result), failed.state)
    try:
        submit(client, "select 1 as x", failed.job_id)
        check("the id of a failed job stays taken", False)
    except Conflict:
        check("the id of a failed job stays taken", True)
    listed = client.list_jobs(min_creation_time=first.created - datetime.timedelta(seconds=5), max_results=50)
    check("jobs are listed by the time of their creation", first.job_id in {job.job_id for job in listed})


def effects(client, new_id, dataset: str) -> None:
    """What a job has made can be told from what was made later."""
    table, view = f"{dataset}.dbt_operator_check", f"{dataset}.dbt_operator_check_view"
    making = f"create or replace table `{table}` as (select x from unnest(generate_array(1, 1000)) as x)"
    made = ended(client, submit(client, making, new_id("made")))
    check("a job that makes a table names it", made.ddl_target_table is not None and made.error_result is None, made.error_result)
    check("the table is not newer than the end of its job", client.get_table(table).created <= made.ended)
    merge = f"merge into `{table}` as t using (select 1 as x) as s on t.x = s.x when matched then update set x = 1"
    merged = ended(client, submit(client, merge, new_id("merged")))
    check("a job that changes a table names it", merged.destination is not None, merged.error_result)
    check("a table that was changed is as old as before", client.get_table(table).created <= made.ended)
    view_made = ended(client, submit(client, f"create or replace view `{view}` as (select 1 as x)", new_id("view")))
    check("a view is not newer than the end of its job", client.get_table(view).created <= view_made.ended, view_made.error_result)
    time.sleep(1)
    ended(client, submit(client, making, new_id("anew")))
    check("a table that was made anew is newer than the job before", client.get_table(table).created > made.ended)
    for relation in (table, view):
        client.delete_table(relation)
    try:
        client.get_table(table)
        check("a table that was dropped is gone", False)
    except NotFound:
        check("a table that was dropped is gone", True)


def costs(client, new_id) -> None:
    """Jobs are cancelled, and have limits and figures."""
    long = submit(client, LONG, new_id("long"))
    client.cancel_job(long.job_id, location=long.location)
    stopped = ended(client, long)
    reason = (stopped.error_result or {}).get("reason")
    check("a job that is cancelled ends, with the error `stopped`", reason == "stopped", stopped.error_result)
    query = "select count(*) from `bigquery-public-data.samples.shakespeare` where corpus = 'hamlet'"
    limited = submit(client, query, new_id("limited"), maximum_bytes_billed=1, use_query_cache=False)
    reason = (ended(client, limited).error_result or {}).get("reason")
    check("a job that needs more bytes than it may is refused", reason == "bytesBilledLimitExceeded", reason)
    billed = ended(client, submit(client, query, new_id("billed"), use_query_cache=False))
    figures = billed.total_bytes_processed, billed.total_bytes_billed, billed.slot_millis
    check("a job says what it has processed, what is billed, and for how long it had slots", None not in figures, figures)
    dry = client.query(query, job_config=bigquery.QueryJobConfig(dry_run=True, use_query_cache=False))
    check("a dry run says beforehand how much that will be", bool(dry.total_bytes_processed), dry.total_bytes_processed)


def look_at_run(client, run: str, days: int) -> None:
    """Of each node of a run its jobs, and whether any statement has succeeded twice in one execution of the node."""
    since = datetime.datetime.now(datetime.timezone.utc) - datetime.timedelta(days=days)
    jobs = [job for job in client.list_jobs(min_creation_time=since) if (job.labels or {}).get("dbt_operator_run") == run]
    if not jobs:
        check(f"there are jobs of the run {run}", False, f"none since {since:%Y-%m-%d}, by these credentials")
    by_node = collections.defaultdict(list)
    for job in jobs:
        by_node[job.labels.get("dbt_operator_node", "")].append(job)
    print("node; jobs; of these failed or cancelled; attempts; bytes billed")
    for node, own in sorted(by_node.items()):
        failed = sum(bool(job.error_result) for job in own)
        attempts = ", ".join(sorted({job.labels["dbt_operator_attempt"] for job in own}))
        print(f"{node}; {len(own)}; {failed}; {attempts}; {sum(getattr(job, 'total_bytes_billed', 0) or 0 for job in own)}")
        # An id is one of several of a statement; only its last part, the number, is another one.
        good = collections.Counter(job.job_id.rpartition("-")[0] for job in own if not job.error_result)
        check(f"each statement of {node} has succeeded once", max(good.values(), default=1) == 1, good)


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--project", required=True)
    parser.add_argument("--location", required=True)
    parser.add_argument("--dataset", help="where the relations are made")
    parser.add_argument("--run", help="the name of a DbtRun, to look at its jobs")
    parser.add_argument("--days", type=int, default=2, help="how far back its jobs are looked for")
    parser.add_argument("--api-endpoint", help="of something else than Google's service; no credentials are needed then")
    asked = parser.parse_args()
    if not (asked.run or asked.dataset):
        parser.error("say --dataset, or --run")
    other = {"credentials": AnonymousCredentials(), "client_options": {"api_endpoint": asked.api_endpoint}}
    client = bigquery.Client(asked.project, location=asked.location, **(other if asked.api_endpoint else {}))
    mark = uuid.uuid4().hex[:12]
    try:
        if asked.run:
            look_at_run(client, asked.run, asked.days)
        else:
            ids(client, lambda what: f"dbt-operator-check-{mark}-{what}")
            effects(client, lambda what: f"dbt-operator-check-{mark}-{what}", f"{asked.project}.{asked.dataset}")
            costs(client, lambda what: f"dbt-operator-check-{mark}-{what}")
    except GoogleAPICallError as error:
        check("BigQuery answers", False, error)
    print("All is as it has to be." if not wrong else f"{wrong} of these are not as they have to be: please report them.")
    return min(wrong, 1)


if __name__ == "__main__":
    sys.exit(main())
