// SPDX-License-Identifier: BSD-3-Clause
// What the parts of the built-in module share: the server, errors, and the arguments of its functions.
#pragma once

#include <pybind11/pybind11.h>

#include <cstdlib>
#include <cstring>
#include <functional>
#include <memory>
#include <string>
#include <type_traits>

#include "nbdkit_python/call.hpp"
#include "nbdkit_python/error.hpp"
#include "nbdkit_python/interpreter.hpp"

namespace nbdkit_python::module {

namespace py = pybind11;

// Each part defines those of its functions that the running server has.
void define_basics(py::module_& m);
void define_parsers(py::module_& m);
void define_connection(py::module_& m);

// The server of the callback that is running in this thread, or the process's.
inline const Server& server() noexcept {
  const Call* const call = Call::current();
  return call ? call->script().server() : interpreter::server();
}

// What waits for the coroutine that is running in this thread (a Call of python/nbdkit/_loop.py), or None.
inline py::object waiting_call() {
  PyObject* const loop = interpreter::loop();
  return loop ? py::handle{loop}.attr("current")() : py::none();
}

[[noreturn]] inline void raise(PyObject* type, const std::string& message) {
  PyErr_SetString(type, message.c_str());
  throw py::error_already_set();
}

[[noreturn]] inline void raise_os_error(int err, const std::string& message) {
  const auto arguments = py::make_tuple(err, message);
  PyErr_SetObject(PyExc_OSError, arguments.ptr());
  throw py::error_already_set();
}

// Defines a function about the callback that is running in the thread. A coroutine's callback waits in another thread:
// there it is called then.
template <typename Result, typename... Arguments, typename... Extra>
void define_of_call(py::module_& m, const char* name, std::function<Result(Arguments...)> function,
                    const Extra&... extra) {
  m.def(
      name,
      [name, function = std::move(function)](Arguments... arguments) -> py::object {
        if (Call::current() == nullptr)
          if (const py::object call = waiting_call(); !call.is_none())
            return call.attr("ask_at_once")(py::module_::import("_nbdkit").attr(name), arguments...);
        if constexpr (std::is_void_v<Result>)
          return function(arguments...), py::none();
        else
          return function(arguments...);
      },
      extra...);
}

// Arguments. `where` begins the error's message: the function and, where there are several, the parameter.

inline std::string text(const char* where, const py::object& value) {
  if (!PyUnicode_Check(value.ptr()))
    raise(PyExc_TypeError, std::string{where} + ": expected a str, got " + describe(value.ptr()));
  auto result = to_text(value.ptr());
  if (result) return std::move(*result);
  PyErr_Clear();
  raise(PyExc_ValueError,
        std::string{where} + ": expected a str that UTF-8 can encode, without NULs, got " + describe(value.ptr()));
}

inline std::string path(const char* where, const py::object& value) {
  PyObject* bytes = nullptr;
  if (PyUnicode_FSConverter(value.ptr(), &bytes) == 0) {
    if (!PyErr_ExceptionMatches(PyExc_TypeError)) throw py::error_already_set();
    PyErr_Clear();
    raise(PyExc_TypeError, std::string{where} + ": expected a path, got " + describe(value.ptr()));
  }
  return py::reinterpret_steal<py::bytes>(bytes);
}

template <typename Int>
Int number(const char* where, const py::object& value, Int low, Int high) {
  if (!PyLong_Check(value.ptr()))
    raise(PyExc_TypeError, std::string{where} + ": expected an int, got " + describe(value.ptr()));
  int overflow = 0;
  const long long result = PyLong_AsLongLongAndOverflow(value.ptr(), &overflow);
  if (overflow != 0 || result < static_cast<long long>(low) || result > static_cast<long long>(high))
    raise(PyExc_ValueError, std::string{where} + ": expected an int from " + std::to_string(low) + " to " +
                                std::to_string(high) + ", got " + describe(value.ptr()));
  return static_cast<Int>(result);
}

// Strings from the server may have any bytes in them, as file names may.
inline py::str to_str(const char* text) {
  return py::reinterpret_steal<py::str>(
      PyUnicode_DecodeUTF8(text, static_cast<Py_ssize_t>(std::strlen(text)), "surrogateescape"));
}

// For the server's strings that are to be freed.
using Text = std::unique_ptr<char, decltype(&std::free)>;

}  // namespace nbdkit_python::module
