# Two targets: `docker build --target cpu .` and `docker build --target cuda .`
# Every RUN is one script of deploy/image/, which tests/docs/test_deploy.py runs or checks.
# The version of the base image is pinned by its tag; pin its digest too where you build.

FROM python:3.11.11-slim-bookworm AS base
ENV PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    PIP_DISABLE_PIP_VERSION_CHECK=1 \
    PIP_NO_CACHE_DIR=1 \
    SPARSIGHT_CACHE=/opt/sparsight/cache \
    PATH=/opt/sparsight/venv/bin:$PATH

# Dependencies before code, so that a change of code does not install them again.
FROM base AS dependencies-cpu
WORKDIR /src
COPY pyproject.toml constraints.txt ./
COPY deploy/image/ deploy/image/
ARG TORCH_CPU_INDEX
RUN deploy/image/dependencies.sh cpu /opt/sparsight/venv

# torch of the registry brings CUDA's libraries along; the host needs its driver and NVIDIA's
# container toolkit only.
FROM base AS dependencies-cuda
WORKDIR /src
COPY pyproject.toml constraints.txt ./
COPY deploy/image/ deploy/image/
RUN deploy/image/dependencies.sh cuda /opt/sparsight/venv

FROM dependencies-cpu AS build-cpu
ARG VERSION
ARG ASSEMBLE=yes
COPY . .
RUN deploy/image/project.sh /opt/sparsight/venv
# A layer of its own: the model is most of the image.
# hadolint ignore=DL3059
RUN deploy/image/model.sh /opt/sparsight/venv

FROM dependencies-cuda AS build-cuda
ARG VERSION
ARG ASSEMBLE=yes
COPY . .
RUN deploy/image/project.sh /opt/sparsight/venv
# A layer of its own: the model is most of the image.
# hadolint ignore=DL3059
RUN deploy/image/model.sh /opt/sparsight/venv

FROM base AS served
COPY deploy/image/user.sh deploy/image/healthcheck.py /usr/local/bin/
RUN user.sh
EXPOSE 8000
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=15s --timeout=5s --start-period=120s --retries=3 \
    CMD ["python", "/usr/local/bin/healthcheck.py"]
ENTRYPOINT ["sparsight", "serve", "--host", "0.0.0.0", "--port", "8000", "--no-demo", "--log-format", "json", "--log-level", "info"]
CMD []

FROM served AS cuda
COPY --from=build-cuda --chown=10001:10001 /opt/sparsight /opt/sparsight
USER 10001:10001

FROM served AS cpu
COPY --from=build-cpu --chown=10001:10001 /opt/sparsight /opt/sparsight
USER 10001:10001
