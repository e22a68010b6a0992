#!/bin/sh
# user.sh: the user that serves, with a number that a host can name and no shell.
set -eu
groupadd --gid 10001 sparsight
useradd --uid 10001 --gid 10001 --no-create-home --home-dir /nonexistent --shell /usr/sbin/nologin sparsight
