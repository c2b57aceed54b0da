# Every task of the project. `./justw RECIPE` finds or installs what a recipe needs, then comes here.

target := absolute_path(env("CARGO_TARGET_DIR", "target"))

# Where `install` puts things; DESTDIR stages the whole tree below another directory.
export PREFIX := env("PREFIX", "/usr/local")
export DESTDIR := env("DESTDIR", "")

# Arguments reach programs as they were given, with blanks and globs.
set positional-arguments

# List the recipes.
_default:
    @just --list --unsorted

# Build everything, optimised; recipes that need a part build it all, since cargo builds libraries anew for another set of packages.
build:
    cargo build --release --workspace

# Format the code; `just fmt --check` only looks.
fmt *args:
    cargo fmt --all "$@"

# Report every compiler and clippy warning as an error.
lint:
    cargo clippy --workspace --all-targets --all-features -- -D warnings

# Check that crates depend on each other only as ARCHITECTURE.md allows.
arrows:
    cargo run --quiet --package arrows

# Run all tests; arguments go to cargo test. Reports are opened in Chromium where there is one, or REQUIRE names it.
test *args:
    {{ if args == "" { "true" } else { "cargo build --package aufs-cli" } }}
    AUFS_BIN="{{target}}/debug/aufs" cargo test --workspace --all-features --no-fail-fast "$@"

# Replay what kernel aufs did, on plain directories and through the mount in each data mode; say how many scenarios pass.
golden *args:
    cargo build --package aufs-cli
    cargo test --quiet --package aufs-union --test golden -- --quiet "$@"
    cargo test --quiet --package aufs-cli --test golden_fuse -- --quiet "$@"

# Compare the union with a plain directory: CASES random histories of 40 calls, then as many with four threads; on ext4, since tmpfs has its own times.
model cases="10000" *args:
    MODEL_CASES="{{cases}}" cargo test --release --package aufs-union --test model -- {{args}}

# Run pjdfstest and fsx on our mount in each data mode, beside ext4 and overlayfs, as root and in a user namespace.
suites *args: _suites build
    "{{target}}/release/suites" --aufs "{{target}}/release/aufs" --bin "{{target}}/tools/bin" "$@"

# Let several processes work on a mount and on a plain copy of it, SECONDS in each data mode; a failure prints the SEED to give.
stress seconds="60" seed="":
    cargo build --package aufs-cli
    AUFS_STRESS_SECONDS="{{seconds}}" {{ if seed == "" { "" } else { "AUFS_STRESS_SEED=" + seed } }} cargo test --quiet --package aufs-cli --test fuse_stress

# Let CYCLES containers come and go, many at once, while their servers and the commands on them are killed.
soak cycles="100000":
    cargo build --package aufs-cli
    AUFS_SOAK_CYCLES="{{cycles}}" cargo test --quiet --package aufs-cli --test storage_soak

# Unpack random and damaged layers, and read random files of ancestors, SECONDS with each kind; a failure prints the seed.
fuzz seconds="60" *args:
    BOLERO_RANDOM_ITERATIONS=1000000000 BOLERO_RANDOM_TEST_TIME_MS="{{seconds}}000" cargo test --package aufs-storage --test archive_fuzz {{args}}

# Show the storage driver from end to end: an image, two containers, a commit, and the documentation's examples; needs root.
demo: build
    @tools/demo.sh "{{target}}/release/aufs"

# Import a Debian root as a layer, install PACKAGE in a container, check its diff against find, commit; needs root and a mirror.
debian package="jq" *args: build
    @tools/debian.sh "{{target}}/release/aufs" "$@"

# Measure what the storage driver costs beside peers: start, density, apply, load (all unless named); needs root and some GB.
figures *args: build
    "{{target}}/release/figures" --aufs "{{target}}/release/aufs" "$@"

# Let each of four errors happen at each system call of the server, and its death; `just test` takes one in some. ONLY is a part of an operation's name.
faults only="":
    cargo build --package aufs-cli
    AUFS_FAULTS=all AUFS_FAULTS_ONLY="{{only}}" REQUIRE="${REQUIRE:-fuse,root,strace}" cargo test --quiet --package aufs-cli --no-fail-fast --test fault_injection --test branch_refusals -- --nocapture

# Install the outside suites from crates.io; not optimised, which takes a quarter of the time to build and none to run.
_suites:
    test -x "{{target}}/tools/bin/pjdfstest" || cargo install --quiet --debug --locked --version "=0.2.2" --root "{{target}}/tools" pjdfstest >&2
    test -x "{{target}}/tools/bin/fsx" || cargo install --quiet --debug --locked --version "^0.3.2" --root "{{target}}/tools" fsx >&2

# Run the tests that mount once more with requests travelling by io_uring; turns the host's switch for it and back.
test-uring *args:
    AUFS_FAULTS=few AUFS_BIN="{{target}}/debug/aufs" tools/with_uring.sh cargo test --workspace --all-features --no-fail-fast {{ if args == "" { uring_tests } else { '"$@"' } }}

# Build the API documentation; a broken link is an error.
docs:
    RUSTDOCFLAGS="-D warnings" cargo doc --workspace --all-features --no-deps

# Measure a matrix (a name or a file) and print the path of report.html last.
bench matrix="default" *args: build
    @{{ if matrix =~ "^(peers|full)$" { just_executable() + " peers" } else { "true" } }}
    AUFS_BIN="{{target}}/release/aufs" "{{target}}/release/aufs-bench" run --matrix "$@"

# Tell whether this tree's FUSE server is slower than that of BASE (without it, where HEAD left main); exits 0 pass, 1 slower, 3 undecided.
gate base="" *args:
    @tools/gate.sh "{{target}}" "$@"

# Install fuse-overlayfs 2 from crates.io where `bench peers` finds it; run as a program only, for it is GPL.
peers:
    test -x "{{target}}/tools/bin/fuse-overlayfs" || cargo install --quiet --locked --version "^2" --root "{{target}}/tools" fuse-overlayfs >&2

# Say where the time of a copy-up goes: COUNT files of SIZE through a fresh mount, by phase, with perf where it works.
profile size="4K" count="500" dir="": build
    AUFS="{{target}}/release/aufs" tools/profile.sh "{{size}}" "{{count}}" {{dir}}

# Say what the bench itself costs: its null operation, and its reference operation beside the same loop in C.
overhead *args: build
    tools/overhead.sh "{{target}}/release/aufs-bench" "$@"

# Test the gate where the answer is known: mathematics, simulated noise, a recorded trace, gates broken on purpose.
gate-selftest *args: build
    "{{target}}/release/aufs-bench" gate selftest "$@"

# Measure the union without a mount, with criterion: resolve, name classification, merged readdir, lookups by depth.
bench-micro *args:
    cargo bench --package aufs-union "$@"

# Draw the report of a run again from its samples.
report run *args: build
    "{{target}}/release/aufs-bench" report "$@"

# Copy a run to reports/, with hostname and absolute paths replaced by labels.
keep run *args: build
    "{{target}}/release/aufs-bench" keep "$@"

# Use a Debian root as a lower branch as people would, and check that no byte of it changed; needs root.
real-tree root *args: build
    AUFS="{{target}}/release/aufs" tools/real_tree.sh "$@"

# Say what would mount AUFS branches on this machine, and why.
detect *args: build
    "{{target}}/release/aufs" detect "$@"

# Install aufs, aufs-bench and the mount helper links under PREFIX (default /usr/local).
install: build
    tools/install.sh "{{target}}/release"

# Check that Cargo.lock says all that the manifests ask for.
_locked:
    cargo metadata --locked --format-version 1 >/dev/null

# Those of the tests that mount which say most of a transport; CI runs them a second time, over io_uring.
uring_tests := "--test golden_fuse --test fuse_data --test fuse_opens --test fuse_maps_locks --test fuse_model --test live_branches --test mount_lifecycle --test fault_injection"

# Run what CI runs: format, lints, arrows, docs, tests, some of them over io_uring too, outside suites, a short bench and a short test of the gate.
ci: _locked (fmt "--check") lint arrows docs test test-uring suites (bench "quick") (gate-selftest "--quick")
