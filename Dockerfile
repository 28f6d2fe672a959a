# syntax=docker/dockerfile:1
# Two stages: the first has compilers and pip, the second only Python, the libraries and tenantcast.

FROM python:3.12-slim-bookworm AS build
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
WORKDIR /src
RUN python -m venv /opt/tenantcast
# Libraries first: they change less often than the code, so the layer is reused.
COPY requirements.lock ./
RUN /opt/tenantcast/bin/pip install --require-hashes -r requirements.lock
COPY pyproject.toml README.md CHANGELOG.md tenantcast.py ./
COPY app app
COPY supabase supabase
RUN python -m pip wheel --no-deps --wheel-dir /wheels . \
 && /opt/tenantcast/bin/pip install --no-deps /wheels/*.whl

FROM python:3.12-slim-bookworm
# One thread per process, set before numpy is imported: parallelism is processes.
ENV PATH=/opt/tenantcast/bin:$PATH \
    PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 \
    OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 MKL_NUM_THREADS=1 NUMEXPR_NUM_THREADS=1 \
    TENANTCAST_HOME=/var/lib/tenantcast LOG_FORMAT=json
# libgomp: the OpenMP run time that XGBoost and scikit-learn load. No version: Debian keeps only the newest point release.
# hadolint ignore=DL3008
RUN apt-get update \
 && apt-get install -y --no-install-recommends libgomp1 tzdata \
 && rm -rf /var/lib/apt/lists/* \
 && useradd --system --uid 10001 --home-dir /var/lib/tenantcast --create-home tenantcast
COPY --from=build /opt/tenantcast /opt/tenantcast
USER 10001
WORKDIR /var/lib/tenantcast
# Exit code 0 means: database reachable, migrated, row security in place, keys readable.
HEALTHCHECK --interval=5m --timeout=60s CMD ["tenantcast", "doctor", "--json"]
ENTRYPOINT ["tenantcast"]
CMD ["--help"]
