// SPDX-License-Identifier: BSD-3-Clause
// Next: what is below, as a translator's callback gets it. Needs attachment.
#pragma once

#include "arguments.hpp"
#include "level.hpp"
#include "nbdkit_python/call.hpp"

namespace nbdkit_python::filter {

// What a callback before the connection's requests can pass on: its own operation, under its own name.
class Passing {
 public:
  explicit Passing(const char* name) noexcept : name_{name} {}
  virtual ~Passing() = default;
  Passing(const Passing&) = delete;
  Passing& operator=(const Passing&) = delete;

  const char* name() const noexcept { return name_; }
  // Empty: Python's error indicator is set.
  virtual Ref pass(Arguments& arguments) noexcept = 0;

 private:
  const char* const name_;
};

template <typename Function>
class PassingBy final : public Passing {
 public:
  PassingBy(const char* name, const Function& function) noexcept : Passing{name}, function_{function} {}
  Ref pass(Arguments& arguments) noexcept override { return function_(arguments); }

 private:
  const Function function_;
};

// Good for the one call that it is made for, in that call's thread: what the script keeps of it raises from then on.
class [[nodiscard]] Next {
 public:
  Next(const Call& call, Level& below) noexcept;
  Next(const Call& call, Passing& passing) noexcept;
  ~Next();
  Next(const Next&) = delete;
  Next& operator=(const Next&) = delete;

  // Makes the Python type, before there are threads. False: Python's error indicator is set.
  static bool prepare() noexcept;

  // Borrowed; null: Python's error indicator is set.
  PyObject* get() const noexcept { return object_.get(); }

 private:
  Ref object_;
};

// What next.background(readonly, export_name) of this translator's after_fork answers.
Ref open_background(std::size_t translator, nbdkit_backend* backend, Arguments& arguments) noexcept;
// Those that the script has not closed.
void close_backgrounds() noexcept;

// (name, description) pairs and (offset, length, type) triples. Empty: Python's error indicator is set.
Ref to_list(const nbdkit_exports* exports) noexcept;
Ref to_list(const nbdkit_extents* extents) noexcept;

}  // namespace nbdkit_python::filter
