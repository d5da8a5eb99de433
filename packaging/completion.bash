# SPDX-License-Identifier: BSD-3-Clause
# Completion of nbdkit-python's commands, their options (as its own --help has them), and files.
_nbdkit_python() {
    local command=${COMP_WORDS[1]} word=${COMP_WORDS[COMP_CWORD]} words
    if [ "$COMP_CWORD" -eq 1 ]; then
        words='new check bench help --help'
    else
        words=$("$1" "$command" --help 2>/dev/null | grep --only-matching --extended-regexp -- '--[a-z][a-z-]*')
    fi
    mapfile -t COMPREPLY < <(compgen -W "$words" -- "$word")
    [ "$COMP_CWORD" -eq 1 ] || mapfile -t -O ${#COMPREPLY[@]} COMPREPLY < <(compgen -f -- "$word")
}
complete -o filenames -F _nbdkit_python nbdkit-python
