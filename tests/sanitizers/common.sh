# SPDX-License-Identifier: BSD-3-Clause
# What ./test asan and ./test tsan share: the tests, with a sanitizer in the unit tests and in nbdkit.
#
# The run has a function `settings REPORT` that exports how the sanitizer is to work: its reports go to files whose
# names begin with REPORT. In the end there must be none, whichever process it may come from.

export SANITIZER=${folder##*-} SANITIZER_REPORTS=$folder/reports
# Not a report: a script has asked for more memory than there is. That cannot be turned off.
export SANITIZER_REMARK='==[0-9]+==WARNING: [A-Za-z]+ failed to allocate 0x[0-9a-f]+ bytes'

# wrap LIBRARY…: an nbdkit that has these libraries preloaded, to be the first on PATH. Nothing else has them.
wrap() {
    local library preloaded=
    for library; do
        # The compiler knows where its own are, and the system's.
        preloaded+=$(g++ -print-file-name="$library"):
    done
    g++ -std=c++20 -shared -fPIC -fvisibility=hidden $(pkg-config --cflags python3-embed) \
        -o "$folder/preload.so" "$root/tests/sanitizers/preload.cpp"
    mkdir -p "$folder/bin"
    # It does not count on its environment: systemd gives it none.
    {
        printf '#!/bin/bash\n'
        declare -p root SANITIZER_REPORTS
        declare -f settings
        printf 'settings "$SANITIZER_REPORTS/${SANITIZER_TEST:-nbdkit}"\n'
        printf 'exec env LD_PRELOAD=%q"${LD_PRELOAD:+:$LD_PRELOAD}" %q "$@"\n' "$preloaded$folder/preload.so" \
            "$(command -v nbdkit)"
    } >"$folder/bin/nbdkit"
    chmod +x "$folder/bin/nbdkit"
}

# sanitized [ARGUMENT …]: every test or, with arguments, which are pytest's, the tests in Python.
sanitized() {
    local status=0
    rm -rf "$SANITIZER_REPORTS"
    mkdir "$SANITIZER_REPORTS"
    if [ $# -eq 0 ]; then
        sanitized_unit || status=1
        set -- -n 2 tests/e2e tests/filter
    fi
    PATH=$folder/bin:$PATH PYTHONPATH=tests/sanitizers pytest -p sanitizer "$@" || status=1
    # Also of processes that no test has waited for, and of those that it wanted to fail.
    if grep --recursive --invert-match --line-regexp --extended-regexp "$SANITIZER_REMARK" "$SANITIZER_REPORTS"; then
        echo "The sanitizer's reports are in $SANITIZER_REPORTS" >&2
        status=1
    fi
    exit $status
}
