// SPDX-License-Identifier: BSD-3-Clause
// The least that a callback in Python can cost: what CPython itself takes for it, and nothing around it.
//
//     floor SCRIPT SECONDS CALLBACK[:SIZE] …
//
// For each of pread, pwrite, flush, trim, zero and cache of the script, with the arguments of API version 2, it tells
// the nanoseconds of one call: take the GIL, make the arguments, call, drop them, release the GIL. Then those of the
// parts: `vectorcall` (a function without arguments), `memoryview`, `int`, `gil`.
#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include <fstream>
#include <functional>
#include <map>
#include <sstream>
#include <thread>

#include "measure.hpp"

namespace {

using namespace benchmarks;

// Calls a function with these arguments, which are dropped.
template <typename... Arguments>
void call(PyObject* function, Arguments... arguments) {
  PyObject* stack[] = {nullptr, arguments...};
  PyObject* const answer =
      PyObject_Vectorcall(function, stack + 1, sizeof...(arguments) | PY_VECTORCALL_ARGUMENTS_OFFSET, nullptr);
  if (answer == nullptr) PyErr_Print();
  Py_XDECREF(answer);
  (Py_DECREF(arguments), ...);
}

double time(double seconds, const Subject& subject) {
  std::vector<char> memory(std::max(subject.size, 1U), 'x');
  char* const data = memory.data();
  const std::uint32_t count = subject.size;
  constexpr std::uint64_t offset = 4096;
  PyObject* const module = PyImport_AddModule("__main__");
  PyObject* const function = PyObject_GetAttrString(module, subject.callback.c_str());
  PyErr_Clear();
  PyObject* const nothing = PyObject_GetAttrString(module, "nothing");
  const auto handle = [] { return Py_NewRef(Py_None); };
  const auto view = [&](int mode) { return PyMemoryView_FromMemory(data, count, mode); };
  const auto number = [](std::uint64_t value) { return PyLong_FromUnsignedLongLong(value); };
  const auto inside = [&](const auto& body) { return time_of(seconds, body); };
  const auto request = [&](const auto& body) {
    if (function == nullptr) give_up("the script has no " + subject.callback);
    PyThreadState* const state = PyEval_SaveThread();
    const double result = time_of(seconds, [&] {
      PyEval_RestoreThread(state);
      body();
      PyEval_SaveThread();
    });
    PyEval_RestoreThread(state);
    return result;
  };
  const auto range = [&] { call(function, handle(), number(count), number(offset), number(0)); };
  const std::map<std::string, std::function<double()>> known = {
      {"pread",
       [&] { return request([&] { call(function, handle(), view(PyBUF_WRITE), number(offset), number(0)); }); }},
      {"pwrite",
       [&] { return request([&] { call(function, handle(), view(PyBUF_READ), number(offset), number(0)); }); }},
      {"flush", [&] { return request([&] { call(function, handle(), number(0)); }); }},
      {"trim", [&] { return request(range); }},
      {"zero", [&] { return request(range); }},
      {"cache", [&] { return request(range); }},
      {"vectorcall", [&] { return inside([&] { call(nothing); }); }},
      {"memoryview", [&] { return inside([&] { Py_DECREF(view(PyBUF_WRITE)); }); }},
      {"int", [&] { return inside([&] { Py_DECREF(number(offset)); }); }},
      {"gil", [&] { return inside([&] { PyEval_RestoreThread(PyEval_SaveThread()); }); }},
  };
  const auto found = known.find(subject.callback);
  if (found == known.end()) give_up("expected a request's callback or a part of one, got " + subject.callback);
  const double result = found->second();
  Py_XDECREF(function);
  Py_XDECREF(nothing);
  return result;
}

}  // namespace

int main(int argc, char** argv) {
  const Arguments given = arguments(argc, argv, "usage: floor SCRIPT SECONDS CALLBACK[:SIZE] …");
  std::stringstream script;
  script << std::ifstream{given.settings[0]}.rdbuf() << "\ndef nothing(): pass\n";
  Py_InitializeEx(0);
  if (PyRun_SimpleString(script.str().c_str()) != 0) return EXIT_FAILURE;
  PyInterpreterState* const interpreter = PyInterpreterState_Get();
  PyThreadState* const main_state = PyEval_SaveThread();
  // As nbdkit's: not the thread that has started Python.
  std::thread{[&] {
    PyThreadState* const state = PyThreadState_New(interpreter);
    PyEval_RestoreThread(state);
    for (const Subject& subject : given.subjects) tell(subject, time(given.seconds, subject));
    PyThreadState_Clear(state);
    PyThreadState_DeleteCurrent();
  }}.join();
  PyEval_RestoreThread(main_state);
  Py_FinalizeEx();
}
