# shellcheck shell=bash
# The attack list: the tests that docs/attacks.md and docs/security.md name, and where they are made.

# Each attack of the table with each layer left out in turn: eight starts an attack, so on the host only.
layers_off_test=two_layers_stop_what_a_plugin_tries_or_one_does_for_a_reason
layers_off_in=host

# Where the list is made: the kernel and as whom (scripts/vm --as), as the directories of results are named.
attack_environments=(6.12-root 6.1-root newest-root 6.12-user 6.12-container)

# Prints the names of the tests that the tables of the documents name. $1: the source tree.
attack_tests() {
    {
        sed -n '/^|/p' "$1/docs/attacks.md" | grep -oE '\bT:[a-z0-9_]+' | cut -d : -f 2
        sed -n '/^|/p' "$1/docs/security.md" | grep -oE '`[a-z0-9_]+::[a-z0-9_]+`' | tr -d '`' | sed 's/.*:://'
    } | sort -u
}

# The list of an environment, as an expression that matches `suite test` as run-tests has it.
attack_list() {
    {
        attack_tests "$1"
        [[ $2 != "$layers_off_in" ]] || echo "$layers_off_test"
    } | paste -sd '|' | sed -E 's/.*/[ :](&)$/'
}
