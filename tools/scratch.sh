# Sourced by scripts that work on data roots of their own: makes $work, and when the script ends removes it, with the
# containers of the data roots that $roots names, separated by spaces. $aufs is the command to use.
work=$(mktemp -d)
roots=''

finish() {
    status=$?
    for root in $roots; do
        for container in $("$aufs" container --root "$root" ls --quiet 2>/dev/null); do
            "$aufs" container --root "$root" rm --force "$container" >/dev/null || status=1
        done
    done
    rm -rf "$work"
    exit "$status"
}
trap finish EXIT
trap 'exit 130' INT TERM

say() { printf '\n== %s\n' "$*"; }
