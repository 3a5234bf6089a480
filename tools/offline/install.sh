#!/bin/sh
# Installs the course from this folder, without a network, and opens it: sh install.sh
# PYTHON=/path/to/python3.11 sh install.sh names the Python to take; install.py says the rest.
cd "$(dirname "$0")" || exit 1
found=
for python in "$PYTHON" python3 python3.11 python3.12 python3.13 python3.14 python; do
  [ -n "$python" ] && command -v "$python" >/dev/null 2>&1 || continue
  "$python" install.py --fits >/dev/null 2>&1 && exec "$python" install.py "$@"
  found=${found:-$python}
done
if [ -z "$found" ]; then
  echo "There is no Python on this machine: read INSTALL.txt for the one that is needed." >&2
  exit 1
fi
exec "$found" install.py "$@"
