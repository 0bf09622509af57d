# shellcheck shell=bash
# What is built, and which of its tests run where.

# The suites that meet the kernel run in the machine as well as on the host. The rest would find little
# more there, but for their attacks, below. $1 is the directory of the package, $2 the name of the target.
in_machine() {
    case $1/$2 in
        tests/tidy | tests/promises | sandbox/closure) return 1 ;; # read the sources, with cargo
        sandbox/layers) return 1 ;; # each attack eight times; the machine has them once, in tests/exec
        tests/crashes | tests/crowd | tests/interleaving | tests/slow_disk) return 1 ;; # many services, of which no kernel matters
        tests/signing | tests/cli | tests/api_docs | tests/review | tests/permissions | tests/clients | tests/top | tests/exposure) return 1 ;; # nor of these
        tests/conformance | tests/dev | tests/learn | tests/schedules | tests/calls | tests/health | tests/attacks | tests/history | tests/logs | tests/traces | tests/deaths) return 1 ;; # what they run, others do in the machine
        sandbox/* | supervisor/* | tests/*) return 0 ;;
        *) return 1 ;;
    esac
}

# Whether a suite that in_machine leaves out goes there with its tests of the attack list (attacks.sh): a service under
# attack needs every layer, whatever else its suite has. What reads the sources, and the crates of the protocol, compute;
# and the deaths of our own processes at each step are hundreds of services, of which no kernel matters.
has_attacks_in_machine() {
    case $1/$2 in
        tests/tidy | tests/promises | tests/crashes) return 1 ;;
        tests/*) return 0 ;;
        *) return 1 ;;
    esac
}

# Unit tests of these packages that compute all the same: long under emulation, for nothing.
computing='^(sandbox (seccomp::(calls|tests|lists)|privilege)|supervisor (manifest|cli|link|package|signing|trust|exposure|refusal|fuzzing_tests|supervise::(store|audit|logs|archives|metrics|schedule|registry::review)))::'

# Prints cargo's target directory.
target_directory() {
    cargo metadata --manifest-path "$1/Cargo.toml" --no-deps --format-version 1 |
        sed -nE 's/.*"target_directory":"([^"]+)".*/\1/p' | grep .
}

# Both write a list of the executables to $2, tab-separated: true for a test or false, the target's
# kind (lib, bin, test, example), the directory of its package, its name, the file.
build_programs() {
    cargo_build "$1" --workspace --bins --examples >"$2"
}

build_everything() {
    cargo_build "$1" --workspace --lib --bins --examples --tests >"$2"
}

cargo_build() {
    cargo build --manifest-path "$1/Cargo.toml" --locked \
        --message-format=json-render-diagnostics "${@:2}" | sed -nE 's/^.*"manifest_path":"([^"]+)\/Cargo.toml","target":\{"kind":\["([a-z-]+)"[^]]*\],.*"name":"([^"]+)","src_path":.*"profile":\{[^}]*"test":(true|false)\},.*"executable":"([^"]+)".*$/\4\t\2\t\1\t\3\t\5/p'
}
