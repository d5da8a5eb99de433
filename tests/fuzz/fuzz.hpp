// SPDX-License-Identifier: BSD-3-Clause
// What the fuzzers share: the input's bytes, objects made from them, and the end of a run that finds a defect.
#pragma once

#include <algorithm>
#include <cstddef>
#include <string>

#include "nbdkit_python/ref.hpp"

namespace nbdkit_python::fuzz {

// A target's own: what it does with one input. The thread is detached from Python.
void try_input();

// The next bytes of the input, for C++ and Python alike; when it is used up, `byte` is 0 and `bytes` are fewer.
unsigned char byte() noexcept;
std::string bytes(std::size_t count);
bool used_up() noexcept;
// Some of the next bytes as a number, and as a C string: so many of them at most, and none from a NUL on.
template <typename Number>
Number number() {
  Number result{};
  const std::string bits = bytes(sizeof result);
  std::copy(bits.begin(), bits.end(), reinterpret_cast<char*>(&result));
  return result;
}
std::string text(std::size_t most);

// Ends the process with this text, for the fuzzer to keep the input.
[[noreturn]] void defect(const std::string& what);
inline void require(bool holds, const std::string& what) {
  if (!holds) defect(what);
}

// What a function of a Python file in this folder returns for these arguments (a tuple; null: none). It must not
// raise. Needs attachment.
Ref ask(const char* module, const char* function, PyObject* arguments = nullptr);
inline void tell(const char* module, const char* function, PyObject* arguments = nullptr) {
  static_cast<void>(ask(module, function, arguments));
}

}  // namespace nbdkit_python::fuzz
