#!/bin/sh
# The demo's agents, where a coding agent would be: `agent.sh builder`, `adversary` or `orchestrator`.
#
# A turn does one small, whole thing and takes what is to be done from git and from the supervisor only, so that one
# that was killed anywhere goes on where it was. The next turn begins when the supervisor types a line into the pane:
# `on_idle`, a claim, a verdict, a drain. demo.env has SUPERVISOR and PACE; the supervisor adds the CC_CI_* variables.
set -u

role=$1

say() { printf '%s %s: %s\n' "$(date +%H:%M:%S)" "$role" "$*"; }

# Says it again while the supervisor is away (killed, say), for ten seconds or so.
event() {
    tries=0
    until [ -z "$(printf '{"signal":"%s"}\n' "$1" | "$SUPERVISOR" event --verbose 2>&1)" ] || [ "$tries" -ge 100 ]; do
        tries=$((tries + 1))
        sleep 0.1
    done
}

# The lines that a plan wants: its indented ones.
wanted() { sed -n 's/^    //p' "$plan"; }

# Lines as words of one line.
words() { tr '\n' ' ' | sed 's/ $//'; }

# Commits and pushes what there is; says so only if there was something.
save() {
    git add -A && { git diff --cached --quiet || git commit -q -m "$1"; } && git push -q origin HEAD
}

# Where the pair is: $gate (a sentence), $number and $plan of the phase.
look() {
    gate=$("$SUPERVISOR" gate show) && phase=$("$SUPERVISOR" phase show) || return
    case $phase in
        phase\ *) ;;
        *) say "$phase"; return 1 ;;
    esac
    plan=${phase#*: } number=${phase#phase } number=${number%% *}
    script=greet-$number.sh
}

claim() { "$SUPERVISOR" gate claim; }

builder_turn() {
    case $1 in *"Please come to a safe point"*) say "nothing is half done"; return ;; esac
    look || return
    case $gate in
        *": claimed by "*)
            say "waits for the verdict"
            sleep "$(cat "$PACE")"
            return
            ;;
        *" was failed by "*)
            say "mends: $gate"
            sleep "$(cat "$PACE")"
            wanted | sed "s/.*/echo '&'/" >"$script"
            save "phase $number: print what the plan wants" && claim
            return
            ;;
    esac
    have=$(grep -c . "$script" 2>/dev/null) || have=0
    want=$(wanted | wc -l)
    if [ "$have" -lt "$want" ]; then
        have=$((have + 1))
        line=$(wanted | sed -n "${have}p")
        # A slip, so that the Adversary has something to find.
        [ "$number-$have" = 0-2 ] && line=$(printf %s "$line" | tr a-y b-z)
        sleep "$(cat "$PACE")"
        echo "echo '$line'" >>"$script"
        save "phase $number: line $have of $want" && say "line $have of $want is pushed"
    fi
    [ "$have" -lt "$want" ] || claim
}

adversary_turn() {
    look || return
    case $gate in
        *": claimed by "*) ;;
        *) say "nothing to judge; $gate"; return ;;
    esac
    commit=${gate##* at }
    sleep "$(cat "$PACE")"
    git fetch -q origin || return
    # What it prints counts, not what it looks like.
    prints=$(git show "$commit:$script" | sh 2>&1)
    if [ "$prints" = "$(wanted)" ]; then
        echo "phase $number at $commit: passed" >>verdicts.md
        save "phase $number: passed" && "$SUPERVISOR" gate pass
    else
        reason="it prints \"$(echo "$prints" | words)\", the plan wants \"$(wanted | words)\""
        echo "phase $number at $commit: failed: $reason" >>verdicts.md
        save "phase $number: failed" && "$SUPERVISOR" gate fail --reason "$reason"
    fi
}

orchestrator_turn() { "$SUPERVISOR" phase show && "$SUPERVISOR" gate show; }

turn() {
    event prompt-accepted
    "${role}_turn" "$1"
    event turn-ended
}

# An earlier one may have been killed in the middle of anything. The supervisor has seen to it that it is gone with all
# it started, so its locks mean nothing.
if [ "$role" != orchestrator ]; then
    find .git "$(git remote get-url origin)" -name '*.lock' -exec rm -f {} +
    git reset -q --hard && git clean -fdq && git push -q origin HEAD
fi
say "here, pid $$, start number $CC_CI_EPOCH"
event ready
turn "go on"
while read -r line; do turn "$line"; done
