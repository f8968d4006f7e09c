#!/bin/sh
# Runs the erasure crate's tests under AddressSanitizer: every read and write of the vector kernels is checked against the
# bounds of its allocation.
#
# The sanitizer is an unstable compiler flag; RUSTC_BOOTSTRAP=1 opens it on the installed toolchain, for this crate alone. The
# standard library stays as shipped (its own accesses are not checked, those of this crate are). A target folder of its own
# keeps the other builds' artefacts from being thrown away, and --target keeps build scripts and macros unsanitised.
set -eu
cd "$(dirname "$0")/../.."
target=x86_64-unknown-linux-gnu
if [ "$(rustc -vV | sed -n 's/^host: //p')" != "$target" ]; then
    echo "asan: the vector kernels are for $target; nothing to check on this machine" >&2
    exit 0
fi
# Random cases are fewer here than in the plain run: the sanitizer looks at bounds, which lengths near the registers' decide.
export CARGO_TARGET_DIR="${CARGO_TARGET_DIR:-target}/asan"
export RUSTC_BOOTSTRAP=1
export RUSTFLAGS="-Zsanitizer=address"
# Fresh memory is filled by the sanitizer, and reports stop the run.
export ASAN_OPTIONS="abort_on_error=0:halt_on_error=1:detect_leaks=1:allocator_may_return_null=0"
exec cargo test --package erasure --target "$target" --lib --tests -- "$@"
