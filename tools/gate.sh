#!/bin/sh
# Gates this tree against an older revision of it: builds the `aufs` command of both, and asks aufs-bench whether head
# is slower. The exit code is that of `aufs-bench gate` (0 pass, 1 slower, 3 inconclusive, …); 2 where there is no such
# revision, 4 where one of them does not build, and 5 where something else goes wrong before the measurement.
#
# Without BASE, or with an empty one, base is where HEAD left the main branch; where HEAD is no branch of its own it is
# the last commit, or, with nothing changed since, the one before.
#
# usage: tools/gate.sh TARGET_DIR [BASE] [ARGUMENT of aufs-bench gate]…
set -eu

target=$1
shift
case ${1:-} in
    -*) base='' ;; # An argument already.
    *)
        base=${1:-}
        [ $# -eq 0 ] || shift
        ;;
esac
cd "$(dirname "$0")/.."
own="$target/gate"
tree="$own/worktree"

say() { printf 'gate: %s\n' "$*" >&2; }

# 1 means a regression, and nothing that happens here is one.
finish() {
    code=$?
    trap - EXIT
    [ -z "$building" ] || remove_tree || say "$tree stays behind"
    case $code in
        2 | 4 | 130) exit "$code" ;;
    esac
    say "failed before the measurement (exit $code)"
    exit 5
}
building=''
trap finish EXIT
trap 'exit 130' INT TERM HUP

commit_of() { git rev-parse --verify --quiet "$1^{commit}"; }

# Prints the ref of the main branch: the one that a merge request goes to, else that of the remote, else our own.
main_branch() {
    refs='origin/HEAD origin/main main'
    [ -z "${CI_MERGE_REQUEST_TARGET_BRANCH_NAME:-}" ] || refs="origin/$CI_MERGE_REQUEST_TARGET_BRANCH_NAME"
    [ -z "${GITHUB_BASE_REF:-}" ] || refs="origin/$GITHUB_BASE_REF"
    for ref in $refs; do
        if commit_of "$ref" >/dev/null; then
            echo "$ref"
            return
        fi
    done
    say "none of $refs is here; remedy: git fetch, or give a base"
    return 1
}

# Sets $commit and $why.
choose_base() {
    if [ -n "$base" ]; then
        why="$base, as asked for"
        commit=$(commit_of "$base") || { say "no revision $base here"; exit 2; }
        return
    fi
    main=$(main_branch) || exit 2
    if ! commit=$(git merge-base HEAD "$main"); then
        # Another commit would be another question, and would let pass what came before it.
        say "where HEAD left $main is not here (a shallow clone?); remedy: git fetch --unshallow, or give a base"
        exit 2
    fi
    why="where HEAD left $main"
    [ "$commit" = "$(commit_of HEAD)" ] || return 0
    if [ -n "$(git status --porcelain --untracked-files=no)" ]; then
        commit=$(commit_of HEAD)
        why='the last commit, for there are changes since'
    elif commit=$(commit_of HEAD~1); then
        why='the commit before the last'
    else
        say 'no commit before HEAD here (a shallow clone?); remedy: git fetch --unshallow, or give a base'
        exit 2
    fi
}

remove_tree() {
    if [ -d "$tree" ]; then
        git worktree remove --force "$tree" || rm -rf "$tree"
    fi
    git worktree prune
}

# Builds $commit in a worktree of its own; what depends on no file of ours stays in its target directory. As head it is
# built with the features of the whole workspace: a library built otherwise would be measured with it.
build_base() {
    remove_tree # One that a killed run has left.
    building=yes
    git worktree add --quiet --detach "$tree" "$commit"
    (cd "$tree" && CARGO_TARGET_DIR="$own/target" cargo build --release --workspace --bin aufs) ||
        { say 'base does not build'; exit 4; }
    mkdir -p "$(dirname "$program")"
    cp "$own/target/release/aufs" "$program.draft"
    mv "$program.draft" "$program"
    remove_tree
    building=''
}

choose_base
say "base is $(git log -1 --format='%h %s' "$commit") ($why)"
say "head is $(git log -1 --format='%h %s' HEAD)$([ -z "$(git status --porcelain --untracked-files=no)" ] || echo ', with changes since')"
mkdir -p "$own"
exec 9>"$own/lock"
flock --nonblock 9 || { say 'another gate is under way here; waiting'; flock 9; }

# Binaries are kept by commit, compiler and what changes its output, so that a base is built once.
flags=$(env | grep -E '^(RUSTFLAGS|CARGO_ENCODED_RUSTFLAGS|CARGO_PROFILE_[A-Z_]*|CARGO_BUILD_[A-Z_]*)=' | sort || true)
key=$({ rustc -vV; echo "workspace: $flags"; } | cksum | cut -d' ' -f1)
program="$own/base/$commit-$key/aufs"
[ -x "$program" ] || build_base
cargo build --release --workspace || { say 'head does not build'; exit 4; }
exec "$target/release/aufs-bench" gate \
    --base "driver=aufs-fuse,bin=$program" --head "driver=aufs-fuse,bin=$target/release/aufs" "$@"
