// SPDX-License-Identifier: BSD-3-Clause
// The server's start and end, as far as both of nbdkit's doors do the same.
#include "steps.hpp"

#include <cstdlib>
#include <cstring>
#include <string>

#include "nbdkit_python/convert.hpp"
#include "nbdkit_python/interpreter.hpp"

#define NBDKIT_API_VERSION 2
#include <nbdkit-plugin.h>

namespace nbdkit_python {

void hold_interpreter(const Server& server, const char* door) noexcept {
  if (std::strcmp(interpreter::build(), NBDKIT_PYTHON_BUILD) != 0) {
    nbdkit_error("this %s and its libnbdkit-python.so are not of one build: install both again", door);
    std::exit(EXIT_FAILURE);
  }
  if (!interpreter::hold(server)) std::exit(EXIT_FAILURE);
}

int stop() noexcept {
  const Attach attach;
  interpreter::flush();
  return -1;
}

std::optional<int> wanted_thread_model(const Script& script, std::size_t callback) noexcept {
  Call call{script, callback};
  if (const Ref answer = call.invoke())
    if (const auto model =
            to_int(answer.get(), NBDKIT_THREAD_MODEL_SERIALIZE_CONNECTIONS, NBDKIT_THREAD_MODEL_PARALLEL))
      return static_cast<int>(*model);
  call.fail();
  return {};
}

void expect_fork() noexcept {
  {
    const Attach attach;
    interpreter::flush();
  }
  interpreter::expect_fork();
}

void last_call(const Script& script, std::size_t callback) noexcept {
  if (!script.has(callback)) return;
  const Turn turn;
  const Attach attach;
  run(script, callback);
  interpreter::ran(script.own(callback));
}

QuitSignals::QuitSignals() noexcept {
  for (std::size_t i = 0; i < std::size(signals); ++i) sigaction(signals[i].number, nullptr, &before_[i]);
}

void QuitSignals::keep(const Script& script) const noexcept {
  for (std::size_t i = 0; i < std::size(signals); ++i) {
    struct sigaction now = {};
    sigaction(signals[i].number, nullptr, &now);
    if (now.sa_handler == before_[i].sa_handler || now.sa_handler == SIG_DFL || now.sa_handler == SIG_IGN) continue;
    sigaction(signals[i].number, &before_[i], nullptr);
    nbdkit_error("warning: %s: its handler of %s would never run, and nbdkit's is kept: see cleanup",
                 script.name().c_str(), signals[i].name);
  }
}

}  // namespace nbdkit_python
