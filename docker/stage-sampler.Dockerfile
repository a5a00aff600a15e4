# Builds and packs the stage-sampler service.
FROM debian:trixie-slim AS build
RUN apt-get update && apt-get install -y --no-install-recommends \
        build-essential ca-certificates curl pkg-config rustup \
    && rm -rf /var/lib/apt/lists/* && rustup default 1.95
WORKDIR /src
COPY . .
RUN --mount=type=cache,target=/root/.cargo/registry --mount=type=cache,target=/src/target \
    cargo build --release --locked -p comfy-stage-sampler -p comfy-pickle -p comfy-service --bins \
    && cp target/release/stage-sampler target/release/pickle-convert target/release/healthcheck /usr/local/bin/

FROM debian:trixie-slim
RUN useradd --system --uid 10001 --no-create-home comfy
COPY --from=build /usr/local/bin/stage-sampler /usr/local/bin/pickle-convert /usr/local/bin/healthcheck /usr/local/bin/
USER 10001
ENV HEALTHCHECK=grpc://127.0.0.1:9091
ENTRYPOINT ["stage-sampler"]
