// SPDX-License-Identifier: BSD-3-Clause
// nbdkit's functions, linked where every supported server has them, else looked up.
#include "server.hpp"

#include <dlfcn.h>

#define NBDKIT_API_VERSION 2
#include <nbdkit-plugin.h>

namespace nbdkit_python {
namespace {

template <typename Function>
Function* lookup(Function*, const char* name) noexcept {
  return reinterpret_cast<Function*>(dlsym(RTLD_DEFAULT, name));
}

// Fills in a function that only newer servers have.
#define NEWER(function) .function = lookup(decltype(Server::function){}, "nbdkit_" #function)
#define LINKED(function) .function = nbdkit_##function

}  // namespace

const Server& nbdkit_server() noexcept {
  static const Server server = {
      .error = [](const char* message) { nbdkit_error("%s", message); },
      .debug = [](const char* message) { nbdkit_debug("%s", message); },
      LINKED(set_error),
      LINKED(export_name),
      LINKED(is_tls),
      LINKED(stdio_safe),
      LINKED(shutdown),
      NEWER(disconnect),
      LINKED(nanosleep),
      LINKED(read_password),
      LINKED(realpath),
      LINKED(absolute_path),
      NEWER(name),
      NEWER(timestamp),
      NEWER(debug_hexdump),
      NEWER(debug_hexdiff),
      LINKED(parse_size),
      LINKED(parse_bool),
      NEWER(parse_probability),
      NEWER(parse_delay),
      LINKED(parse_int),
      LINKED(parse_unsigned),
      LINKED(parse_int8_t),
      LINKED(parse_uint8_t),
      LINKED(parse_int16_t),
      LINKED(parse_uint16_t),
      LINKED(parse_int32_t),
      LINKED(parse_uint32_t),
      LINKED(parse_int64_t),
      LINKED(parse_uint64_t),
      LINKED(peer_name),
      LINKED(peer_pid),
      LINKED(peer_uid),
      LINKED(peer_gid),
      NEWER(peer_security_context),
      NEWER(peer_tls_dn),
      NEWER(peer_tls_issuer_dn),
  };
  return server;
}

}  // namespace nbdkit_python
