// SPDX-License-Identifier: BSD-3-Clause
// The arguments of next's methods, and what these raise. Needs attachment.
#pragma once

#include <cstdint>
#include <string>

#include "nbdkit_python/ref.hpp"

namespace nbdkit_python::filter {

// The arguments of a method of next's, by position or by name, checked one after the other.
class Arguments {
 public:
  Arguments(const char* method, PyObject* const* values, Py_ssize_t given, PyObject* names) noexcept
      : method_{method}, values_{values}, given_{given}, names_{names} {}

  // The next one, called `name`; null: it is not there.
  PyObject* take(const char* name) noexcept;
  // The same, as what it should be. False: Python's error indicator is set. An argument that may be left out leaves the
  // result as it is: a text, a truth value, and the flags.
  bool take(const char* name, std::string& text) noexcept;
  bool take(const char* name, bool& truth) noexcept;
  bool take(const char* name, std::uint32_t& number) noexcept;
  bool take(const char* name, std::uint64_t& number) noexcept;
  bool take_flags(std::uint32_t& flags) noexcept;
  // Whether there is nothing else. False: as above.
  bool done() const noexcept;

  // Raises a TypeError: the argument `name` is missing.
  void missing(const char* name) const noexcept;
  // The value as a number; false: as above.
  bool to_number(const char* name, PyObject* value, std::uint32_t& number) const noexcept;

 private:
  // From 0 to `most`, whose name is `shown`.
  bool to_number(const char* name, PyObject* value, std::uint64_t most, const char* shown,
                 std::uint64_t& number) const noexcept;

  const char* const method_;
  PyObject* const* const values_;
  const Py_ssize_t given_;
  PyObject* const names_;
  Py_ssize_t position_ = 0;
  Py_ssize_t named_ = 0;
};

// Raises TYPE "next.METHOD: TEXT".
void raise(PyObject* type, const char* method, const std::string& text) noexcept;
// Raises nbdkit.Error with this errno, "next.METHOD has failed"; the log has what has failed.
void raise_failed(const char* method, int err) noexcept;

}  // namespace nbdkit_python::filter
