// SPDX-License-Identifier: BSD-3-Clause
// Values between Python and the server, both ways. Needs attachment.
//
// An empty result means that Python's error indicator is set, with a message of what was expected and what came.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>

#include "ref.hpp"

namespace nbdkit_python {

// Arguments of a callback. A parameter's key or value may hold any bytes: they arrive as the file system's names do.
inline Ref to_python(PyObject* object) noexcept { return Ref::borrow(object); }
inline Ref to_python(bool value) noexcept { return Ref::borrow(value ? Py_True : Py_False); }
inline Ref to_python(std::uint32_t value) noexcept { return Ref::take(PyLong_FromUnsignedLong(value)); }
inline Ref to_python(std::uint64_t value) noexcept { return Ref::take(PyLong_FromUnsignedLongLong(value)); }
inline Ref to_python(const char* text) noexcept { return Ref::take(PyUnicode_DecodeFSDefault(text)); }

// Answers of a callback.

// A bool, an int, None (false), or anything else that has a truth value of its own; not a container.
std::optional<bool> to_bool(PyObject* answer) noexcept;
// An int from `low` to `high`, inclusive.
std::optional<std::int64_t> to_int(PyObject* answer, std::int64_t low, std::int64_t high) noexcept;
// A str or bytes without NUL characters, as UTF-8.
std::optional<std::string> to_text(PyObject* answer) noexcept;
// A callback that answers nothing: anything will do, but not a coroutine or a generator, whose code has not run.
bool to_nothing(PyObject* answer) noexcept;

// (minimum, preferred, maximum) in bytes, a tuple or a list.
std::optional<std::array<std::uint32_t, 3>> to_block_size(PyObject* answer) noexcept;

struct Extent {
  std::uint64_t offset;  // bytes
  std::uint64_t length;  // bytes
  std::uint32_t type;    // 0 or a sum of EXTENT_HOLE (1) and EXTENT_ZERO (2)
};
std::optional<Extent> to_extent(PyObject* item) noexcept;

struct Export {
  std::string name;
  std::optional<std::string> description;
};
std::optional<Export> to_export(PyObject* item) noexcept;

// An iterator over an answer of several items; `expected` says in the error what they should be. A str or bytes is
// refused, though it can be iterated over.
Ref to_iterator(PyObject* answer, const char* expected) noexcept;

// take(item) for each of an answer's items, until it says false. True: all were taken, and the iterator did not raise.
template <typename Take>
bool for_each(PyObject* answer, const char* expected, const Take& take) noexcept {
  const Ref iterator = to_iterator(answer, expected);
  if (!iterator) return false;
  while (const Ref item = Ref::take(PyIter_Next(iterator.get())))
    if (!take(item.get())) return false;
  return PyErr_Occurred() == nullptr;
}

// Copies the first `count` bytes of a bytes-like object.
bool copy_bytes(PyObject* answer, void* buf, std::uint32_t count) noexcept;

}  // namespace nbdkit_python
