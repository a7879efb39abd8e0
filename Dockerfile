# One image for all services. The wheel is built once and installed with what services need: no command line, no compiler.
FROM python:3.11-slim-bookworm AS build
RUN python -m venv /opt/venv
WORKDIR /src
# Dependencies first: they change less often than the sources.
COPY pyproject.toml ./
RUN python -c "import tomllib; print('\n'.join(tomllib.load(open('pyproject.toml', 'rb'))['project']['dependencies']))" \
        > /tmp/requirements.txt \
    && /opt/venv/bin/pip install --no-cache-dir --quiet --requirement /tmp/requirements.txt
COPY hatch_build.py README.md LICENSE NOTICE ./
COPY protos protos
COPY hardware_sim hardware_sim
COPY services services
COPY clients clients
RUN /opt/venv/bin/pip wheel --no-cache-dir --quiet --no-deps --wheel-dir /wheels . \
    && /opt/venv/bin/pip install --no-cache-dir --quiet --no-deps /wheels/*.whl \
    && /opt/venv/bin/pip uninstall --quiet --yes pip \
    && cp clients/probe.py /opt/venv/probe.py

FROM python:3.11-slim-bookworm
COPY --from=build /opt/venv /opt/venv
# Compiled code and swap files live on volumes, which take over the owner of these folders.
RUN useradd --system --uid 10001 --no-create-home --shell /usr/sbin/nologin vmglue \
    && install --directory --owner=vmglue --group=vmglue /var/cache/vmglue /var/lib/vmglue
ENV PATH=/opt/venv/bin:$PATH \
    NUMBA_CACHE_DIR=/var/cache/vmglue \
    PYTHONUNBUFFERED=1
USER vmglue
WORKDIR /var/lib/vmglue
ENTRYPOINT ["python", "-m"]
