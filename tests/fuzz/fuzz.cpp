// SPDX-License-Identifier: BSD-3-Clause
// libFuzzer's entry points: an interpreter with the plugin in it, one input after the other, and a look for leaks.
#include "fuzz.hpp"

#include <sanitizer/allocator_interface.h>

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <string_view>

#include "nbdkit.hpp"
#include "nbdkit_python/attach.hpp"

namespace nbdkit_python::fuzz {
namespace {

std::string_view input;
std::size_t position = 0;

// `_fuzz`: the input for what is written in Python.

PyObject* py_byte(PyObject*, PyObject*) { return PyLong_FromLong(byte()); }

PyObject* py_bytes(PyObject*, PyObject* count) {
  const std::string taken = bytes(PyLong_AsSize_t(count));
  return PyBytes_FromStringAndSize(taken.data(), static_cast<Py_ssize_t>(taken.size()));
}

PyObject* py_used_up(PyObject*, PyObject*) { return Ref::borrow(used_up() ? Py_True : Py_False).release(); }

PyObject* py_defect(PyObject*, PyObject* what) { defect(PyUnicode_AsUTF8(what)); }

PyObject* module_init() {
  static PyMethodDef functions[] = {
      {"byte", py_byte, METH_NOARGS, "The next byte of the input, or 0."},
      {"bytes_", py_bytes, METH_O, "The next so many bytes of the input; fewer at its end."},
      {"used_up", py_used_up, METH_NOARGS, "Whether the input is at its end."},
      {"defect", py_defect, METH_O, "Ends the process with this text."},
      {},
  };
  static PyModuleDef definition = {.m_base = PyModuleDef_HEAD_INIT, .m_name = "_fuzz", .m_methods = functions};
  return PyModule_Create(&definition);
}

void try_once(std::string_view data) {
  input = data;
  position = 0;
  record() = {};
  try_input();
  const Attach attach;
  require(PyErr_Occurred() == nullptr, "Python's error indicator is left behind");
  tell("objects", "forget");
}

// What one input may keep, it keeps once, such as a cache's entry: memory that grows with each repetition is lost.
void look_for_leaks(std::string_view data) {
  const auto allocated = [] {
    const Attach attach;
    // It refers to the names that were last looked up.
    PyType_ClearCache();
    return __sanitizer_get_current_allocated_bytes();
  };
  constexpr int repetitions = 12;
  for (int i = 0; i < repetitions; ++i) {
    const std::size_t before = allocated();
    try_once(data);
    if (allocated() <= before) return;
  }
  defect("memory grows each time that this input is repeated");
}

// Whether to take the time for it: one in 32 inputs, told by what is in them, so that a kept input does it again.
bool is_sample(std::string_view data) noexcept { return std::hash<std::string_view>{}(data) % 32 == 0; }

}  // namespace

unsigned char byte() noexcept { return used_up() ? 0 : static_cast<unsigned char>(input[position++]); }

std::string bytes(std::size_t count) {
  std::string taken{input.substr(position, count)};
  position += taken.size();
  return taken;
}

std::string text(std::size_t most) {
  const std::string taken = bytes(byte() % (most + 1));
  return taken.substr(0, taken.find('\0'));
}

bool used_up() noexcept { return position == input.size(); }

void defect(const std::string& what) {
  std::fprintf(stderr, "DEFECT: %s\n", what.c_str());
  std::abort();
}

Ref ask(const char* module, const char* function, PyObject* arguments) {
  const Ref code = Ref::take(PyImport_ImportModule(module));
  const Ref callable = code ? Ref::take(PyObject_GetAttrString(code.get(), function)) : Ref{};
  Ref result = callable ? Ref::take(PyObject_CallObject(callable.get(), arguments)) : Ref{};
  if (result) return result;
  PyErr_Print();
  defect(std::string{module} + "." + function + " raised");
}

}  // namespace nbdkit_python::fuzz

namespace fuzz = nbdkit_python::fuzz;

// CPython itself keeps much until the process ends: leaks are looked for by repetition instead.
// NOLINTNEXTLINE(bugprone-reserved-identifier): the name is AddressSanitizer's
extern "C" const char* __asan_default_options() { return "detect_leaks=0:quarantine_size_mb=32"; }

extern "C" int LLVMFuzzerInitialize(int*, char***) {
  // malloc, so that AddressSanitizer sees every object; one order of sets and dicts, so that an input can be repeated.
  setenv("PYTHONMALLOC", "malloc", 1);
  setenv("PYTHONHASHSEED", "0", 1);
  setenv("PYTHONDONTWRITEBYTECODE", "1", 1);
  unsetenv("VIRTUAL_ENV");
  // A script may be `-`, and print.
  if (!std::freopen("/dev/null", "r", stdin) || !std::freopen("/dev/null", "w", stdout)) fuzz::defect("no /dev/null");
  PyImport_AppendInittab("_fuzz", fuzz::module_init);
  // Held once more than a target's inputs do, so that none of them ends the interpreter.
  fuzz::plugin().load();
  // From here on the server serves, so that nbdkit's own sleep is used, which does not sleep.
  fuzz::plugin().after_fork();
  const nbdkit_python::Attach attach;
  PyObject* const path = PySys_GetObject("path");
  const auto folder = nbdkit_python::Ref::take(PyUnicode_FromString(FUZZ_FOLDER));
  PyList_Append(path, folder.get());
  fuzz::tell("objects", "prepare");
  return 0;
}

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view bytes{reinterpret_cast<const char*>(data), size};
  fuzz::try_once(bytes);
  if (fuzz::is_sample(bytes)) fuzz::look_for_leaks(bytes);
  return 0;
}
