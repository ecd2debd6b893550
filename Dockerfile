# One image in two stages: the first builds a virtual environment, the second carries it. Nothing is fetched at start.
#
#     docker build --build-arg REVISION="$(git rev-parse HEAD)" -t batch-gateway .
#
# A release pins the base: --build-arg PYTHON_IMAGE=python:3.13-slim@sha256:...
ARG PYTHON_IMAGE=python:3.13-slim

FROM ${PYTHON_IMAGE} AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore
WORKDIR /build

# Without pip inside: what runs installs nothing.
RUN python -m venv --without-pip /opt/batch-gateway
COPY config/requirements.txt config/
RUN pip --python /opt/batch-gateway/bin/python install --no-cache-dir --no-compile --only-binary :all: \
        --require-hashes -r config/requirements.txt

# The project becomes a real wheel, so that its metadata and console script are those every other installation has. Its
# build backend is no runtime requirement; pip's isolated build would fetch it without hashes, so its six packages are
# taken out of the developers' hashed list. Should the backend come to need a seventh, pip refuses it here by name.
COPY tests/requirements.txt tests/
RUN awk '/^[a-z]/ { keep = /^(hatchling|packaging|pathspec|pluggy|tomlkit|trove-classifiers)==/ } keep' \
        tests/requirements.txt > backend.txt \
    && pip install --no-cache-dir --only-binary :all: --require-hashes -r backend.txt
COPY pyproject.toml README.md LICENSE ./
COPY gateway gateway
RUN pip wheel --no-cache-dir --no-index --no-deps --no-build-isolation --wheel-dir dist . \
    && pip --python /opt/batch-gateway/bin/python install --no-cache-dir --no-compile --no-index --no-deps dist/*.whl

# Bytecode by content, never checked against the source: the root is read-only, and two builds give the same bytes.
# Not with -O: aiohttp has an endless loop without its assertions (CVE-2025-69227).
RUN python -m compileall -q --invalidation-mode unchecked-hash /opt/batch-gateway/lib

FROM ${PYTHON_IMAGE}
ARG PYTHON_IMAGE
ARG VERSION=0.1.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="batch-gateway" \
      org.opencontainers.image.description="A reverse proxy that adds POST /batch to an existing HTTP API." \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.base.name="${PYTHON_IMAGE}"
COPY --from=build /opt/batch-gateway /opt/batch-gateway
ENV PATH=/opt/batch-gateway/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1

# A number, because kubelet's runAsNonRoot cannot judge a name. Files belong to root and are readable by all, group 0
# among them: OpenShift runs the image under a number of its own in that group.
USER 65532:65532
EXPOSE 8207 9207
HEALTHCHECK --interval=10s --timeout=3s --start-period=10s CMD ["batch-gateway", "healthcheck"]
ENTRYPOINT ["batch-gateway"]
CMD ["serve"]
