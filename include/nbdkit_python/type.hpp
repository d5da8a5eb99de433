// SPDX-License-Identifier: BSD-3-Clause
// What Python's types are made with, where they are made in C++.
#pragma once

#include <cstddef>
#include <vector>

#include "ref.hpp"

namespace nbdkit_python {

// A function as a type's slots have it, and as its methods do.
template <typename Function>
void* slot(Function* f) noexcept {
  return reinterpret_cast<void*>(f);
}
template <typename Function>
PyCFunction function(Function* f) noexcept {
  return reinterpret_cast<PyCFunction>(reinterpret_cast<void (*)()>(f));
}

constexpr unsigned long no_constructor = Py_TPFLAGS_DISALLOW_INSTANTIATION;

// A type whose objects have this size; the name, and what the slots point to, must last as long as it does. Null:
// Python's error indicator is set.
//   flags: beside the default ones
inline PyTypeObject* make_type(const char* name, const char* doc, std::size_t size, unsigned long flags,
                               std::vector<PyType_Slot> slots) noexcept {
  slots.push_back({Py_tp_doc, const_cast<char*>(doc)});
  slots.push_back({0, nullptr});
  PyType_Spec spec{name, static_cast<int>(size), 0, static_cast<unsigned>(Py_TPFLAGS_DEFAULT | flags), slots.data()};
  return reinterpret_cast<PyTypeObject*>(PyType_FromSpec(&spec));
}

// A new object, whose own part is zeros. Empty: Python's error indicator is set.
inline Ref allocate(PyTypeObject* type) noexcept { return Ref::take(type->tp_alloc(type, 0)); }

// What a type's Py_tp_dealloc ends with: an object has a reference to its type.
inline void deallocate(PyObject* self) noexcept {
  PyTypeObject* const type = Py_TYPE(self);
  type->tp_free(self);
  Py_DECREF(type);
}

}  // namespace nbdkit_python
