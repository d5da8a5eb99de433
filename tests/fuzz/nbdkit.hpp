// SPDX-License-Identifier: BSD-3-Clause
// An nbdkit that is only its functions: it checks what the plugin gives it, and answers as the input says.
#pragma once

#define NBDKIT_API_VERSION 2
#include <nbdkit-plugin.h>

#include <cstddef>
#include <cstdint>
#include <set>
#include <string>

// What a block status request has collected.
struct nbdkit_extents {
  std::uint64_t start;  // of the request
  std::uint64_t next;   // where the last extent ended
  std::size_t count;
};

struct nbdkit_exports {
  std::size_t count;
};

namespace nbdkit_python::fuzz {

// The plugin that is linked into this process.
const nbdkit_plugin& plugin();

// What the plugin has told nbdkit during this input.
struct Record {
  int err = 0;          // the last that was set; 0: none since it was last looked at
  unsigned errors = 0;  // how many messages
  std::set<std::string> kept;
};
Record& record() noexcept;

}  // namespace nbdkit_python::fuzz
