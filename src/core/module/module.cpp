// SPDX-License-Identifier: BSD-3-Clause
// `_nbdkit`: the server's functions as Python's. The package `nbdkit` re-exports all that has no underscore.
//
// A function that the running server lacks is not defined here; the package tells the script which version has it.
// C++ exceptions stay inside this folder.
#include "module.hpp"

#include "common.hpp"

namespace nbdkit_python {

PYBIND11_MODULE(_nbdkit, m) {
  // The docstrings begin with signatures in our own words.
  pybind11::options options;
  options.disable_function_signatures();
  m.doc() = "The functions of the nbdkit server that this Python runs in.";
  module::define_basics(m);
  module::define_parsers(m);
  module::define_connection(m);
}

PyObject* module_init() { return PyInit__nbdkit(); }

}  // namespace nbdkit_python
