# SPDX-License-Identifier: BSD-3-Clause
"""Looks for faults in a script: reads it, serves it, drives it against a model of a disk, and makes what fails small.

    plugin      where nbdkit-python-plugin.so is
    server      one nbdkit on a private socket
    callbacks   what nbdkit asks a script
    reading     what its source shows
    steps       requests, and what else a sequence has
    facts       what a disk offers
    model       what a disk should hold
    generate    random sequences of steps
    client      steps, done by libnbd
    trial       one sequence, done and compared with the model
    shrink      the smallest sequence that still fails
    reproduce   that it fails again
    report      faults, and the verdict
    run         all of it, in order
"""
