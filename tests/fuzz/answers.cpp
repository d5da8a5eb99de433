// SPDX-License-Identifier: BSD-3-Clause
// One object, given to every function that turns a script's answer into nbdkit's, and raised if it is an exception.
#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdint>
#include <cstring>
#include <string>
#include <utility>
#include <vector>

#include "fuzz.hpp"
#include "nbdkit_python/attach.hpp"
#include "nbdkit_python/convert.hpp"
#include "nbdkit_python/error.hpp"

namespace nbdkit_python::fuzz {
namespace {

constexpr char canary = 0x5A;

bool is_clear() noexcept { return PyErr_Occurred() == nullptr; }

bool is_utf8(const std::string& text) {
  const bool good =
      static_cast<bool>(Ref::take(PyUnicode_DecodeUTF8(text.data(), static_cast<Py_ssize_t>(text.size()), nullptr)));
  PyErr_Clear();
  return good;
}

// What goes to the log, from an object that may do anything when it is asked for its text.
void check_text(const std::string& text, const char* name) {
  require(is_clear(), std::string{name} + ": leaves an error");
  require(!text.empty(), std::string{name} + ": no text");
  require(text.find('\0') == std::string::npos, std::string{name} + ": a NUL in the text");
  require(is_utf8(text), std::string{name} + ": a text that is not UTF-8");
}

void check_failure(const Failure& failure, const char* name) {
  constexpr std::array sent{EPERM, EROFS, EIO, ENOMEM, EINVAL, ENOSPC, EDQUOT, EFBIG, EOVERFLOW, ESHUTDOWN, EOPNOTSUPP};
  require(std::ranges::find(sent, failure.err) != sent.end(),
          std::string{name} + ": errno " + std::to_string(failure.err));
  check_text(failure.message, name);
}

// Whether nobody but the caller refers to an object, once what it has raised is forgotten.
bool is_ours(PyObject* object) {
  if (Py_REFCNT(object) > 1) tell("objects", "let_go");
  return Py_REFCNT(object) == 1;
}

// The result of one conversion. Empty, and only then, an exception is pending; it is taken.
template <typename Convert>
auto tried(const char* name, PyObject* object, const Convert& convert) {
  const bool ours = is_ours(object);
  auto result = convert(object);
  require(static_cast<bool>(result) == is_clear(), std::string{name} + ": an error without a message, or both");
  if (!result) check_failure(take_failure(0), name);
  if (ours) require(is_ours(object), std::string{name} + ": a reference is left behind");
  return result;
}

void try_bool(PyObject* object) {
  const auto truth = tried("to_bool", object, to_bool);
  if (object == Py_None || PyLong_CheckExact(object) || PyBool_Check(object))
    require(truth && *truth == (PyObject_IsTrue(object) == 1), "to_bool: a wrong value");
}

void try_int(PyObject* object) {
  const std::pair<std::int64_t, std::int64_t> ranges[] = {
      {0, INT64_MAX},
      {0, 2},
      {0, 3},
      {INT64_MIN, INT64_MAX},
      std::minmax({number<std::int64_t>(), number<std::int64_t>()})};
  for (const auto& [low, high] : ranges) {
    const auto value = tried("to_int", object, [low = low, high = high](PyObject* o) { return to_int(o, low, high); });
    if (value) require(low <= *value && *value <= high, "to_int: out of range");
    if (!PyLong_CheckExact(object)) continue;
    int overflow = 0;
    const std::int64_t exact = PyLong_AsLongLongAndOverflow(object, &overflow);
    require(value.has_value() == (overflow == 0 && low <= exact && exact <= high), "to_int: a wrong refusal");
    require(!value || *value == exact, "to_int: a wrong value");
  }
}

void try_text(PyObject* object) {
  const auto text = tried("to_text", object, to_text);
  if (!text) return;
  require(text->find('\0') == std::string::npos, "to_text: a NUL");
  if (PyBytes_Check(object))
    require(*text == std::string(PyBytes_AS_STRING(object), static_cast<std::size_t>(PyBytes_GET_SIZE(object))),
            "to_text: other bytes");
  else
    require(PyUnicode_Check(object) && is_utf8(*text), "to_text: not UTF-8");
}

void try_copy(PyObject* object) {
  constexpr std::size_t margin = 16;
  const std::uint32_t count = byte() % 64;
  std::vector<char> memory(count + margin, canary);
  const auto untouched = [&](std::size_t from) {
    return std::all_of(memory.begin() + static_cast<std::ptrdiff_t>(from), memory.end(),
                       [](char c) { return c == canary; });
  };
  const bool copied = tried("copy_bytes", object, [&](PyObject* o) { return copy_bytes(o, memory.data(), count); });
  require(untouched(copied ? count : 0), "copy_bytes: writes where it should not");
  // Since Python 3.12 a class of the script's own may have a `__buffer__`, whatever its base.
  if (!PyBytes_CheckExact(object)) return;
  require(copied == (PyBytes_GET_SIZE(object) >= static_cast<Py_ssize_t>(count)), "copy_bytes: a wrong refusal");
  if (copied) require(std::memcmp(memory.data(), PyBytes_AS_STRING(object), count) == 0, "copy_bytes: other bytes");
}

void try_extent(PyObject* object) {
  const auto extent = tried("to_extent", object, to_extent);
  if (!extent) return;
  require(extent->type <= 3, "to_extent: a wrong type");
  require(extent->length <= UINT64_MAX - extent->offset, "to_extent: ends beyond 2^64");
}

void try_export(PyObject* object) {
  const auto found = tried("to_export", object, to_export);
  if (!found) return;
  require(found->name.find('\0') == std::string::npos, "to_export: a NUL");
  require(!found->description || found->description->find('\0') == std::string::npos, "to_export: a NUL");
}

void try_items(PyObject* object) {
  const auto each = [&](PyObject* answer) {
    return for_each(answer, "items", [](PyObject* item) {
      if (byte() % 2 == 0) return static_cast<bool>(to_extent(item));
      return static_cast<bool>(to_export(item));
    });
  };
  tried("for_each", object, each);
}

void try_to_show(PyObject* object) {
  check_text(describe(object), "describe");
  // The only text that may be empty.
  check_text(log_text(object) + ".", "log_text");
  wrong_answer("better", object);
  require(!is_clear(), "wrong_answer: raises nothing");
  const Failure failure = take_failure(0);
  require(failure.message.starts_with("expected better, got "), "wrong_answer: another message");
  check_failure(failure, "wrong_answer");
}

void try_to_raise(PyObject* object) {
  const bool is_class = PyExceptionClass_Check(object);
  if (!is_class && !PyExceptionInstance_Check(object)) return;
  const int set_error = byte() % 2 == 0 ? 0 : byte();
  if (is_class)
    PyErr_SetNone(object);
  else
    PyErr_SetObject(reinterpret_cast<PyObject*>(Py_TYPE(object)), object);
  check_failure(take_failure(set_error), "take_failure");
}

}  // namespace

void try_input() {
  const Attach attach;
  constexpr void (*trials[])(PyObject*) = {
      try_bool,
      try_int,
      try_text,
      [](PyObject* o) { tried("to_nothing", o, to_nothing); },
      [](PyObject* o) { tried("to_block_size", o, to_block_size); },
      try_extent,
      try_export,
      [](PyObject* o) { tried("to_iterator", o, [](PyObject* a) { return static_cast<bool>(to_iterator(a, "")); }); },
      try_items,
      try_copy,
      try_to_show,
      try_to_raise,
  };
  // In any order, since an object can change with each look at it.
  const std::size_t first = byte();
  const Ref object = ask("objects", "anything");
  for (std::size_t i = 0; i < std::size(trials); ++i) trials[(first + i) % std::size(trials)](object.get());
}

}  // namespace nbdkit_python::fuzz
