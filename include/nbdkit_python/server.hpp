// SPDX-License-Identifier: BSD-3-Clause
// Server: the functions of the storage server that the core and the scripts use, given by the door that it loaded.
//
// The core has no symbol of the server's in it, so that it loads under any server, and in a test without one. A null
// function is one that the running server lacks; those that the core itself calls (the first three) are never null.
#pragma once

#include <sys/socket.h>

#include <cstddef>
#include <cstdint>

namespace nbdkit_python {

struct Server {
  void (*error)(const char* message);  // logs, at any level of verbosity
  void (*debug)(const char* message);  // logs if the server is verbose
  void (*set_error)(int err);          // the errno of the request that is about to fail

  const char* (*export_name)();  // null: no connection
  int (*is_tls)();               // 1, 0, or -1: no connection
  int (*stdio_safe)();           // 1 while standard input and output are free to use
  void (*shutdown)();
  void (*disconnect)(int force);
  int (*nanosleep)(unsigned sec, unsigned nsec);  // -1: the server or the connection is going away
  int (*read_password)(const char* value, char** password);
  char* (*realpath)(const char* path);  // null: errno is set; else to be freed, as absolute_path's
  char* (*absolute_path)(const char* path);
  const char* (*name)();
  const char* (*timestamp)();
  void (*debug_hexdump)(const void* buf, std::size_t len, const char* prefix, std::uint64_t start);
  void (*debug_hexdiff)(const void* buf1, const void* buf2, std::size_t len, const char* prefix, std::uint64_t start);

  std::int64_t (*parse_size)(const char* str);  // -1: not a size
  int (*parse_bool)(const char* str);           // 1, 0, or -1: not a bool
  // The others: -1 and what is wrong in the log, or 0 and the result.
  int (*parse_probability)(const char* what, const char* str, double* result);
  int (*parse_delay)(const char* what, const char* str, unsigned* sec, unsigned* nsec);
  int (*parse_int)(const char* what, const char* str, int* result);
  int (*parse_unsigned)(const char* what, const char* str, unsigned* result);
  int (*parse_int8_t)(const char* what, const char* str, std::int8_t* result);
  int (*parse_uint8_t)(const char* what, const char* str, std::uint8_t* result);
  int (*parse_int16_t)(const char* what, const char* str, std::int16_t* result);
  int (*parse_uint16_t)(const char* what, const char* str, std::uint16_t* result);
  int (*parse_int32_t)(const char* what, const char* str, std::int32_t* result);
  int (*parse_uint32_t)(const char* what, const char* str, std::uint32_t* result);
  int (*parse_int64_t)(const char* what, const char* str, std::int64_t* result);
  int (*parse_uint64_t)(const char* what, const char* str, std::uint64_t* result);

  // Of the connection's other end; -1 or null: unknown, with the reason in the log.
  int (*peer_name)(struct sockaddr* addr, socklen_t* addrlen);
  std::int64_t (*peer_pid)();
  std::int64_t (*peer_uid)();
  std::int64_t (*peer_gid)();
  char* (*peer_security_context)();  // to be freed, as the next two
  char* (*peer_tls_dn)();
  char* (*peer_tls_issuer_dn)();
};

}  // namespace nbdkit_python
