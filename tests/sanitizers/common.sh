# SPDX-License-Identifier: BSD-3-Clause
# What ./test asan and ./test tsan share: the tests, with a sanitizer in the unit tests, in nbdkit and in GlusterFS.
#
# The run has a function `settings REPORT` that exports how the sanitizer is to work: its reports go to files whose
# names begin with REPORT. In the end there must be none, whichever process it may come from.

export SANITIZER=${folder##*-} SANITIZER_REPORTS=$folder/reports
# Not reports, and they cannot be turned off: a script has asked for more memory than there is; GlusterFS has stacks of
# its own making, for light threads.
export SANITIZER_REMARK='==[0-9]+==WARNING: ([A-Za-z]+ failed to allocate 0x[0-9a-f]+ bytes|.*makecontext/swapcontext.*)'

# wrap LIBRARY…: an nbdkit and a glusterfsd that have these libraries preloaded, to be the first on PATH; and the command
# that others begin with whose processes load something of ours. Nothing else has them.
wrap() {
    local library program preloaded=
    for library; do
        # The compiler knows where its own are, and the system's; of one that is not there, only the name.
        library=$(g++ -print-file-name="$library")
        [[ $library != */* ]] || preloaded+=$library:
    done
    g++ -std=c++20 -shared -fPIC -fvisibility=hidden $(pkg-config --cflags python3-embed) \
        -o "$folder/preload.so" "$root/tests/sanitizers/preload.cpp"
    mkdir -p "$folder/bin"
    export SANITIZER_COMMAND=$folder/bin/preloaded
    # It does not count on its environment: systemd gives it none.
    {
        printf '#!/bin/bash\n'
        declare -p root SANITIZER_REPORTS
        declare -f settings
        printf 'settings "$SANITIZER_REPORTS/${SANITIZER_TEST:-unknown}"\n'
        printf 'exec env LD_PRELOAD=%q"${LD_PRELOAD:+:$LD_PRELOAD}" "$@"\n' "$preloaded$folder/preload.so"
    } >"$SANITIZER_COMMAND"
    for program in $(type -P nbdkit glusterfsd); do
        printf '#!/bin/bash\nexec %q %q "$@"\n' "$SANITIZER_COMMAND" "$program" >"$folder/bin/$(basename "$program")"
    done
    chmod +x "$folder"/bin/*
}

# sanitized [ARGUMENT …]: every test or, with arguments, which are pytest's, the tests in Python.
sanitized() {
    local status=0
    rm -rf "$SANITIZER_REPORTS"
    mkdir "$SANITIZER_REPORTS"
    if [ $# -eq 0 ]; then
        sanitized_unit || status=1
        set -- -n 2 tests/e2e tests/filter tests/gluster
    fi
    PATH=$folder/bin:$PATH PYTHONPATH=tests/sanitizers pytest -p sanitizer "$@" || status=1
    # Also of processes that no test has waited for, and of those that it wanted to fail.
    if grep --recursive --invert-match --line-regexp --extended-regexp "$SANITIZER_REMARK" "$SANITIZER_REPORTS"; then
        echo "The sanitizer's reports are in $SANITIZER_REPORTS" >&2
        status=1
    fi
    exit $status
}
