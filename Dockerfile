# syntax=docker/dockerfile:1
# The worker that trains on NVIDIA GPUs: CUDA comes from the wheels of tensorflow[and-cuda], so that
# the host needs the driver and NVIDIA's container toolkit alone.

FROM python:3.12-slim-bookworm AS build
RUN python -m venv /opt/venv
ENV PATH=/opt/venv/bin:$PATH \
    PIP_DISABLE_PIP_VERSION_CHECK=1
WORKDIR /source
# What is required first: the sources change more often than the layer of gigabytes.
COPY pyproject.toml setup.cfg README.md ./
RUN --mount=type=cache,target=/pip-cache pip install --cache-dir /pip-cache ".[pipeline,gpu,kfp]"
COPY keras_resnet keras_resnet
COPY pipeline pipeline
RUN pip install --no-deps --force-reinstall .

FROM python:3.12-slim-bookworm AS worker
# Trained weights are kept where any user may write, as Compose may name another one; and so is
# matplotlib's cache.
RUN useradd --create-home --uid 1000 worker \
    && install --directory --mode 1777 /var/cache/keras /var/cache/matplotlib \
    && install --directory --owner worker --group worker \
        /srv/pipeline /srv/pipeline/data /srv/pipeline/runs /srv/pipeline/saved_models
COPY --from=build /opt/venv /opt/venv
ENV PATH=/opt/venv/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    KERAS_HOME=/var/cache/keras \
    MPLCONFIGDIR=/var/cache/matplotlib \
    NVIDIA_VISIBLE_DEVICES=all \
    NVIDIA_DRIVER_CAPABILITIES=compute,utility
USER worker
WORKDIR /srv/pipeline
VOLUME ["/srv/pipeline/runs", "/srv/pipeline/saved_models"]
# It touches no GPU, so that a training goes on undisturbed.
HEALTHCHECK --interval=15m --timeout=2m --start-period=2m --retries=2 \
    CMD ["python", "-m", "pipeline", "doctor"]
ENTRYPOINT ["python", "-m", "pipeline"]
CMD ["run"]
