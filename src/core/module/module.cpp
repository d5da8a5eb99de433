// SPDX-License-Identifier: BSD-3-Clause
// `_nbdkit`: the server's functions as Python's. The package `nbdkit` re-exports all that has no underscore.
//
// A function that the running server lacks is not defined here; the package tells the script which version has it.
// C++ exceptions stay inside this folder.
#include "module.hpp"

#include "common.hpp"

namespace nbdkit_python {
namespace {

// What compile() does with a script, but for a millisecond: it makes the classes of all nodes of syntax trees, in case
// it has been given one.
pybind11::object compile(const pybind11::bytes& source, const pybind11::str& filename) {
  const auto text = static_cast<std::string>(source);
  if (text.find('\0') != text.npos) module::raise(PyExc_SyntaxError, "source code cannot contain null bytes");
  PyCompilerFlags flags = _PyCompilerFlags_INIT;
  PyObject* const code = Py_CompileStringObject(text.c_str(), filename.ptr(), Py_file_input, &flags, -1);
  if (code == nullptr) throw pybind11::error_already_set();
  return pybind11::reinterpret_steal<pybind11::object>(code);
}

}  // namespace

PYBIND11_MODULE(_nbdkit, m) {
  // The docstrings begin with signatures in our own words.
  pybind11::options options;
  options.disable_function_signatures();
  m.doc() = "The functions of the nbdkit server that this Python runs in.";
  module::define_basics(m);
  module::define_parsers(m);
  module::define_connection(m);
  m.def("_compile", compile);
}

PyObject* module_init() { return PyInit__nbdkit(); }

}  // namespace nbdkit_python
