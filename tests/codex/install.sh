#!/bin/sh
# Installs the codex CLI into the folder $1 and prints the folder with its program. Reads no login and needs none. Both
# the tests and ./check call this. Exits with 3 and a reason on stderr where it cannot be had.
set -eu
# The one that facts and tests are of: a later one may say other things in other words.
version=0.169.0
folder=${1:?usage: install.sh FOLDER}
program=$folder/node_modules/.bin
if ! "$program/codex" --version >/dev/null 2>&1; then
  command -v npm >/dev/null || { echo "npm is missing" >&2; exit 3; }
  mkdir -p "$folder"
  # One at a time: tests run at once.
  exec 9>"$folder/.lock"
  if command -v flock >/dev/null; then flock 9; fi
  if ! "$program/codex" --version >/dev/null 2>&1; then
    npm install --no-audit --no-fund --prefix "$folder" "@openai/codex@$version" >"$folder/npm.log" 2>&1 ||
      { echo "npm could not install @openai/codex, see $folder/npm.log" >&2; exit 3; }
    "$program/codex" --version >/dev/null 2>&1 || { echo "the installed codex does not run, see $folder/npm.log" >&2; exit 3; }
  fi
fi
echo "$program"
