// SPDX-License-Identifier: BSD-3-Clause
// The built-in module `_nbdkit`, to be registered before the interpreter starts.
#pragma once

#include "nbdkit_python/python.hpp"

namespace nbdkit_python {

[[gnu::visibility("hidden")]] PyObject* module_init();

}  // namespace nbdkit_python
