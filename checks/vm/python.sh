#!/bin/sh
# Prints a Python that has the driver's libraries: `python.sh CACHE_FOLDER`. Its virtual environment is made there once
# for each set of requirements and each Python.
set -eu
requirements=$(dirname -- "$0")/requirements.txt
key=$({ python3 -c 'import sys; print(sys.version, sys.prefix)' && cat "$requirements"; } | sha256sum)
name=python-$(echo "$key" | cut -c 1-16)
mkdir -p "$1"
exec 9>"$1/$name.lock"
flock 9
if [ ! -e "$1/$name/done" ]; then
    # In its own place: programs of a virtual environment know its path. A half made one has no `done`.
    rm -rf -- "${1:?}/$name"
    { python3 -m venv "$1/$name" && "$1/$name/bin/pip" install -q -r "$requirements"; } >&2
    : >"$1/$name/done"
fi
echo "$1/$name/bin/python"
