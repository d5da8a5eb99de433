// SPDX-License-Identifier: BSD-3-Clause
// The callbacks of a server's life that are the same behind both of nbdkit's doors: its start, and its end.
#pragma once

#include <csignal>
#include <cstddef>
#include <iterator>
#include <optional>

#include "nbdkit_python/call.hpp"
#include "turn.hpp"

namespace nbdkit_python {

// nbdkit's load, for a door that is called `door` in messages: takes hold of the interpreter, or ends the process.
void hold_interpreter(const Server& server, const char* door) noexcept;

// A callback that answers nothing, with these arguments: 0 or -1, as nbdkit wants it.
template <typename... Arguments>
int run(const Script& script, std::size_t callback, const Arguments&... arguments) noexcept {
  const Turn turn;
  Call call{script, callback};
  const Ref answer = call.invoke(arguments...);
  if (answer && to_nothing(answer.get())) return 0;
  call.fail();
  return -1;
}

// -1 for nbdkit, which exits at once if a step of its start fails, so that what was printed is written out first.
int stop() noexcept;

// A step of the server's start that the script need not have.
template <typename... Arguments>
int start_step(const Script& script, std::size_t callback, const Arguments&... arguments) noexcept {
  return !script.has(callback) || run(script, callback, arguments...) == 0 ? 0 : stop();
}

// The thread model that a script wants; empty after an error.
std::optional<int> wanted_thread_model(const Script& script, std::size_t callback) noexcept;

// The end of get_ready: nbdkit redirects standard output next, and goes into the background.
void expect_fork() noexcept;

// A callback of the server's end that the script need not have.
void last_call(const Script& script, std::size_t callback) noexcept;

// The signals that tell nbdkit to end. A handler in Python would take their place and never run: that is the main
// thread's to do, which waits for clients and goes back to that after a signal.
class QuitSignals {
 public:
  QuitSignals() noexcept;
  // Puts back what this script has replaced by a function since, with a warning.
  void keep(const Script& script) const noexcept;

 private:
  struct Signal {
    int number;
    const char* name;
  };
  static constexpr Signal signals[] = {
      {SIGHUP, "SIGHUP"}, {SIGINT, "SIGINT"}, {SIGQUIT, "SIGQUIT"}, {SIGTERM, "SIGTERM"}};
  struct sigaction before_[std::size(signals)];
};

}  // namespace nbdkit_python
