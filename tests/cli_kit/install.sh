#!/bin/sh
# Installs the CLI $1 (`claude` or `codex`) into the folder $2 and prints the folder with its program. Reads no login and
# needs none. Both the tests and ./check call this. Exits with 3 and a reason on stderr where it cannot be had.
set -eu
usage='usage: install.sh claude|codex FOLDER'
cli=${1:?$usage}
folder=${2:?$usage}
# The versions that facts and tests are of: a later one may say other things in other words.
case $cli in
  claude) package=@anthropic-ai/claude-code@2.1.197 ;;
  codex) package=@openai/codex@0.169.0 ;;
  *) echo "$usage" >&2; exit 2 ;;
esac
program=$folder/node_modules/.bin
if ! "$program/$cli" --version >/dev/null 2>&1; then
  command -v npm >/dev/null || { echo "npm is missing" >&2; exit 3; }
  mkdir -p "$folder"
  # One at a time: tests run at once.
  exec 9>"$folder/.lock"
  if command -v flock >/dev/null; then flock 9; fi
  if ! "$program/$cli" --version >/dev/null 2>&1; then
    npm install --no-audit --no-fund --prefix "$folder" "$package" >"$folder/npm.log" 2>&1 ||
      { echo "npm could not install $package, see $folder/npm.log" >&2; exit 3; }
    "$program/$cli" --version >/dev/null 2>&1 || { echo "the installed $cli does not run, see $folder/npm.log" >&2; exit 3; }
  fi
fi
echo "$program"
