#!/bin/sh
# Starts nginx with the certificate in /tls (fullchain.pem, privkey.pem), or with one it makes for localhost.
set -eu
mkdir -p /tmp/tls
if [ -f /tls/fullchain.pem ] && [ -f /tls/privkey.pem ]; then
    ln -sf /tls/fullchain.pem /tls/privkey.pem /tmp/tls/
elif [ -f /tls/fullchain.pem ] || [ -f /tls/privkey.pem ]; then
    echo "edge: the folder of TLS_DIR holds only one of fullchain.pem and privkey.pem" >&2
    exit 1
else
    echo "edge: TLS_DIR holds no certificate: using a self-signed one, which browsers warn about" >&2
    openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 30 -subj /CN=localhost \
        -addext subjectAltName=DNS:localhost,IP:127.0.0.1 \
        -keyout /tmp/tls/privkey.pem -out /tmp/tls/fullchain.pem 2>/dev/null
fi
exec nginx -g 'daemon off;'
