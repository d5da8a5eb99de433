// SPDX-License-Identifier: BSD-3-Clause
// How a callback fails.
#include "nbdkit_python/call.hpp"

#include <cerrno>

#include "nbdkit_python/error.hpp"

namespace nbdkit_python {

namespace {

bool unsupported(int err) noexcept { return err == EOPNOTSUPP || err == ENOTSUP; }

}  // namespace

void Call::fail() noexcept { script_.server().set_error(script_.report(name(), set_error_)); }

bool Call::declined() const noexcept { return unsupported(set_error_); }

void Call::decline_or_fail() noexcept {
  int err = EOPNOTSUPP;
  if (PyErr_Occurred() != nullptr) {
    const Failure failure = take_failure(set_error_);
    err = failure.err;
    if (!unsupported(err)) script_.complain(name(), failure.message);
  }
  script_.server().set_error(err);
}

}  // namespace nbdkit_python
