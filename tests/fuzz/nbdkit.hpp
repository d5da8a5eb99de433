// SPDX-License-Identifier: BSD-3-Clause
// An nbdkit that is only its functions: it checks what the plugin gives it, and answers as the input says.
#pragma once

#define NBDKIT_API_VERSION 2
#include <nbdkit-plugin.h>

#include <cstddef>
#include <cstdint>
#include <optional>
#include <set>
#include <string>
#include <vector>

// What a block status request has collected.
struct nbdkit_extents {
  struct Extent {
    std::uint64_t offset;
    std::uint64_t length;
    std::uint32_t type;
  };
  std::uint64_t start;     // of the request
  std::uint64_t next = 0;  // where the last extent ended
  std::vector<Extent> all = {};
};

struct nbdkit_exports {
  struct Export {
    std::string name;
    std::optional<std::string> description;
  };
  std::vector<Export> all = {};
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
