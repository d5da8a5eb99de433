// SPDX-License-Identifier: BSD-3-Clause
// What is behind a Next and a Background in Python, and the methods that both have.
#pragma once

#include <array>

#include "background.hpp"
#include "nbdkit_python/call.hpp"
#include "nbdkit_python/type.hpp"

namespace nbdkit_python::filter {

class Passing;

struct Object {
  PyObject_HEAD bool in_background;  // whether it is a Background
  const Call* call;                  // a Next's; null: it is over
  Level* below;                      // null: before the connection's requests
  Passing* passing;                  // a Next's, before the connection's requests
  Background* background;            // a Background's; null: it is closed
};

// Whether a Next, or a Background, may be used now, in this thread. Null: Python's error indicator is set.
Object* usable(PyObject* self, const char* method) noexcept;
Object* usable_in_background(PyObject* self, const char* method) noexcept;

// The operations of a connection that is open.
extern const std::array<PyMethodDef, 20> operations;

constexpr int fast = METH_FASTCALL | METH_KEYWORDS;

}  // namespace nbdkit_python::filter
