// SPDX-License-Identifier: BSD-3-Clause
// Ref: one owned reference to a Python object. All of it needs an attached thread.
//
// An empty Ref that comes back from a function means that Python's error indicator is set.
#pragma once

#include <utility>

#include "python.hpp"

namespace nbdkit_python {

class [[nodiscard]] Ref {
 public:
  Ref() noexcept = default;
  Ref(Ref&& other) noexcept : object_{other.release()} {}
  Ref& operator=(Ref&& other) noexcept {
    // The old object goes last: its destructor may run Python code that looks at this Ref.
    PyObject* old = std::exchange(object_, other.release());
    Py_XDECREF(old);
    return *this;
  }
  ~Ref() { Py_XDECREF(object_); }

  // Takes over a reference that a CPython function returned as new.
  static Ref take(PyObject* owned) noexcept { return Ref{owned}; }
  // Adds a reference to one that belongs to somebody else.
  static Ref borrow(PyObject* borrowed) noexcept {
    Py_XINCREF(borrowed);
    return Ref{borrowed};
  }

  PyObject* get() const noexcept { return object_; }
  // Gives the reference away.
  PyObject* release() noexcept { return std::exchange(object_, nullptr); }
  explicit operator bool() const noexcept { return object_ != nullptr; }

 private:
  explicit Ref(PyObject* owned) noexcept : object_{owned} {}
  PyObject* object_ = nullptr;
};

}  // namespace nbdkit_python
