// SPDX-License-Identifier: BSD-3-Clause
// CPython's own interface: the only place that includes it (pybind11's module apart).
#pragma once

#define PY_SSIZE_T_CLEAN
#include <Python.h>

static_assert(PY_VERSION_HEX >= 0x030B0000, "nbdkit-python needs Python 3.11 or later");
