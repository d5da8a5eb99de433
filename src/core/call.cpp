// SPDX-License-Identifier: BSD-3-Clause
// How a callback fails.
#include "nbdkit_python/call.hpp"

#include <unistd.h>

#include <cerrno>
#include <cstdlib>

#include "nbdkit_python/error.hpp"
#include "nbdkit_python/interpreter.hpp"

namespace nbdkit_python {

namespace {

bool unsupported(int err) noexcept { return err == EOPNOTSUPP || err == ENOTSUP; }

}  // namespace

int Call::fail() noexcept {
  const int reported = script_.report(name(), set_error_);
  // It means the same to the client, and from a pwrite or flush that nbdkit calls for a zero, "not supported" would
  // make it abort.
  const int err = unsupported(reported) ? EINVAL : reported;
  script_.server().set_error(err);
  return err;
}

void Call::leave() const noexcept {
  script_.complain(name(),
                   "a process that was forked in this callback has come back from it: it must end with os._exit()");
  interpreter::flush();
  _exit(EXIT_FAILURE);
}

bool Call::declined() const noexcept { return unsupported(set_error_); }

int Call::fail_or_decline() noexcept {
  if (PyErr_Occurred() == nullptr) return EOPNOTSUPP;
  const Failure failure = take_failure(set_error_);
  if (unsupported(failure.err)) return EOPNOTSUPP;
  script_.complain(name(), failure.message);
  script_.server().set_error(failure.err);
  return failure.err;
}

}  // namespace nbdkit_python
