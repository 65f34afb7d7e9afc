# syntax=docker/dockerfile:1

# Built on the machine's own platform and cross-compiled: no emulation.
FROM --platform=$BUILDPLATFORM golang:1.26 AS build
WORKDIR /src
COPY go.mod go.sum ./
RUN --mount=type=cache,target=/go/pkg/mod \
    go mod download
COPY . .
ARG TARGETOS
ARG TARGETARCH
ARG VERSION=dev
RUN --mount=type=cache,target=/go/pkg/mod \
    --mount=type=cache,target=/root/.cache/go-build \
    CGO_ENABLED=0 GOOS=$TARGETOS GOARCH=$TARGETARCH \
    go build -trimpath -ldflags "-s -w -X main.version=$VERSION" -o /reloader ./cmd/reloader

# Nothing but the program, and the CAs for alerts and webhooks over HTTPS.
FROM scratch
ARG VERSION=dev
LABEL org.opencontainers.image.title="reloader" \
      org.opencontainers.image.description="Restarts workloads when the ConfigMaps and Secrets that they use change" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="$VERSION"
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/ca-certificates.crt
COPY --from=build /reloader /reloader
# A number, so that runAsNonRoot can be checked without /etc/passwd.
USER 65532:65532
EXPOSE 9090 9443
ENTRYPOINT ["/reloader"]
