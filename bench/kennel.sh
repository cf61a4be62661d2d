# Sourced by benchmarks: makes sure that KENNEL names a program, built in release mode unless one was given.
if [[ -z ${KENNEL:-} ]]; then
  root="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
  cargo build --quiet --release --manifest-path "$root/Cargo.toml" --package kennel --bin kennel
  KENNEL="$(cargo metadata --format-version 1 --no-deps --manifest-path "$root/Cargo.toml" | python3 -c 'import json, sys; print(json.load(sys.stdin)["target_directory"])')/release/kennel"
fi
