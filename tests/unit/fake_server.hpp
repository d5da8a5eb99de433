// SPDX-License-Identifier: BSD-3-Clause
// A storage server that is only this file: it records what it is told, and answers as the test has set it.
#pragma once

#include <sys/socket.h>

#include <cerrno>
#include <cstdint>
#include <cstring>
#include <limits>
#include <mutex>
#include <string>
#include <vector>

#include "nbdkit_python/server.hpp"

namespace nbdkit_python::test {

struct Fake {
  std::vector<std::string> errors;
  std::vector<std::string> debugs;
  std::vector<int> errnos;         // given to set_error
  std::vector<std::string> calls;  // of the other functions, with their arguments

  bool refuses = false;  // whether each function that can fail does
  std::string peer;      // the bytes of the client's address

  // Some functions are called by threads that have let go of Python.
  std::mutex mutex;

  void clear() {
    const std::lock_guard lock{mutex};
    errors.clear();
    debugs.clear();
    errnos.clear();
    calls.clear();
    refuses = false;
    peer.clear();
  }
};

// Never destroyed: a process that leaves by exit() may still have threads that log.
inline Fake& fake() {
  static auto* const instance = new Fake;
  return *instance;
}

inline void record(std::vector<std::string> Fake::*list, std::string line) {
  Fake& f = fake();
  const std::lock_guard lock{f.mutex};
  (f.*list).push_back(std::move(line));
}

inline void called(std::string line) { record(&Fake::calls, std::move(line)); }

// A string that the caller is to free; null where the server refuses.
inline char* answer(const char* text, int err = ENOENT) {
  if (!fake().refuses) return strdup(text);
  errno = err;
  return nullptr;
}

inline std::string shown(const void* bytes, std::size_t size, const char* prefix, std::uint64_t start) {
  return std::string{static_cast<const char*>(bytes), size} + " " + (prefix ? prefix : "(none)") + " " +
         std::to_string(start);
}

// Answers every parser that takes a parameter's name with the largest number.
template <typename Number>
int parse_number(const char* what, const char* text, Number* result) {
  called(std::string{what} + "=" + text);
  if (fake().refuses) return -1;
  *result = std::numeric_limits<Number>::max();
  return 0;
}

inline int copy_peer(sockaddr* address, socklen_t* size) {
  if (fake().refuses) return -1;
  std::memcpy(address, fake().peer.data(), fake().peer.size());
  *size = static_cast<socklen_t>(fake().peer.size());
  return 0;
}

// What the core itself cannot do without.
inline Server needed() {
  return {
      .error = [](const char* message) { record(&Fake::errors, message); },
      .debug = [](const char* message) { record(&Fake::debugs, message); },
      .set_error =
          [](int err) {
            const std::lock_guard lock{fake().mutex};
            fake().errnos.push_back(err);
          },
  };
}

// A server that lacks whatever a server may lack.
inline const Server& bare_server() {
  static const Server server = needed();
  return server;
}

// A server that has all there is.
inline const Server& fake_server() {
  static const Server server = [] {
    Server s = needed();
    s.export_name = [] { return fake().refuses ? nullptr : "disk \xC3\xA9\xFF"; };
    s.is_tls = [] { return fake().refuses ? -1 : 1; };
    s.stdio_safe = [] { return fake().refuses ? 0 : 1; };
    s.shutdown = [] { called("shutdown"); };
    s.disconnect = [](int force) { called("disconnect " + std::to_string(force)); };
    s.nanosleep = [](unsigned sec, unsigned nsec) {
      called("nanosleep " + std::to_string(sec) + " " + std::to_string(nsec));
      return fake().refuses ? -1 : 0;
    };
    s.read_password = [](const char* value, char** password) {
      called(std::string{"read_password "} + value);
      *password = answer("secret\xFF", EBADF);
      return *password ? 0 : -1;
    };
    s.realpath = [](const char* path) { return answer((std::string{"/real/"} + path).c_str()); };
    s.absolute_path = [](const char* path) { return answer((std::string{"/absolute/"} + path).c_str()); };
    s.name = [] { return fake().refuses ? nullptr : "server"; };
    s.timestamp = [] { return "noon"; };
    s.debug_hexdump = [](const void* buf, std::size_t size, const char* prefix, std::uint64_t start) {
      called("hexdump " + shown(buf, size, prefix, start));
    };
    s.debug_hexdiff = [](const void* one, const void* two, std::size_t size, const char* prefix, std::uint64_t start) {
      called("hexdiff " + std::string{static_cast<const char*>(one), size} + " " + shown(two, size, prefix, start));
    };
    s.parse_size = [](const char* text) {
      called(text);
      return fake().refuses ? std::int64_t{-1} : std::numeric_limits<std::int64_t>::max();
    };
    s.parse_bool = [](const char* text) {
      called(text);
      return fake().refuses ? -1 : 1;
    };
    s.parse_probability = [](const char* what, const char* text, double* result) {
      called(std::string{what} + "=" + text);
      *result = 0.25;
      return fake().refuses ? -1 : 0;
    };
    s.parse_delay = [](const char* what, const char* text, unsigned* sec, unsigned* nsec) {
      called(std::string{what} + "=" + text);
      *sec = 4294967295;
      *nsec = 5;
      return fake().refuses ? -1 : 0;
    };
    s.parse_int = parse_number;
    s.parse_unsigned = parse_number;
    s.parse_int8_t = parse_number;
    s.parse_uint8_t = parse_number;
    s.parse_int16_t = parse_number;
    s.parse_uint16_t = parse_number;
    s.parse_int32_t = parse_number;
    s.parse_uint32_t = parse_number;
    s.parse_int64_t = parse_number;
    s.parse_uint64_t = parse_number;
    s.peer_name = copy_peer;
    s.peer_pid = [] { return std::int64_t{fake().refuses ? -1 : 101}; };
    s.peer_uid = [] { return std::int64_t{fake().refuses ? -1 : 102}; };
    s.peer_gid = [] { return std::int64_t{fake().refuses ? -1 : 103}; };
    s.peer_security_context = [] { return answer("context"); };
    s.peer_tls_dn = [] { return answer("CN=client"); };
    s.peer_tls_issuer_dn = [] { return answer("CN=issuer"); };
    return s;
  }();
  return server;
}

}  // namespace nbdkit_python::test
