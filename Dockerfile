# The gateway as a container image. How to run it: docs/sidecar.md.
#
# One exact Python patch release and one Debian release for both stages, because the virtual
# environment made in the first links to the interpreter of the second. Use a digest for builds
# that are the same to the byte: --build-arg PYTHON_IMAGE=python@sha256:...
ARG PYTHON_IMAGE=python:3.13.14-slim-bookworm

FROM ${PYTHON_IMAGE} AS build

ENV PIP_DISABLE_PIP_VERSION_CHECK=1 \
    PIP_NO_CACHE_DIR=1 \
    PIP_NO_COMPILE=1

WORKDIR /src

# Wheels only: building a source distribution would download build tools that no hash pins.
COPY requirements/run.txt requirements/build.txt requirements/
RUN python -m venv --without-pip /opt/gateway \
    && pip --python /opt/gateway install --require-hashes --only-binary :all: -r requirements/run.txt \
    && python -m venv --without-pip /opt/build \
    && pip --python /opt/build install --require-hashes --only-binary :all: -r requirements/build.txt

# pip check: the lock satisfies what the package says it needs. The bytecode is compiled here
# since the running container can't write it, and isn't checked against the sources' times,
# which an image builder may rewrite.
COPY pyproject.toml README.md LICENSE ./
COPY config/gateway.toml config/
COPY gateway gateway
RUN /opt/build/bin/hatchling build --target wheel --directory dist \
    && pip --python /opt/gateway install --no-index --no-deps dist/*.whl \
    && pip --python /opt/gateway check \
    && /opt/gateway/bin/python -m compileall -q -j 0 --invalidation-mode unchecked-hash /opt/gateway/lib \
    && /opt/gateway/bin/gateway --version


FROM ${PYTHON_IMAGE}

ARG VERSION=0.1.0
ARG REVISION=
ARG SOURCE=

LABEL org.opencontainers.image.title="revocation-gateway" \
      org.opencontainers.image.description="An async OAuth 2.0 gateway whose revocation window is chosen, bounded, seen and measured." \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.source="${SOURCE}"

COPY --from=build /opt/gateway /opt/gateway

# Clients come from outside the container, so the traffic port listens on every address. The
# admin port stays on loopback: the health check below runs inside.
ENV PATH=/opt/gateway/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    GATEWAY_CONFIG=/etc/gateway/gateway.toml \
    GATEWAY_LISTEN__HOST=0.0.0.0

EXPOSE 8080 9090

# By number, so that Kubernetes can verify runAsNonRoot. The user owns nothing in the image.
USER 10001:10001

STOPSIGNAL SIGTERM

HEALTHCHECK --interval=10s --timeout=5s --start-period=10s --retries=3 \
    CMD ["gateway", "healthcheck"]

ENTRYPOINT ["gateway"]
CMD ["serve"]
