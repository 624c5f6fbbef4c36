# A static binary on nothing: no shell, no packages, no root.
FROM golang:1.26 AS build
WORKDIR /src
COPY go.mod go.sum ./
RUN go mod download
COPY . .
ARG VERSION=dev
RUN CGO_ENABLED=0 go build -trimpath -tags grpcnotrace \
    -ldflags="-s -w -X main.version=${VERSION}" -o /everyhop ./cmd/everyhop

FROM scratch
# https key sets of token issuers and web PKI calls are verified with these.
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/
COPY --from=build /everyhop /everyhop
USER 65532:65532
EXPOSE 8443
ENTRYPOINT ["/everyhop"]
CMD ["run", "--policy", "/etc/everyhop/policy.yaml"]
