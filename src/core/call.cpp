// SPDX-License-Identifier: BSD-3-Clause
// How a callback fails.
#include "nbdkit_python/call.hpp"

#include <cerrno>

#include "nbdkit_python/error.hpp"

namespace nbdkit_python {

void Call::fail() noexcept { script_.server().set_error(script_.report(name(), set_error_)); }

bool Call::declined() const noexcept { return set_error_ == EOPNOTSUPP || set_error_ == ENOTSUP; }

void Call::decline_or_fail() noexcept {
  int err = EOPNOTSUPP;
  if (PyErr_Occurred() != nullptr) {
    const Failure failure = take_failure(set_error_);
    err = failure.err;
    if (err != EOPNOTSUPP && err != ENOTSUP) script_.complain(name(), failure.message);
  }
  script_.server().set_error(err);
}

}  // namespace nbdkit_python
