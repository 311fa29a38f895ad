# The operator. Any base with Python 3.11 or newer serves.
ARG BASE=python:3.12-slim-bookworm

FROM ${BASE} AS build
# Only for machines whose certificates are their own; they are not set in the final image.
ARG PIP_CERT
ARG SSL_CERT_FILE
COPY requirements/operator.txt /tmp/operator.txt
RUN python3 -m venv /opt/dbt-operator \
    && /opt/dbt-operator/bin/pip install --quiet --no-cache-dir --disable-pip-version-check --no-compile --no-deps --require-hashes -r /tmp/operator.txt \
    && /opt/dbt-operator/bin/pip uninstall --yes --quiet pip setuptools
# The generated classes of the kubernetes package are 75 of its 76 MB. The operator works below them, on its ApiClient;
# only kopf looks at three of them. They are imported by name when asked for, so that the rest is not missed.
RUN cd /opt/dbt-operator/lib/python3*/site-packages/kubernetes \
    && find client/api client/models aio/client/api aio/client/models -name '*.py' ! -name __init__.py \
        ! -path client/models/v1_object_meta.py ! -path client/models/v1_owner_reference.py \
        ! -path client/models/v1_managed_fields_entry.py -delete
# Compiled here, because the pod runs with a read-only file system: it would be compiled at each start.
RUN python3 -m compileall -q -j 0 --invalidation-mode unchecked-hash /opt/dbt-operator/lib
COPY controller/dbt_operator /app/dbt_operator
RUN python3 -m compileall -q -j 0 --invalidation-mode unchecked-hash /app

FROM ${BASE}
# The same for Python's own modules, of which the official images have no compiled form.
RUN python3 -m compileall -q -x '/test/|site-packages|dist-packages|idlelib|lib2to3' \
    "$(python3 -c 'import sysconfig; print(sysconfig.get_path("stdlib"))')"
COPY --from=build /opt/dbt-operator /opt/dbt-operator
COPY --from=build /app /app
ENV PATH=/opt/dbt-operator/bin:$PATH PYTHONPATH=/app PYTHONUNBUFFERED=1
# glibc gives blocks of this size back at once. By itself it raises the size with each block that it sees, and what answers
# of the API server have left behind then splits its heap: a quarter more memory, growing for months (benchmarks/soak.py).
ENV MALLOC_ARENA_MAX=2 MALLOC_MMAP_THRESHOLD_=65536 MALLOC_TRIM_THRESHOLD_=131072
# A number, so that Kubernetes can tell that it is not root.
USER 65532:65532
# Fails the build if something was removed that the operator imports.
RUN ["python3", "-c", "import dbt_operator.__main__, dbt_operator.reconcile.operator, dbt_operator.cli.replay"]
ENTRYPOINT ["python3", "-m", "dbt_operator"]
CMD ["run"]
