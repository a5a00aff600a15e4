# Builds and packs the stage-image service.
FROM debian:trixie-slim AS build
RUN apt-get update && apt-get install -y --no-install-recommends \
        build-essential ca-certificates curl pkg-config rustup libclang-dev libmagickwand-7.q16-dev \
    && rm -rf /var/lib/apt/lists/* && rustup default 1.95
WORKDIR /src
COPY . .
RUN --mount=type=cache,target=/root/.cargo/registry --mount=type=cache,target=/src/target \
    cargo build --release --locked -p comfy-stage-image -p comfy-service --bins && cp target/release/stage-image target/release/healthcheck /usr/local/bin/

FROM debian:trixie-slim
RUN apt-get update && apt-get install -y --no-install-recommends libmagickwand-7.q16-10 \
    && rm -rf /var/lib/apt/lists/*
COPY docker/imagemagick-policy.xml /etc/ImageMagick-7/policy.xml
RUN useradd --system --uid 10001 --no-create-home comfy \
    && mkdir -p /artifacts /files/input /files/output /files/temp /data /user /logs
COPY --from=build /usr/local/bin/stage-image /usr/local/bin/healthcheck /usr/local/bin/
USER 10001
ENV HEALTHCHECK=grpc://127.0.0.1:9092
ENTRYPOINT ["stage-image"]
