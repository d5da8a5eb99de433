// SPDX-License-Identifier: BSD-3-Clause
// Next: what is below, as a translator's callback gets it. Needs attachment.
#pragma once

#include <string>

#include "level.hpp"
#include "nbdkit_python/call.hpp"

namespace nbdkit_python::filter {

// The arguments of a method of next's, by position or by name, checked one after the other.
class Arguments {
 public:
  Arguments(const char* method, PyObject* const* values, Py_ssize_t given, PyObject* names) noexcept
      : method_{method}, values_{values}, given_{given}, names_{names} {}

  // The next one, called `name`; null: it is not there.
  PyObject* take(const char* name) noexcept;
  // The same, as what it should be. False: Python's error indicator is set; an argument that is not there leaves the
  // result as it is.
  bool take(const char* name, std::string& text) noexcept;
  bool take(const char* name, bool& truth) noexcept;
  bool take(const char* name, std::uint32_t& number) noexcept;
  bool take(const char* name, std::uint64_t& number) noexcept;
  // Whether there is nothing else. False: as above.
  bool done() const noexcept;
  // Raises a TypeError: the argument `name` is missing.
  void missing(const char* name) const noexcept;

 private:
  const char* const method_;
  PyObject* const* const values_;
  const Py_ssize_t given_;
  PyObject* const names_;
  Py_ssize_t position_ = 0;
  Py_ssize_t named_ = 0;
};

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

// Raises nbdkit.Error with this errno, "next.NAME has failed"; the log has what has failed.
void raise_failed(const char* name, int err) noexcept;
// Raises a RuntimeError "next.NAME: TEXT".
void raise_misuse(const char* name, const char* text) noexcept;

// (name, description) pairs and (offset, length, type) triples. Empty: Python's error indicator is set.
Ref to_list(const nbdkit_exports* exports) noexcept;
Ref to_list(const nbdkit_extents* extents) noexcept;

}  // namespace nbdkit_python::filter
