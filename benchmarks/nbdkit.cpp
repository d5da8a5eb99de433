// SPDX-License-Identifier: BSD-3-Clause
// nbdkit's functions, as far as plugins need them to be loaded and to serve: errors end the measurement.
#define NBDKIT_API_VERSION 2
#include <nbdkit-plugin.h>

#include <cstdarg>
#include <cstdio>
#include <cstdlib>
#include <cstring>

namespace {

[[noreturn]] void not_here(const char* name) {
  std::fprintf(stderr, "in_process has no %s\n", name);
  std::abort();
}

}  // namespace

extern "C" {

NBDKIT_DLL_PUBLIC void nbdkit_error(const char* format, ...) {
  va_list arguments;
  va_start(arguments, format);
  std::vfprintf(stderr, format, arguments);
  va_end(arguments);
  std::fputc('\n', stderr);
}

NBDKIT_DLL_PUBLIC void nbdkit_debug(const char*, ...) {}
NBDKIT_DLL_PUBLIC void nbdkit_set_error(int) {}
NBDKIT_DLL_PUBLIC const char* nbdkit_export_name() { return ""; }
NBDKIT_DLL_PUBLIC const char* nbdkit_strdup_intern(const char* text) { return strdup(text); }
NBDKIT_DLL_PUBLIC int nbdkit_is_tls() { return 0; }
NBDKIT_DLL_PUBLIC int nbdkit_stdio_safe() { return 1; }
NBDKIT_DLL_PUBLIC char* nbdkit_realpath(const char* path) { return realpath(path, nullptr); }
NBDKIT_DLL_PUBLIC int nbdkit_add_extent(nbdkit_extents*, uint64_t, uint64_t, uint32_t) { return 0; }

NBDKIT_DLL_PUBLIC int64_t nbdkit_parse_size(const char* text) {
  char* rest = nullptr;
  const int64_t number = std::strtoll(text, &rest, 10);
  return *rest == 'M' ? number << 20 : *rest == 'K' ? number << 10 : number;
}

// The plugin has their addresses, and no disk here calls them.
#define NOT_HERE(result, name, ...) \
  NBDKIT_DLL_PUBLIC result name(__VA_ARGS__) { not_here(#name); }
NOT_HERE(void, nbdkit_shutdown)
NOT_HERE(int, nbdkit_nanosleep, unsigned, unsigned)
NOT_HERE(int, nbdkit_read_password, const char*, char**)
NOT_HERE(char*, nbdkit_absolute_path, const char*)
NOT_HERE(int, nbdkit_parse_bool, const char*)
NOT_HERE(int, nbdkit_parse_int, const char*, const char*, int*)
NOT_HERE(int, nbdkit_parse_unsigned, const char*, const char*, unsigned*)
NOT_HERE(int, nbdkit_parse_int8_t, const char*, const char*, int8_t*)
NOT_HERE(int, nbdkit_parse_uint8_t, const char*, const char*, uint8_t*)
NOT_HERE(int, nbdkit_parse_int16_t, const char*, const char*, int16_t*)
NOT_HERE(int, nbdkit_parse_uint16_t, const char*, const char*, uint16_t*)
NOT_HERE(int, nbdkit_parse_int32_t, const char*, const char*, int32_t*)
NOT_HERE(int, nbdkit_parse_uint32_t, const char*, const char*, uint32_t*)
NOT_HERE(int, nbdkit_parse_int64_t, const char*, const char*, int64_t*)
NOT_HERE(int, nbdkit_parse_uint64_t, const char*, const char*, uint64_t*)
NOT_HERE(int, nbdkit_peer_name, sockaddr*, socklen_t*)
NOT_HERE(int64_t, nbdkit_peer_pid)
NOT_HERE(int64_t, nbdkit_peer_uid)
NOT_HERE(int64_t, nbdkit_peer_gid)
NOT_HERE(int, nbdkit_add_export, nbdkit_exports*, const char*, const char*)
NOT_HERE(int, nbdkit_use_default_export, nbdkit_exports*)

}  // extern "C"
