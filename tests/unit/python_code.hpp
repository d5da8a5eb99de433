// SPDX-License-Identifier: BSD-3-Clause
// Python code in a C++ test: run it, look at what it made, and compare what it raised. Needs attachment.
#pragma once

#include <gtest/gtest.h>

#include <string>

#include "fake_server.hpp"
#include "nbdkit_python/attach.hpp"
#include "nbdkit_python/ref.hpp"

namespace nbdkit_python::test {

// The text of str(object).
inline std::string text(PyObject* object) {
  const Ref string = Ref::take(PyObject_Str(object));
  const char* const utf8 = string ? PyUnicode_AsUTF8(string.get()) : nullptr;
  if (utf8) return utf8;
  PyErr_Clear();
  return "(no text)";
}

// The pending exception as "ValueError: text", or nothing; it is cleared.
inline std::string raised() {
  if (PyErr_Occurred() == nullptr) return {};
  PyObject* type = nullptr;
  PyObject* value = nullptr;
  PyObject* trace = nullptr;
  PyErr_Fetch(&type, &value, &trace);
  PyErr_NormalizeException(&type, &value, &trace);
  const Ref owned_type = Ref::take(type);
  const Ref exception = Ref::take(value);
  const Ref owned_trace = Ref::take(trace);
  return std::string{Py_TYPE(exception.get())->tp_name} + ": " + text(exception.get());
}

inline bool contains(const std::string& whole, const std::string& part) {
  return whole.find(part) != std::string::npos;
}

#define EXPECT_CONTAINS(whole, part) EXPECT_PRED2(nbdkit_python::test::contains, whole, part)
#define EXPECT_LACKS(whole, part) EXPECT_FALSE(nbdkit_python::test::contains(whole, part)) << whole

// How many threads the interpreter knows.
inline std::size_t thread_states() {
  std::size_t count = 0;
  for (PyThreadState* state = PyInterpreterState_ThreadHead(PyInterpreterState_Get()); state;
       state = PyThreadState_Next(state))
    ++count;
  return count;
}

// An attached thread, and a namespace of the test's own.
class PythonTest : public testing::Test {
 protected:
  PythonTest() : globals_{Ref::take(PyDict_New())} {
    PyDict_SetItemString(globals_.get(), "__builtins__", PyEval_GetBuiltins());
    fake().clear();
  }
  ~PythonTest() override { EXPECT_EQ(raised(), "") << "left behind by the test"; }

  PyObject* globals() const { return globals_.get(); }

  // Runs statements; an exception is a failure of the test.
  void run(const std::string& code) {
    if (!evaluated(code, Py_file_input)) ADD_FAILURE() << code << "\nraised " << raised();
  }
  // The value of an expression; None, and a failure of the test, if it raises.
  Ref value(const std::string& expression) {
    Ref result = evaluated(expression, Py_eval_input);
    if (result) return result;
    ADD_FAILURE() << expression << "\nraised " << raised();
    return Ref::borrow(Py_None);
  }
  std::string text_of(const std::string& expression) { return text(value(expression).get()); }
  bool holds(const std::string& expression) { return value(expression).get() == Py_True; }
  // What statements raise, as raised() has it.
  std::string raised_by(const std::string& code) {
    const Ref result = evaluated(code, Py_file_input);
    return raised();
  }
  // Runs statements that leave an exception pending.
  void raise(const std::string& code) {
    if (evaluated(code, Py_file_input)) ADD_FAILURE() << code << "\nraised nothing";
  }

 private:
  Ref evaluated(const std::string& code, int start) {
    return Ref::take(PyRun_String(code.c_str(), start, globals_.get(), globals_.get()));
  }

  Attach attach_;
  Ref globals_;
};

// Expects that an action leaves an object's reference count as it was. The first time may fill a cache.
template <typename Action>
void keeps_references(PyObject* object, const Action& action) {
  action();
  PyErr_Clear();
  const Py_ssize_t before = Py_REFCNT(object);
  for (int i = 0; i < 20; ++i) {
    action();
    PyErr_Clear();
  }
  EXPECT_EQ(Py_REFCNT(object), before) << "references to " << text(object);
}

}  // namespace nbdkit_python::test
