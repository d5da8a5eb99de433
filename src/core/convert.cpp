// SPDX-License-Identifier: BSD-3-Clause
// A callback's answers, checked and turned into what the server takes.
#include "nbdkit_python/convert.hpp"

#include <cstring>

#include "nbdkit_python/error.hpp"

namespace nbdkit_python {
namespace {

constexpr std::int64_t uint32_high = 0xFFFFFFFF;

// A tuple or list of `size` items as a tuple; empty, and no error set, where it is neither.
Ref to_tuple(PyObject* answer, Py_ssize_t size) noexcept {
  if (!PyTuple_Check(answer) && !PyList_Check(answer)) return {};
  Ref tuple = Ref::take(PySequence_Tuple(answer));
  if (!tuple) PyErr_Clear();
  return tuple && PyTuple_GET_SIZE(tuple.get()) == size ? std::move(tuple) : Ref{};
}

// An unsigned 64-bit number, or nothing and no error set.
std::optional<std::uint64_t> unsigned_item(PyObject* tuple, Py_ssize_t index) noexcept {
  const Ref number = Ref::take(PyNumber_Index(PyTuple_GET_ITEM(tuple, index)));
  const auto value = number ? PyLong_AsUnsignedLongLong(number.get()) : 0;
  if (PyErr_Occurred()) {
    PyErr_Clear();
    return {};
  }
  return value;
}

}  // namespace

std::optional<bool> to_bool(PyObject* answer) noexcept {
  const PyNumberMethods* const number = Py_TYPE(answer)->tp_as_number;
  const bool has_truth = number != nullptr && number->nb_bool != nullptr;
  if (!has_truth && PyIndex_Check(answer) == 0) {
    wrong_answer("a bool", answer);
    return {};
  }
  // An index without a truth value of its own would count as true, zero or not.
  const Ref value = has_truth ? Ref::borrow(answer) : Ref::take(PyNumber_Index(answer));
  const int truth = value ? PyObject_IsTrue(value.get()) : -1;
  if (truth == -1) return {};
  return truth != 0;
}

std::optional<std::int64_t> to_int(PyObject* answer, std::int64_t low, std::int64_t high) noexcept {
  if (PyIndex_Check(answer) != 0) {
    const Ref number = Ref::take(PyNumber_Index(answer));
    if (!number) return {};
    int overflow = 0;
    const std::int64_t value = PyLong_AsLongLongAndOverflow(number.get(), &overflow);
    if (overflow == 0 && value >= low && value <= high) return value;
  }
  const std::string range = "an int from " + std::to_string(low) + " to " + std::to_string(high);
  wrong_answer(range.c_str(), answer);
  return {};
}

std::optional<std::string> to_text(PyObject* answer) noexcept {
  const char* data = nullptr;
  Py_ssize_t size = 0;
  if (PyBytes_Check(answer)) {
    data = PyBytes_AS_STRING(answer);
    size = PyBytes_GET_SIZE(answer);
  } else if (PyUnicode_Check(answer)) {
    data = PyUnicode_AsUTF8AndSize(answer, &size);
    if (data == nullptr) {
      PyErr_Clear();
      wrong_answer("a str that UTF-8 can encode", answer);
      return {};
    }
  } else {
    wrong_answer("a str", answer);
    return {};
  }
  if (std::memchr(data, 0, static_cast<std::size_t>(size)) != nullptr) {
    wrong_answer("a str without NUL characters", answer);
    return {};
  }
  return std::string{data, static_cast<std::size_t>(size)};
}

bool to_nothing(PyObject* answer) noexcept {
  if (answer == Py_None) return true;
  if (PyCoro_CheckExact(answer) == 0 && PyGen_CheckExact(answer) == 0 && PyAsyncGen_CheckExact(answer) == 0)
    return true;
  wrong_answer("a callback that has done its work (a plain function, not an asynchronous one or a generator)", answer);
  return false;
}

std::optional<std::array<std::uint32_t, 3>> to_block_size(PyObject* answer) noexcept {
  std::array<std::uint32_t, 3> sizes{};
  bool good = false;
  if (const Ref tuple = to_tuple(answer, 3)) {
    good = true;
    for (Py_ssize_t i = 0; i < 3; ++i) {
      const auto value = unsigned_item(tuple.get(), i);
      good = good && value && *value <= uint32_high;
      if (good) sizes[static_cast<std::size_t>(i)] = static_cast<std::uint32_t>(*value);
    }
  }
  if (good) return sizes;
  wrong_answer("(minimum, preferred, maximum), three ints from 0 to 4294967295", answer);
  return {};
}

std::optional<Extent> to_extent(PyObject* item) noexcept {
  if (const Ref tuple = to_tuple(item, 3)) {
    const auto offset = unsigned_item(tuple.get(), 0);
    const auto length = unsigned_item(tuple.get(), 1);
    const auto type = unsigned_item(tuple.get(), 2);
    // The end has to fit too: nbdkit adds them up unchecked.
    if (offset && length && type && *length <= UINT64_MAX - *offset && *type <= 3)
      return Extent{*offset, *length, static_cast<std::uint32_t>(*type)};
  }
  wrong_answer(
      "(offset, length, type), three ints, offset + length below 2**64, type from 0 to 3 (EXTENT_HOLE | EXTENT_ZERO)",
      item);
  return {};
}

std::optional<Export> to_export(PyObject* item) noexcept {
  if (PyUnicode_Check(item) || PyBytes_Check(item)) {
    auto name = to_text(item);
    if (!name) return {};
    return Export{std::move(*name), {}};
  }
  const Ref pair = to_tuple(item, 2);
  if (!pair) {
    wrong_answer("a name or (name, description)", item);
    return {};
  }
  auto name = to_text(PyTuple_GET_ITEM(pair.get(), 0));
  if (!name) return {};
  PyObject* const description = PyTuple_GET_ITEM(pair.get(), 1);
  if (description == Py_None) return Export{std::move(*name), {}};
  auto text = to_text(description);
  if (!text) return {};
  return Export{std::move(*name), std::move(text)};
}

Ref to_iterator(PyObject* answer, const char* expected) noexcept {
  Ref iterator;
  if (!PyUnicode_Check(answer) && !PyBytes_Check(answer)) iterator = Ref::take(PyObject_GetIter(answer));
  // With an error too: a memoryview that has been released gives both.
  if (iterator && PyErr_Occurred() == nullptr) return iterator;
  // An __iter__ of the script's that raises tells more than we can.
  if (PyErr_Occurred() && Py_TYPE(answer)->tp_iter != nullptr) return {};
  PyErr_Clear();
  wrong_answer(expected, answer);
  return {};
}

bool copy_bytes(PyObject* answer, void* buf, std::uint32_t count) noexcept {
  Py_buffer view;
  const bool readable = PyObject_GetBuffer(answer, &view, PyBUF_SIMPLE) == 0;
  const bool enough = readable && view.len >= static_cast<Py_ssize_t>(count);
  if (enough) {
    std::memcpy(buf, view.buf, count);
  } else {
    PyErr_Clear();
    const std::string expected = "a contiguous bytes-like object of at least " + std::to_string(count) + " bytes";
    if (readable)
      script_error("expected " + expected + ", got " + Py_TYPE(answer)->tp_name + " of " + std::to_string(view.len));
    else
      wrong_answer(expected.c_str(), answer);
  }
  if (readable) PyBuffer_Release(&view);
  return enough;
}

}  // namespace nbdkit_python
