# Two images of the same layers. `services` has what the four services need: no compiler, no command line, no Redis.
# `client` is `services` and one layer more: what the orchestrator and the command `vmglue` need.
FROM python:3.11-slim-bookworm AS dependencies
RUN python -m venv --without-pip /opt/venv
WORKDIR /src
RUN apt-get update -qq && apt-get install --yes -qq --no-install-recommends binutils >/dev/null
COPY pyproject.toml deploy/requirements.py deploy/trim.sh ./
# Dependencies first: they change less often than the sources. What only their developers need is left out.
RUN python requirements.py otel >/requirements \
    && pip --python /opt/venv/bin/python install --no-cache-dir --quiet --requirement /requirements \
    && sh trim.sh /opt/venv

FROM dependencies AS client-dependencies
RUN python requirements.py client >/requirements \
    && pip --python /opt/venv/bin/python install --no-cache-dir --quiet --prefix /client --requirement /requirements \
    && sh trim.sh /client

FROM dependencies AS build
COPY hatch_build.py README.md LICENSE NOTICE ./
COPY protos protos
COPY hardware_sim hardware_sim
COPY services services
COPY clients clients
COPY deploy/start.sh /own/start.sh
RUN pip wheel --no-cache-dir --quiet --no-deps --wheel-dir /wheels . \
    && pip --python /opt/venv/bin/python install --no-cache-dir --quiet --no-deps --prefix /own /wheels/*.whl \
    && cp clients/probe.py /own/probe.py

# The loops, compiled for the processor of this host.
FROM dependencies AS compiled
COPY --from=client-dependencies /client /opt/venv
COPY --from=build /own /opt/venv
RUN NUMBA_CACHE_DIR=/compiled /opt/venv/bin/python -c "import services.physmem.core, clients.integrity"

FROM python:3.11-slim-bookworm AS services
COPY --from=dependencies /opt/venv /opt/venv
COPY --from=build /own /opt/venv
COPY --from=compiled /compiled /opt/venv/compiled
# Volumes take over the owner of these folders: swap files, and what `certs` makes for each party.
RUN groupadd --system --gid 10001 vmglue \
    && useradd --system --uid 10001 --gid vmglue --no-create-home --shell /usr/sbin/nologin vmglue \
    && install --directory --owner=vmglue --group=vmglue --mode=700 \
        /var/lib/vmglue /etc/vmglue /etc/vmglue/own /etc/vmglue/authority /etc/vmglue/redis /etc/vmglue/pager \
        /etc/vmglue/physmem /etc/vmglue/kstack /etc/vmglue/scheduler /etc/vmglue/orchestrator \
        /etc/vmglue/operator /etc/vmglue/viewer
# Safe path: what lies in the working folder, the volume of a swap file, is never imported.
ENV PATH=/opt/venv/bin:$PATH \
    NUMBA_CACHE_DIR=/tmp/numba \
    PYTHONSAFEPATH=1 \
    PYTHONUNBUFFERED=1
USER vmglue
WORKDIR /var/lib/vmglue
ENTRYPOINT ["/opt/venv/start.sh", "python", "-m"]

FROM services AS client
COPY --from=client-dependencies /client /opt/venv
ENTRYPOINT ["/opt/venv/start.sh", "vmglue"]
