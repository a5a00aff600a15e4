# Builds and packs the gateway service.
FROM debian:trixie-slim AS build
RUN apt-get update && apt-get install -y --no-install-recommends \
        build-essential ca-certificates curl pkg-config rustup \
    && rm -rf /var/lib/apt/lists/* && rustup default 1.95
WORKDIR /src
COPY . .
RUN --mount=type=cache,target=/root/.cargo/registry --mount=type=cache,target=/src/target \
    cargo build --release --locked -p comfy-gateway -p comfy-service --bins && cp target/release/gateway target/release/healthcheck /usr/local/bin/

FROM debian:trixie-slim AS ui
RUN apt-get update && apt-get install -y --no-install-recommends nodejs npm ca-certificates && rm -rf /var/lib/apt/lists/*
WORKDIR /src
COPY ui/package.json ui/package-lock.json ui/.npmrc ./
RUN npm ci --no-audit --no-fund
COPY ui .
RUN npm run build

FROM debian:trixie-slim
RUN useradd --system --uid 10001 --no-create-home comfy
COPY --from=build /usr/local/bin/gateway /usr/local/bin/healthcheck /usr/local/bin/
COPY --from=ui /src/dist /ui
USER 10001
ENV HEALTHCHECK=http://127.0.0.1:8084/readyz
ENTRYPOINT ["gateway"]
