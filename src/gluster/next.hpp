// SPDX-License-Identifier: BSD-3-Clause
// What scripts ask children with, and answer with: Next, AsyncNext, Child and Translator. Needs attachment.
#pragma once

#include <span>

#include "frame.hpp"
#include "nbdkit_python/type.hpp"

namespace nbdkit_python::gluster {

// next.cpp

// What is below, for one request: this child. The latter is a coroutine's.
Ref make_next(Frame* frame, xlator_t* child) noexcept;
Ref make_async_next(Frame* frame, xlator_t* child) noexcept;
PyTypeObject* make_next_type() noexcept;
PyTypeObject* make_async_next_type() noexcept;

Ref make_child(xlator_t* xl) noexcept;
// The child that a script names: None is the first. Null: Python's error indicator is set.
xlator_t* child_of(PyObject* child, const Instance& instance) noexcept;
PyTypeObject* make_child_type() noexcept;

// translator.cpp

// A translator object's instance, or null with Python's error indicator set.
Instance* instance_of(PyObject* translator) noexcept;
void set_instance(PyObject* translator, Instance* instance) noexcept;
PyTypeObject* make_translator_type() noexcept;

// A method that there is for each file operation.
using FopFunction = PyObject* (*)(PyObject* self, std::span<PyObject* const> given, int fop) noexcept;

template <FopFunction f, int fop>
PyObject* call_for(PyObject* self, PyObject* const* given, Py_ssize_t count) noexcept {
  return f(self, {given, static_cast<std::size_t>(count)}, fop);
}

template <FopFunction f, int fop>
PyMethodDef fop_method(const char* name) noexcept {
  return {name, function(call_for<f, fop>), METH_FASTCALL, nullptr};
}

}  // namespace nbdkit_python::gluster
