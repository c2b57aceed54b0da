#!/bin/sh
# Gates this tree against an older revision of it: builds the `aufs` command of both, and asks aufs-bench whether head
# is slower. The exit code is that of `aufs-bench gate` (0 pass, 1 slower, 3 inconclusive, …); 2 where there is no such
# revision, and 4 where one of them does not build.
#
# Without BASE, or with an empty one, base is where HEAD left the main branch; where HEAD is no branch of its own it is
# the last commit, or, with nothing changed since, the one before.
#
# usage: tools/gate.sh TARGET_DIR [BASE [ARGUMENT of aufs-bench gate]…]
set -eu

target=$1
base=${2:-}
shift "$(($# < 2 ? $# : 2))"
cd "$(dirname "$0")/.."
own="$target/gate"
tree="$own/worktree"

say() { printf 'gate: %s\n' "$*" >&2; }

commit_of() { git rev-parse --verify --quiet "$1^{commit}"; }

# Prints the ref of the main branch: the one that a merge request goes to, that of the remote, or our own.
main_branch() {
    for ref in "${GITHUB_BASE_REF:+origin/$GITHUB_BASE_REF}" \
        "${CI_MERGE_REQUEST_TARGET_BRANCH_NAME:+origin/$CI_MERGE_REQUEST_TARGET_BRANCH_NAME}" \
        origin/HEAD origin/main main; do
        if [ -n "$ref" ] && commit_of "$ref" >/dev/null; then
            echo "$ref"
            return
        fi
    done
}

# Sets $commit and $why.
choose_base() {
    if [ -n "$base" ]; then
        why="$base, as asked for"
        commit=$(commit_of "$base") || { say "no revision $base here"; exit 2; }
        return
    fi
    main=$(main_branch)
    if [ -n "$main" ]; then
        commit=$(git merge-base HEAD "$main" || true)
        why="where HEAD left $main"
        [ -z "$commit" ] || [ "$commit" = "$(commit_of HEAD)" ] || return 0
    fi
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
    trap remove_tree EXIT
    trap 'exit 130' INT TERM HUP
    git worktree add --quiet --detach "$tree" "$commit"
    (cd "$tree" && CARGO_TARGET_DIR="$own/target" cargo build --release --workspace --bin aufs) ||
        { say 'base does not build'; exit 4; }
    mkdir -p "$(dirname "$program")"
    cp "$own/target/release/aufs" "$program.draft"
    mv "$program.draft" "$program"
    remove_tree
    trap - EXIT INT TERM HUP
}

choose_base
say "base is $(git log -1 --format='%h %s' "$commit") ($why)"
say "head is $(git log -1 --format='%h %s' HEAD)$([ -z "$(git status --porcelain --untracked-files=no)" ] || echo ', with changes since')"
mkdir -p "$own"
exec 9>"$own/lock"
flock --nonblock 9 || { say 'another gate is under way here; waiting'; flock 9; }

# Binaries are kept by commit and compiler, so that a base is built once.
program="$own/base/$commit-$(rustc -vV | cksum | cut -d' ' -f1)/aufs"
[ -x "$program" ] || build_base
cargo build --release --workspace || { say 'head does not build'; exit 4; }
exec "$target/release/aufs-bench" gate \
    --base "driver=aufs-fuse,bin=$program" --head "driver=aufs-fuse,bin=$target/release/aufs" "$@"
