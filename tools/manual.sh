#!/bin/sh
# Looks over what `cargo run --example manual -- DIR` wrote: `tools/manual.sh DIR`.
set -eu
share=${1:?usage: manual.sh DIR}
[ -s "$share/man/man1/supervisor.1" ]
for completion in "$share"/bash-completion/completions/*; do
    program=${completion##*/}
    for page in "$share/man/man1/$program".1 "$share/man/man1/$program"-*.1; do
        # The line that apropos and whatis read: `name \- what it is`.
        name=$(basename "$page" .1 | sed 's/-/\\\\-/g')
        grep -q "^$name \\\\- ." "$page" || { echo "$page has no name section" >&2; exit 1; }
    done
    for file in "$completion" "$share/zsh/site-functions/_$program" "$share/fish/vendor_completions.d/$program.fish"; do
        grep -Eq -- '[- ](config|manifest)' "$file" || { echo "$file knows neither --config nor --manifest" >&2; exit 1; }
    done
    if command -v bash >/dev/null; then bash -n "$completion"; fi
done
