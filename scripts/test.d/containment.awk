# The tables of docs/containment.md. See scripts/test.d/containment, which calls it with the documents.

BEGIN {
    count = split(environments, environment, " ")
    for (i = 1; i <= count; i++) read_environment(environment[i])
    read_results("host")
    read_layers_off()
    tell_environments()
}

# Headings begin a table; of what the machine has, or what a person may do, there is nothing to tell.
/^##+ / { heading = $0; sub(/^#+ /, "", heading); begun = 0 }
/^\|/ { row($0) }

END { tell_attacks(); tell_reasons(); tell_lacks() }

function read_results(where,    file, line, part, name, at) {
    file = directory "/" where "/results.tsv"
    while ((getline line < file) > 0) {
        split(line, part, "\t")
        name = part[4]
        sub(/.*::/, "", name)
        total[where, part[1]]++
        # The worst of those of one name.
        at = where SUBSEP name
        if (part[1] == "fail" || (part[1] == "skip" && outcome[at] != "fail") || outcome[at] == "") {
            outcome[at] = part[1]
            why[at] = part[5]
        }
    }
}

function read_environment(where,    file, line, part) {
    read_results(where)
    file = directory "/" where "/run.tsv"
    getline line < file
    split(line, part, "\t")
    kernel[where] = part[1]; as[where] = part[2]; day[where] = part[3]; commit[where] = part[4]
    file = directory "/" where "/machine.tsv"
    while ((getline line < file) > 0) {
        split(line, part, "\t")
        if (part[1] == "kernel") kernel[where] = part[2]
        if (part[1] == "landlock-files") {
            abi[where] = part[3]
            sub(/^ABI /, "", abi[where])
            sub(/[^0-9].*/, "", abi[where])
        }
        if (part[2] == "missing" || part[2] == "partial")
            lack[++lacks] = "| " where " | `" part[1] "` | " part[2] " | " part[3] " |"
    }
    file = directory "/" where "/attacks.tsv"
    while ((getline line < file) > 0) {
        split(line, part, "\t")
        if (!(part[2] in aim)) { attack[++attacks] = part[2]; aim[part[2]] = part[3] }
        verdict[where, part[2]] = part[1]
        outside[where, part[2]] = part[4]
        inside[where, part[2]] = part[5]
        tried[where, part[1]]++
    }
}

function read_layers_off(    line, part) {
    while (layers_off != "" && (getline line < layers_off) > 0) {
        if (line !~ /^\| .* \|$/ || split(line, part, / \| ?/) < 6) continue
        sub(/^\| /, "", part[1])
        off[part[1]] = part[5] (part[6] == "" ? "" : part[5] ~ /^none / ? ": " : part[6] ~ /^`/ ? "; without it " : " alone: ") part[6]
    }
}

function tell_environments(    i, where) {
    print "| environment | as | kernel | Landlock ABI | run on | at commit | tests held | skipped | failed | attacks stopped | no control | through |"
    print "|---|---|---|---|---|---|---|---|---|---|---|---|"
    for (i = 1; i <= count; i++) {
        where = environment[i]
        printf "| %s | %s | %s | %s | %s | `%s` | %d | %d | %d | %d | %d | %d |\n", where, words(as[where]), kernel[where],
            abi[where] == "" ? "none" : abi[where], day[where], commit[where], total[where, "pass"], total[where, "skip"],
            total[where, "fail"], tried[where, "stopped"], tried[where, "no-control"], tried[where, "through"]
    }
}

function words(who) {
    if (who == "user") return "a user without privilege, in a scope of its own systemd"
    if (who == "container") return "root in a privileged container, on an overlay, without systemd"
    return "root, in a unit"
}

# A line of a table: the first cell is the attempt, and the line names its tests, `[T:name]` or `module::name`.
function row(line,    cell, rest, names, i, text) {
    names = 0
    rest = line
    while (match(rest, /T:[a-z0-9_]+|`[a-z0-9_]+::[a-z0-9_]+`/)) {
        text = substr(rest, RSTART, RLENGTH)
        gsub(/^T:|`|.*::/, "", text)
        test[++names] = text
        rest = substr(rest, RSTART + RLENGTH)
    }
    if (names == 0) return
    split(line, cell, / \| /)
    sub(/^\| /, "", cell[1])
    if (!begun) {
        text = FILENAME
        sub(/.*\//, "", text)
        printf "\n## %s (%s)\n\n| attempt |", heading, text
        for (i = 1; i <= count; i++) printf " %s |", environment[i]
        printf "\n|---|"
        for (i = 1; i <= count; i++) printf "---|"
        print ""
        begun = 1
    }
    printf "| %s |", cell[1]
    for (i = 1; i <= count; i++) printf " %s |", of_tests(environment[i], names)
    print ""
}

# What was not made in the environment is told as it was on the host, and that it was there.
function of_tests(where, names,    i, at, failed, skipped, numbers, there, here, what) {
    for (i = 1; i <= names; i++) {
        at = where SUBSEP test[i]
        if (outcome[at] == "") {
            at = "host" SUBSEP test[i]
            if (outcome[at] == "pass") here++
        } else if (outcome[at] == "pass") there++
        if (outcome[at] == "" || outcome[at] == "fail") failed = failed " `" test[i] "`"
        if (outcome[at] == "skip") {
            skipped++
            if (index(numbers, " " number(why[at]) ",") == 0) numbers = numbers " " number(why[at]) ","
        }
    }
    sub(/,$/, "", numbers)
    if (failed != "") return "FAILED:" failed
    if (skipped == names) return "skipped:" numbers
    what = there == 0 ? "on the host" : here == 0 ? "held" : "held, in part on the host"
    return what (skipped == 0 ? "" : ", in part skipped:" numbers)
}

function number(reason) {
    if (!(reason in numbered)) {
        numbered[reason] = ++reasons
        text_of[reasons] = reason
    }
    return numbered[reason]
}

function tell_attacks(    i, j, where, name, what) {
    if (attacks == 0) return
    printf "\n## Layer by layer (attacks.md)\n\nThe last column is of the host where the document was made: the layer that stops it, and how it ends without that.\n\n"
    printf "| attack | to |"
    for (i = 1; i <= count; i++) printf " %s |", environment[i]
    print " a layer off |"
    printf "|---|---|"
    for (i = 0; i <= count; i++) printf "---|"
    print ""
    for (j = 1; j <= attacks; j++) {
        name = attack[j]
        printf "| %s | %s |", name, aim[name]
        for (i = 1; i <= count; i++) {
            where = environment[i]
            what = "FAILED: not tried"
            if (verdict[where, name] == "stopped") what = "held"
            if (verdict[where, name] == "through") what = "FAILED: `" inside[where, name] "`"
            if (verdict[where, name] == "no-control") what = "no control: `" outside[where, name] "`"
            printf " %s |", what
        }
        printf " %s |\n", name in off ? off[name] : "FAILED: not tried"
    }
}

function tell_reasons(    i) {
    printf "\n## Why a test was skipped\n\nThe number is that of the tables, the text what the test said.\n\n"
    for (i = 1; i <= reasons; i++) printf "%d. %s\n", i, text_of[i]
}

function tell_lacks(    i) {
    if (lacks == 0) return
    printf "\n## What an environment lacks\n\n"
    print "As `bulkhead doctor` found it there. `strict` refuses by its name a layer that is missing and that nothing covers, and `best-effort`"
    print "names it in `inspect` (`tests/tests/lacking.rs`).\n"
    print "| environment | layer | state | what was found |"
    print "|---|---|---|---|"
    for (i = 1; i <= lacks; i++) print lack[i]
}
