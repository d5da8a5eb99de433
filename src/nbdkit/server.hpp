// SPDX-License-Identifier: BSD-3-Clause
// nbdkit as the core's Server.
#pragma once

#include "nbdkit_python/server.hpp"

namespace nbdkit_python {

// The functions of the nbdkit that has loaded this door; what came after the version that we were built for is
// looked up in it, so that one build serves old and new servers.
const Server& nbdkit_server() noexcept;

}  // namespace nbdkit_python
