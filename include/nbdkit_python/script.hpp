// SPDX-License-Identifier: BSD-3-Clause
// Script: a loaded script, its API version, and its callbacks, resolved once into a table. Needs attachment.
#pragma once

#include <cstddef>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "ref.hpp"
#include "server.hpp"

namespace nbdkit_python {

constexpr int max_api_version = 2;

// One line of a door's table of callbacks.
struct Callback {
  // How much a script must have it. Shared: a name that scripts also give to data or imports of their own, added: one
  // that is new with this project; in both, what cannot be the callback is left alone. The values are those of
  // python/nbdkit/_script.py, which has the rules.
  enum class Need { required, optional, shared, added };

  const char* name;
  Need need;
  bool may_yield;  // the answer is iterated over, so that a generator function will do
  const char* v1;  // the parameters in API version 1, as the script would write them
  const char* v2;
};

class Script {
 public:
  // Runs the script. Null: it cannot be served, and the log says why. The first one of the interpreter's first
  // holder is `__main__`, as under `python script.py`; any other is a module of its own.
  //   name: its path as the user gave it, `-` for standard input; it begins every message about the script
  //   callbacks: the door's table; an index into it is a callback's id
  //   kind: the decorator of a class that has them, @nbdkit.KIND
  static std::unique_ptr<Script> load(const Server& server, const char* name, std::span<const Callback> callbacks,
                                      const char* kind = "disk") noexcept;
  ~Script();
  Script(const Script&) = delete;
  Script& operator=(const Script&) = delete;

  // Looks the callbacks up: when the script has been loaded and again when it has seen its parameters; from then on
  // they are frozen. False: one is not right, and the log says why.
  bool resolve() noexcept;

  const Server& server() const noexcept { return server_; }
  const std::string& name() const noexcept { return name_; }
  std::span<const Callback> callbacks() const noexcept { return callbacks_; }
  int api_version() const noexcept { return api_version_; }
  // Whether a callback's parameter in the place of `buf` is called `count`: what tells the two reads of version 2
  // apart. Empty: Python's error indicator is set.
  std::optional<bool> takes_count(std::size_t id) const noexcept;
  // Whether a callback that fills `buf` is sure to fill all of it. Empty: as above.
  std::optional<bool> fills_buffer(std::size_t id) const noexcept;
  // The key for parameters that come without one.
  const std::optional<std::string>& magic_config_key() const noexcept { return magic_config_key_; }
  // The first line of the script's docstring.
  std::optional<std::string> summary() const noexcept;
  // The lines of --dump-plugin about the parameters that the script has declared. Empty: as above.
  std::optional<std::string> dump() const noexcept;

  bool has(std::size_t id) const noexcept { return static_cast<bool>(table_[id]); }
  // What is called. Borrowed; null: the script does not have it.
  PyObject* callback(std::size_t id) const noexcept { return table_[id].get(); }
  // The same as the script has it: another one if it is traced.
  PyObject* own(std::size_t id) const noexcept { return own_[id].get(); }

  // Reports the pending exception under `where` (a callback's name, or empty). The result is the errno.
  int report(const char* where, int set_error = 0) const noexcept;
  // Logs "SCRIPT: [where: ]message".
  void complain(const char* where, const std::string& message) const noexcept;

 private:
  Script(const Server& server, const char* name, std::span<const Callback> callbacks, const char* kind);
  bool run() noexcept;
  // A callback with what nbdkit's debug flags ask for around it. Empty: Python's error indicator is set.
  Ref traced(const Callback& callback, PyObject* own) const noexcept;
  // A yes or no of the package's on a callback.
  std::optional<bool> ask(const char* question, std::size_t id) const noexcept;

  const Server& server_;
  const std::string name_;
  const std::span<const Callback> callbacks_;
  const char* const kind_;
  Ref module_;
  std::vector<Ref> own_;
  std::vector<Ref> table_;
  std::vector<std::string> warnings_;  // that the log has had
  int api_version_ = 1;
  std::optional<std::string> magic_config_key_;
};

}  // namespace nbdkit_python
