// SPDX-License-Identifier: BSD-3-Clause
// Python's arguments, turned into what nbdkit takes.
#include "arguments.hpp"

#include "nbdkit_python/convert.hpp"
#include "nbdkit_python/error.hpp"
#include "nbdkit_python/interpreter.hpp"

namespace nbdkit_python::filter {

PyObject* Arguments::take(const char* name) noexcept {
  if (position_ < given_) return values_[position_++];
  const Py_ssize_t named = names_ ? PyTuple_GET_SIZE(names_) : 0;
  for (Py_ssize_t i = 0; i < named; ++i)
    if (PyUnicode_CompareWithASCIIString(PyTuple_GET_ITEM(names_, i), name) == 0) {
      ++named_;
      return values_[given_ + i];
    }
  return nullptr;
}

bool Arguments::take(const char* name, std::string& text) noexcept {
  PyObject* const value = take(name);
  if (value == nullptr) return true;
  // As parameters and export names arrive: any bytes but NULs.
  PyObject* bytes = nullptr;
  if (PyUnicode_Check(value) != 0 && PyUnicode_FSConverter(value, &bytes) != 0) {
    const Ref owned = Ref::take(bytes);
    text.assign(PyBytes_AS_STRING(bytes), static_cast<std::size_t>(PyBytes_GET_SIZE(bytes)));
    return true;
  }
  PyErr_Clear();
  raise(PyExc_TypeError, method_,
        std::string{name} + ": expected a str without NUL characters, got " + describe(value));
  return false;
}

bool Arguments::take(const char* name, bool& truth) noexcept {
  PyObject* const value = take(name);
  if (value == nullptr) return true;
  const auto answer = to_bool(value);
  if (!answer) return false;
  truth = *answer;
  return true;
}

bool Arguments::take(const char* name, std::uint64_t& number) noexcept {
  PyObject* const value = take(name);
  if (value == nullptr) return missing(name), false;
  return to_number(name, value, UINT64_MAX, "2**64 - 1", number);
}

bool Arguments::take(const char* name, std::uint32_t& number) noexcept {
  PyObject* const value = take(name);
  if (value == nullptr) return missing(name), false;
  return to_number(name, value, number);
}

bool Arguments::take_flags(std::uint32_t& flags) noexcept {
  PyObject* const value = take("flags");
  return value == nullptr || to_number("flags", value, flags);
}

bool Arguments::done() const noexcept {
  const Py_ssize_t named = names_ ? PyTuple_GET_SIZE(names_) : 0;
  if (position_ == given_ && named_ == named) return true;
  raise(PyExc_TypeError, method_, "there are arguments too many, or of other names");
  return false;
}

void Arguments::missing(const char* name) const noexcept {
  raise(PyExc_TypeError, method_, std::string{"the argument "} + name + " is missing");
}

bool Arguments::to_number(const char* name, PyObject* value, std::uint32_t& number) const noexcept {
  std::uint64_t wide = 0;
  if (!to_number(name, value, UINT32_MAX, "2**32 - 1", wide)) return false;
  number = static_cast<std::uint32_t>(wide);
  return true;
}

bool Arguments::to_number(const char* name, PyObject* value, std::uint64_t most, const char* shown,
                          std::uint64_t& number) const noexcept {
  const Ref index = PyIndex_Check(value) != 0 ? Ref::take(PyNumber_Index(value)) : Ref{};
  const std::uint64_t result = index ? PyLong_AsUnsignedLongLong(index.get()) : 0;
  if (index && PyErr_Occurred() == nullptr && result <= most) {
    number = result;
    return true;
  }
  PyErr_Clear();
  raise(index ? PyExc_ValueError : PyExc_TypeError, method_,
        std::string{name} + ": expected an int from 0 to " + shown + ", got " + describe(value));
  return false;
}

void raise(PyObject* type, const char* method, const std::string& text) noexcept {
  PyErr_SetString(type, ("next." + std::string{method} + ": " + text).c_str());
}

void raise_failed(const char* method, int err) noexcept {
  const std::string text = "next." + std::string{method} + " has failed";
  const Ref error = Ref::take(PyObject_CallFunction(interpreter::package().error.get(), "is", err, text.c_str()));
  if (error) PyErr_SetObject(interpreter::package().error.get(), error.get());
}

}  // namespace nbdkit_python::filter
