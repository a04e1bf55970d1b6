#!/usr/bin/env bash
# Installs the Debian packages that the tests need and the machine lacks, or names them where it may not.
set -euo pipefail
PATH=$PATH:/usr/sbin

missing=()
need() { # PACKAGE, then a command that succeeds where the package is there
    local package=$1
    shift
    "$@" >/dev/null 2>&1 || missing+=("$package")
}

headers=$(.venv/bin/python -c 'import sysconfig; print(sysconfig.get_path("include"))')
need mariadb-server-core command -v mariadbd # the programs alone: no service is started
need mariadb-client-core command -v my_print_defaults
need pkg-config command -v pkg-config
need libmariadb-dev pkg-config --exists libmariadb
need gcc command -v gcc
need libc6-dev test -e /usr/include/stdio.h
need python3-dev test -e "$headers/Python.h"
need chromium command -v chromium # the browser of the tests below tests/system/browser
need iproute2 command -v ip # networks of tests/e2e
need postgresql compgen -G '/usr/lib/postgresql/*/bin/postgres'
need redis-tools command -v redis-check-rdb # its program is the server's, too; no service is started

if ((${#missing[@]} == 0)); then
    exit 0
fi
if ((EUID == 0)); then
    as_root=()
elif sudo -n true 2>/dev/null; then
    as_root=(sudo -n)
else
    echo "The tests need these Debian packages: ${missing[*]}" >&2
    exit 1
fi
if ! command -v apt-get >/dev/null; then
    echo "The tests need what Debian calls: ${missing[*]}" >&2
    exit 1
fi
"${as_root[@]}" apt-get -qq update
"${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -qq install --no-install-recommends "${missing[@]}"
